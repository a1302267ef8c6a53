"""This file turns a job into its command: the flags of submission_runner, which stay as they are.

Paths within the project's own tree are given relative to it, and the command runs there: a
container then uses the baselines that are in its image. All other paths are absolute, and the same
inside a container and outside.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import algorithmic_efficiency
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

ROOT = Path(algorithmic_efficiency.__file__).resolve().parents[1]
RUNNER = 'algorithmic_efficiency.submission_runner'

# The launcher's own business; a plan's `flags` may not set them.
SET_BY_LAUNCHER = frozenset((
  'workload', 'framework', 'submission_path', 'tuning_ruleset', 'tuning_search_space',
  'num_tuning_trials', 'log_dir', 'experiment_dir', 'experiment_name', 'data_dir', 'rng_seed',
  'hparam_start_index', 'hparam_end_index', 'resume', 'overwrite', 'device',
))  # fmt: skip


class Place(NamedTuple):
  """Where a node stands among those that train one trial together.

  Attributes:
    node: its index, from 0.
    nodes: how many there are.
    coordinator: name or address of the first.
    port: there, free on it.
  """

  node: int = 0
  nodes: int = 1
  coordinator: str = '127.0.0.1'
  port: int = 0


ALONE = Place()


def flags_of(plan: Plan, job: Job, folder: PlanFolder) -> list[str]:
  """The flags of a job's run. A job begins with --resume: where nothing is there, it starts."""
  submission, space = job.algorithm.paths(job.framework)
  values: dict[str, Any] = {
    'workload': f'{job.workload}_{job.framework}',
    'framework': job.framework,
    'submission_path': submission,
    'tuning_ruleset': job.algorithm.tuning_ruleset,
    'tuning_search_space': space,
    'num_tuning_trials': plan.trials,
    'hparam_start_index': job.trial,
    'hparam_end_index': job.trial + 1,
    'rng_seed': plan.study_seed(job.study),
    'device': plan.resources.accelerator,
    'data_dir': plan.data_dir,
    'log_dir': str(folder.run_root(job)),
    'resume': True,
    **plan.flags,
  }
  return [flag for name, value in values.items() for flag in _spelt(name, value)]


def _spelt(name: str, value: Any) -> list[str]:
  if value is None:
    return []
  if isinstance(value, list | tuple):
    return [flag for part in value for flag in _spelt(name, part)]
  if isinstance(value, bool):
    return [f'--{name}' if value else f'--no{name}']
  return [f'--{name}={value}']


def several_processes(plan: Plan, job: Job) -> bool:
  """Whether a job is more than one process: PyTorch has one for each device, JAX one a node."""
  resources = plan.resources
  per_node = resources.devices if job.framework == 'pytorch' else 1
  return per_node * resources.nodes > 1


def words(
  plan: Plan, job: Job, folder: PlanFolder, python: str = '', place: Place = ALONE
) -> list[str]:
  """The whole command of a job on one node, to be run in the project's tree.

  torchrun starts a process for each device (torch.distributed.run); one JAX process has all of
  a node's.
  """
  python = python or sys.executable
  flags = flags_of(plan, job, folder)
  if job.framework != 'pytorch' or not several_processes(plan, job):
    return [python, '-m', RUNNER, *flags]
  torchrun = [python, '-m', 'torch.distributed.run', f'--nproc_per_node={plan.resources.devices}']
  if place.nodes == 1:
    torchrun += ['--standalone']
  else:
    torchrun += [
      f'--nnodes={place.nodes}', f'--node_rank={place.node}',
      f'--master_addr={place.coordinator}', f'--master_port={place.port}',
    ]  # fmt: skip
  return [*torchrun, '-m', RUNNER, *flags]


def variables(job: Job, place: Place) -> Mapping[str, str]:
  """What a job's command finds in its environment besides: how JAX's processes meet."""
  if job.framework != 'jax' or place.nodes == 1:
    return {}
  return {
    'JAX_COORDINATOR_ADDRESS': f'{place.coordinator}:{place.port}',
    'JAX_NUM_PROCESSES': str(place.nodes),
    'JAX_PROCESS_ID': str(place.node),
  }
