"""This file decides whether a cluster is to have a job again, from the record of its attempts."""

import signal
import socket
import time
from pathlib import Path
from typing import Any

from algorithmic_efficiency.launch import endings
from algorithmic_efficiency.launch.endings import Ending, Exit
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

PUT_BACK = 75  # the exit code that asks for it
_STOPS_WITHOUT_PROGRESS = 5
# Outcomes that were the scheduler's doing and use up no retry.
_NOT_ITS_FAULT = (endings.SAVED, endings.STOPPED, endings.LOST)


def closed(attempt: dict[str, Any], job_id: str | None) -> dict[str, Any]:
  """An earlier attempt of this very task that had no time to say how it ended."""
  if 'ended' in attempt or attempt.get('job_id') != job_id:
    return attempt
  return {
    **attempt, 'ended': time.time(), 'outcome': endings.LOST,
    'reason': 'ended without a word, by the scheduler or with its machine',
  }  # fmt: skip


def may_fail_again(plan: Plan, attempts: list[dict[str, Any]], job_id: str | None) -> bool:
  """Whether retries are left. What the scheduler took away did not use one up."""
  mine = [attempt for attempt in attempts if attempt.get('job_id') == job_id]
  used = [attempt for attempt in mine if attempt.get('outcome') not in _NOT_ITS_FAULT]
  return len(used) <= plan.retries


def after(root: Path, index: int, engine: str, job_id: str | None, code: int) -> int:
  """Completes the record of a task that ended with an exit code; returns 75 to have it again.

  Raises:
    UsageError: no such plan or job.
  """
  folder = PlanFolder(root)
  plan = folder.load()
  job = plan.jobs()[index]
  attempts = folder.attempts(job)
  last = attempts[-1] if attempts else {}
  if last.get('job_id') != job_id or not last:
    told = code == 128 + signal.SIGTERM  # SLURM may warn of a time limit at the very beginning
    last = {
      'attempt': len(attempts) + 1, 'engine': engine, 'host': socket.gethostname(),
      'job_id': job_id, 'started': time.time(), 'ended': time.time(), 'exit_code': code,
      'outcome': endings.STOPPED if told else endings.NOT_STARTED,
      'reason': 'stopped from outside before it began' if told
      else f'exit code {code} before it began',
    }  # fmt: skip
    attempts.append(last)
    folder.record(job, attempts)
  elif 'ended' not in last:
    how = endings.ending(folder, job, Exit(code))
    last |= {'ended': time.time(), 'outcome': how.outcome, 'reason': how.reason, 'exit_code': code}
    folder.record(job, attempts)
  if last['outcome'] in (endings.SAVED, endings.STOPPED):
    mine = [attempt for attempt in attempts if attempt.get('job_id') == job_id]
    return PUT_BACK if _gets_on(mine) else _tell_of_no_progress(folder, job, attempts)
  again = Ending(last['outcome']).may_be_tried_again and may_fail_again(plan, attempts, job_id)
  return PUT_BACK if again else code


def _gets_on(attempts: list[dict[str, Any]]) -> bool:
  """Whether the last few got any further, or were too few to tell."""
  last = attempts[-_STOPS_WITHOUT_PROGRESS:]
  return len(last) < _STOPS_WITHOUT_PROGRESS or len({a.get('global_step') for a in last}) > 1


def _tell_of_no_progress(folder: PlanFolder, job: Job, attempts: list[dict[str, Any]]) -> int:
  attempts[-1]['reason'] = (
    f'stopped from outside {_STOPS_WITHOUT_PROGRESS} times without getting on; is its time limit '
    'long enough? --resume goes on with it'
  )
  folder.record(job, attempts)
  return 1
