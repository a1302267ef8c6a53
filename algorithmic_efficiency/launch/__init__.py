"""This room runs plans: many trials over the devices of a machine, or over a cluster.

A plan (`plan.py`) is workloads x frameworks x submissions x studies x trials; each trial is a job,
one `submission_runner` command (`command.py`). An engine runs jobs: `on_processes.py` and
`on_docker.py` on this machine, where `dispatch.py` gives them devices (`slots.py`) and takes up
again what was killed; `on_slurm.py`, `on_ray.py` and `on_kubernetes.py` on clusters, where
`task.py` runs a job wherever it lands. What became of a job is read from its run folder and from
the launcher's own few files (`plan_folder.py`), never from an engine's memory.
"""
