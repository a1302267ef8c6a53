"""This file writes the batch script that runs a job of a plan as a task of a SLURM array.

The script is for people to read too. It runs `task.py` by srun, so that what SLURM sends to a
step reaches the run: a batch script does not hear of a preemption. When a run was saved or may be
tried again, it puts its own task back into the queue; SLURM does not do that by itself.
"""

import math
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import command, containers
from algorithmic_efficiency.launch.plan import Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

CONTAINERS = ('none', 'docker', 'apptainer')
_GRES = {'cuda': 'gpu', 'hpu': 'hpu'}
# What a container must know of the task around it; SLURM sets some of them for some jobs only.
_TOLD_TO_CONTAINERS = (
  'SLURM_JOB_ID', 'SLURM_RESTART_COUNT', 'SLURM_NODEID', 'SLURM_JOB_NUM_NODES',
  'SLURM_STEP_NUM_NODES', 'SLURM_JOB_NODELIST', 'SLURM_STEP_NODELIST',
  'ALGORITHMIC_EFFICIENCY_COORDINATOR',
)  # fmt: skip


@dataclass(frozen=True)
class How:
  """How a plan runs below SLURM.

  Attributes:
    container: 'none', 'docker' or 'apptainer'.
    image: a .sif file or the name of a Docker image.
    python: the interpreter on the nodes, where there is no container.
    gres: SLURM's name of the accelerators, or '' for the usual one.
    signal_sec: seconds before the time limit at which a run is told to save itself.
    options: further options of sbatch.
  """

  container: str = 'none'
  image: str = ''
  python: str = ''
  gres: str = ''
  signal_sec: int = 60
  options: Sequence[str] = ()


def ranges(indices: Iterable[int]) -> str:
  """As --array takes them.

  >>> ranges([0, 3, 4, 5, 9])
  '0,3-5,9'
  """
  runs: list[list[int]] = []
  for index in sorted(indices):
    if runs and index == runs[-1][1] + 1:
      runs[-1][1] = index
    else:
      runs.append([index, index])
  return ','.join(str(a) if a == b else f'{a}-{b}' for a, b in runs)


def split(indices: Iterable[int], most: int) -> list[tuple[int, list[int]]]:
  """(offset, indices from there) of the arrays that hold them, none of which reaches `most`.

  >>> split([2, 3, 1002, 2500], most=1000)
  [(0, [2, 3]), (1000, [2]), (2000, [500])]
  """
  arrays: dict[int, list[int]] = {}
  for index in sorted(indices):
    arrays.setdefault(index // most * most, []).append(index % most)
  return list(arrays.items())


def options(plan: Plan, folder: PlanFolder, how: How) -> list[str]:
  """What sbatch is asked for, without the array itself."""
  resources = plan.resources
  given = [
    '--requeue', '--open-mode=append', f'--signal=TERM@{how.signal_sec}',
    f'--output={_unexpanded(str(folder.root / "slurm"))}/%A_%a.log',
    f'--chdir={command.ROOT}', f'--nodes={resources.nodes}', '--ntasks-per-node=1',
  ]  # fmt: skip
  if resources.cpus is not None:
    given.append(f'--cpus-per-task={math.ceil(resources.cpus)}')
  if resources.memory_bytes is not None:
    given.append(f'--mem={math.ceil(resources.memory_bytes / 2**20)}M')
  if resources.accelerator in _GRES:
    name = how.gres or _GRES[resources.accelerator]
    given.append(f'--gres={name}:{resources.devices}')
  return given


def _unexpanded(path: str) -> str:
  return path.replace('%', '%%')  # %j and its like are SLURM's


def text(plan: Plan, folder: PlanFolder, how: How) -> str:
  """The whole script. Raises UsageError for a path that it cannot hold."""
  for path in (str(folder.root), str(command.ROOT), how.image, how.python):
    if set(path) & set('\n"\\'):
      raise UsageError(
        f'The path {path!r} holds a quotation mark, a backslash or a line break, which a batch '
        'script cannot; rename it.'
      )
  lines = [f'#SBATCH {_in_comment(option)}' for option in options(plan, folder, how)]
  nodes = plan.resources.nodes
  step = ['srun', f'--nodes={nodes}', f'--ntasks={nodes}', '--ntasks-per-node=1']
  if plan.resources.cpus is not None:  # srun does not take it over from sbatch
    step.append(f'--cpus-per-task={math.ceil(plan.resources.cpus)}')
  if nodes > 1:
    # The first that has saved itself must not have the others ended before they have.
    step += ['--kill-on-bad-exit=0', '--wait=60']
  return _TEMPLATE.format(
    options='\n'.join(lines),
    name=' '.join(plan.name.split()),
    log_dir=shlex.quote(str(folder.root)),
    root=shlex.quote(str(command.ROOT)),
    inside=_inside(plan, folder, how),
    coordinator=_COORDINATOR if nodes > 1 else '',
    step=' '.join(step),
    cleanup=_DOCKER_CLEANUP if how.container == 'docker' else '',
  )


def _in_comment(option: str) -> str:
  """SLURM's own parser of these lines knows double quotes."""
  name, equals, value = option.partition('=')
  return f'{name}{equals}"{value}"' if set(value) & set(" #'") else option


def _inside(plan: Plan, folder: PlanFolder, how: How) -> str:
  """The body of the function that becomes Python, in a container or not."""
  if how.container == 'none':
    python = shlex.quote(how.python)
    missing = f'error: {how.python} is not on $(hostname); name another by --slurm_python.'
    return (
      f'  command -v {python} > /dev/null || {{\n    echo "{_escaped(missing)}"\n    exit 1\n  }}\n'
      f'  exec {python} "$@"'
    )
  tool = how.container
  missing = f'error: {tool} is not on $(hostname); install it, or give another --slurm_container.'
  words = _docker(plan, folder, how) if tool == 'docker' else _apptainer(plan, folder, how)
  lines = [f'  command -v {tool} > /dev/null || {{\n    echo "{missing}"\n    exit 1\n  }}']
  if tool == 'docker':
    lines.append('  docker rm --force "$container" > /dev/null 2>&1 || true')
  else:
    there = shlex.quote(how.image)
    gone = f'error: {_escaped(how.image)} is not on $(hostname); --slurm_image must be shared.'
    if '://' not in how.image:
      lines.append(f'  [ -e {there} ] || {{\n    echo "{gone}"\n    exit 1\n  }}')
    lines.append('  unset PYTHONPATH PYTHONHOME VIRTUAL_ENV')
  joined = ' \\\n    '.join(words)
  return '\n'.join([*lines, f'  exec {joined} python3 "$@"'])


def _escaped(words: str) -> str:
  """For double quotes of bash, in which $(hostname) is to be expanded and nothing else."""
  return words.replace('`', '\\`').replace('$', '\\$').replace('\\$(hostname)', '$(hostname)')


def all_mounts(plan: Plan, folder: PlanFolder) -> list[tuple[str, bool]]:
  """What the containers of all jobs need; the plan's own folder is the last."""
  found = {mount for job in plan.jobs() for mount in containers.mounts(plan, job, folder)}
  return sorted(found, key=lambda mount: (mount[1], mount[0]))


def _docker(plan: Plan, folder: PlanFolder, how: How) -> list[str]:
  resources = plan.resources
  words = [
    'docker run --rm', '--name="$container"', '--uts=host',
    f'--user={os.getuid()}:{os.getgid()}',
    f'--label={containers.LABEL}.plan={plan.id}', '--label=algorithmic_efficiency.slurm="$job"',
    f'--env=ALGORITHMIC_EFFICIENCY_IMAGE={shlex.quote(how.image)}',
    ' '.join(f'--env={name}' for name in _TOLD_TO_CONTAINERS),
  ]  # fmt: skip
  words += [
    shlex.quote(f'--mount=type=bind,source={path},target={path}{"" if writable else ",readonly"}')
    for path, writable in all_mounts(plan, folder)
  ]
  if resources.nodes > 1:
    words.append('--network=host')
  if resources.cpus is not None:
    words.append(f'--cpus={resources.cpus:g}')
  if resources.memory_bytes is not None:
    words.append(f'--memory={resources.memory_bytes} --memory-swap={resources.memory_bytes}')
  if resources.shm_bytes is not None:
    words.append(f'--shm-size={resources.shm_bytes}')
  # SLURM's numbers of the devices; those in CUDA_VISIBLE_DEVICES may count within its cgroup.
  if resources.accelerator == 'cuda':
    words.append('--gpus="\\"device=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-}}\\""')
  elif resources.accelerator == 'hpu':
    words.append('--runtime=habana --env=HABANA_VISIBLE_DEVICES="${SLURM_STEP_GPUS:-all}"')
  return [*words, shlex.quote(how.image)]


def _apptainer(plan: Plan, folder: PlanFolder, how: How) -> list[str]:
  words = ['apptainer run --no-home', f'--pwd={containers.SOURCE}']
  words += [
    shlex.quote(f'--bind={path}:{path}{"" if writable else ":ro"}')
    for path, writable in all_mounts(plan, folder)
  ]
  words.append(f'--env=ALGORITHMIC_EFFICIENCY_IMAGE={shlex.quote(how.image)}')
  if plan.resources.accelerator == 'cuda':
    words.append('--nv')
  return [*words, shlex.quote(how.image)]


_COORDINATOR = """
# Where the processes of all nodes meet. A node's name need not resolve; its address does.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\\([^ ]*\\).*/\\1/p')
export ALGORITHMIC_EFFICIENCY_COORDINATOR=${address:-$first}
"""

_DOCKER_CLEANUP = """
# SLURM ends the client; the container is the engine's.
trap 'docker rm --force "$container" > /dev/null 2>&1 || true' EXIT
"""

_TEMPLATE = """\
#!/usr/bin/env bash
{options}

# A job of the plan "{name}". Its argument is the index of the array's task 0 in the plan.
set -uo pipefail
export job=${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}
export container=algorithmic_efficiency-$job
log_dir={log_dir}
index=$(($1 + SLURM_ARRAY_TASK_ID))
task=(-m algorithmic_efficiency.launch.task "--log_dir=$log_dir" "--index=$index"
  --engine=slurm "--job_id=$job")

if [ ! -e "$log_dir/plan.json" ]; then
  echo "error: $(hostname) does not see $log_dir; choose a --log_dir that all nodes share."
  exit 1
fi
cd {root} || {{
  echo "error: $(hostname) does not see the project's folder; it must be on all nodes."
  exit 1
}}

# Becomes Python, with the project's packages.
inside() {{
{inside}
}}
export -f inside
{coordinator}{cleanup}
# scancel tells this shell too, which has to live on until the run has saved itself.
trap : TERM
code=0
{step} \\
  bash -c 'inside "$@"' inside "${{task[@]}}" || code=$?
[ "$code" -ne 0 ] || exit 0

# What became of it, also if it was killed: 75 if it goes on later, else its own exit code.
(inside "${{task[@]}}" "--ended=$code")
code=$?
state=$(scontrol show job --oneliner "$job" | sed -n 's/.* JobState=\\([A-Z_]*\\).*/\\1/p')
# Who cancelled it, or a time limit that ended it, is not to be contradicted.
if [ "$code" -eq 75 ] && [ "$state" = RUNNING ]; then
  echo "$job goes back into the queue."
  # Not SLURM_JOB_ID: for one task of an array that is the number of the whole array.
  scontrol requeue "$job"
fi
exit "$code"
"""
