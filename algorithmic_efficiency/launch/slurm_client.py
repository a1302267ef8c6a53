"""This file talks to SLURM by its own commands, and says in a sentence what their errors mean."""

import re
import shlex
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from algorithmic_efficiency.errors import MeasurementError, UsageError

_PATIENCE_SEC = 120.0  # the commands themselves try for a while to reach the controller

_UNREACHED = (
  r'Unable to contact slurm controller|[Cc]onnection refused|Socket timed out|'
  r'Could not establish a configuration source|authentication error|[Mm]unged? .*error'
)
# (what sbatch says, what it means and what to do), the first that is found counts.
_MEANINGS = (
  (r'invalid partition specified: (\S+)', 'there is no partition {1}; sinfo lists them'),
  (
    r'[Ii]nvalid account or account/partition combination',
    'the account may not use this partition; sacctmgr show associations lists what yours may',
  ),
  (r'Invalid qos specification', 'there is no such QOS for you; sacctmgr show qos lists them'),
  (
    r'Invalid generic resource \(gres\) specification',
    'the cluster has no such gres, or not so many; sinfo --format="%N %G" lists them, '
    '--slurm_gres=NAME and --devices_per_trial choose',
  ),
  (
    r'Memory specification can not be satisfied',
    'no node has so much memory; sinfo --format="%N %m" lists it in MiB, --memory chooses',
  ),
  (
    r'CPU count per node can not be satisfied|More processors requested than permitted',
    'no node has so many CPUs; sinfo --format="%N %c" lists them, --cpus chooses',
  ),
  (
    r'Node count specification invalid',
    'the partition does not give so many nodes; sinfo lists them, --nodes_per_trial chooses',
  ),
  (
    r'Requested node configuration is not available',
    'no node has the CPUs, memory and devices that a trial wants; sinfo '
    '--format="%N %c %m %G" lists what there is (memory in MiB)',
  ),
  (
    r'[Tt]ime limit (?:is invalid|specification|exceeds)|Requested time limit is invalid',
    'the time limit is not one that the partition gives; sinfo --format="%P %l" lists them',
  ),
  (
    r'Job violates accounting/QOS policy|AssocMaxSubmitJobLimit|QOSMaxSubmitJobPerUserLimit',
    'it would be more jobs, or larger ones, than you may have in the queue; wait for those '
    'there are, then go on with --resume',
  ),
  (
    r'Slurm temporarily unable to accept job|Resource temporarily unavailable',
    'the queue is full; go on with --resume later',
  ),
  (r"(?:unrecognized|invalid) option (?:-- )?'([^']+)'", 'sbatch has no option {1}; see sbatch(1)'),
)


# Why a job waits that will not begin, however long it waits, as squeue(1) calls it.
_HOPELESS = {
  'PartitionConfig': 'the partition has no node with the CPUs or the number of nodes that it wants',
  'PartitionNodeLimit': 'the partition does not give so many nodes',
  'PartitionTimeLimit': 'its time limit is longer than that of the partition',
  'BadConstraints': 'no node is as it wants',
  'InvalidAccount': 'there is no such account',
  'InvalidQOS': 'there is no such QOS',
  'DependencyNeverSatisfied': 'what it waits for does not come',
  'JobHeldAdmin': 'an administrator holds it',
  'JobHeldUser': 'it is held; scontrol release lets it go',
}


class Queued(NamedTuple):
  """A task in the queue: its state, and why it waits where it does; SLURM's own words."""

  state: str
  reason: str = ''

  @property
  def why_for_ever(self) -> str:
    """Why it will not begin by itself, or ''."""
    return _HOPELESS.get(self.reason, '') if self.state == 'PENDING' else ''


class NoAnswer(MeasurementError):
  """The controller does not answer; what is in its queue is not known."""


def call(words: Sequence[str]) -> str:
  """What a command of SLURM prints. Raises NoAnswer, or UsageError if it is refused."""
  try:
    done = subprocess.run(
      words, capture_output=True, text=True, timeout=_PATIENCE_SEC, stdin=subprocess.DEVNULL
    )
  except FileNotFoundError as error:
    raise UsageError(
      f'SLURM is not installed here (no {words[0]}); run this on a login node of the cluster, or '
      'use another --engine.'
    ) from error
  except subprocess.TimeoutExpired as error:
    raise NoAnswer(_unanswered(words[0], f'nothing in {_PATIENCE_SEC:g} s')) from error
  if done.returncode == 0:
    return done.stdout
  said = ' '.join((done.stderr or done.stdout).split())
  if re.search(_UNREACHED, said):
    raise NoAnswer(_unanswered(words[0], said))
  raise UsageError(f'SLURM refuses: {explain(said)}.')


def _unanswered(name: str, said: str) -> str:
  return (
    f"SLURM's controller does not answer ({name} says: {said[:200].rstrip('.')}); scontrol ping "
    'tells whether it is up; go on with --resume then.'
  )


def explain(said: str) -> str:
  """What an error of sbatch means, in a sentence without a full stop."""
  for pattern, meaning in _MEANINGS:
    match = re.search(pattern, said)
    if match:
      groups = (group.strip('"\'.,:') for group in match.groups())
      return meaning.format('', *groups)
  return f'it says {said[:300]!r}'


def largest_array() -> int:
  """One more than the largest index that a job array may have."""
  match = re.search(r'^MaxArraySize\s*=\s*(\d+)', call(['scontrol', 'show', 'config']), re.M)
  return max(int(match[1]), 1) if match else 1001  # SLURM's default


def submit(words: Sequence[str]) -> str:
  """Calls sbatch --parsable; returns the job's id."""
  return call(words).strip().split('\n')[-1].split(';')[0]


def queue(name_prefix: str) -> dict[tuple[str, int], Queued]:
  """This user's array tasks in the queue, by (job name, task), for names with a prefix.

  A task may be in it twice, when two arrays have it; one of them is enough to know.
  """
  found: dict[tuple[str, int], Queued] = {}
  listed = call(['squeue', '--noheader', '--array', '--me', '--format=%i|%T|%r|%j'])
  for line in listed.splitlines():
    job_id, state, reason, name = line.strip().split('|', 3)
    task = job_id.partition('_')[2]
    if name.startswith(name_prefix) and task.isdigit():
      found[name, int(task)] = Queued(state, reason)
  return found


def state(job_id: str) -> str:
  """SLURM's last word on a task, such as TIMEOUT; '' if it has forgotten it."""
  try:
    told = call(['scontrol', 'show', 'job', '--oneliner', job_id])
  except (UsageError, NoAnswer):
    return ''
  match = re.search(r'\bJobState=(\w+)', told)
  return match[1] if match else ''


def line(words: Sequence[str]) -> str:
  """As a person would type it."""
  return shlex.join(words)
