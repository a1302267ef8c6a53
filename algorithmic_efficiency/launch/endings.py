"""This file says how an attempt at a job ended, and why, from what it left on disk."""

import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithmic_efficiency.launch.plan import Job
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_TAIL_BYTES = 1 << 14
_TOLD = re.compile(
  r'(?:submission_runner: error: |\w*(?:Error|Exception): |entrypoint: |task: error: '
  r'|^error: |^docker: |^FATAL: +)(.+)'
)

COMPLETE = 'complete'
FAILED = 'failed'  # the trial failed, and its record says so
REFUSED = 'refused'  # the command is wrong: trying again is of no use
OUT_OF_MEMORY = 'out of memory'
KILLED = 'killed'
SAVED = 'saved'  # stopped by a signal, with a checkpoint made at that moment
BROKEN = 'broken'  # the command ended and the trial did not
NOT_STARTED = 'not started'
STOPPED = 'stopped'  # by this launcher
LOST = 'lost'  # its engine went away, or its launcher

# As they are counted for people.
ORDER = (
  COMPLETE, FAILED, REFUSED, OUT_OF_MEMORY, KILLED, SAVED, BROKEN, NOT_STARTED, STOPPED, LOST,
)  # fmt: skip
_AGAIN = (FAILED, OUT_OF_MEMORY, KILLED, SAVED, BROKEN, NOT_STARTED, LOST)
_EXIT_SAVED = 75  # of submission_runner
_EXIT_WRONG = 2


@dataclass(frozen=True)
class Exit:
  """How a command ended; `code` is negative for a signal, or 128 + the signal."""

  code: int
  out_of_memory: bool = False
  note: str = ''  # what the engine knows beyond the code


@dataclass(frozen=True)
class Ending:
  """How an attempt ended, in one of the words above, and why in a sentence."""

  outcome: str
  reason: str = ''

  @property
  def may_be_tried_again(self) -> bool:
    """Whether another attempt could end differently."""
    return self.outcome in _AGAIN


def close_old(attempts: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """The same attempts, those that nobody saw the end of marked as lost."""
  lost = {'outcome': LOST, 'reason': 'its launcher was killed before it ended'}
  return [a if 'outcome' in a else {**a, **lost} for a in attempts]


def stamp(folder: PlanFolder, job: Job) -> int:
  """Changes whenever a trial's state is written; 0 where there is none."""
  try:
    return folder.trial(job).state.stat().st_mtime_ns
  except FileNotFoundError:
    return 0


def ending(
  folder: PlanFolder, job: Job, exit_: Exit, log_from: int = 0, before: int | None = None
) -> Ending:
  """Judges an attempt. The trial's own record comes first, then the exit code, then the log.

  Args:
    folder: the plan's.
    job: what was attempted.
    exit_: how its command ended.
    log_from: where in the job's log this attempt began, in bytes.
    before: the state's `stamp` when this attempt began, if it is known.
  """
  state = folder.finished(job)
  if state is not None:
    return Ending(FAILED if state['status'] == 'failed' else COMPLETE, _reason(state))
  if exit_.out_of_memory:
    return Ending(OUT_OF_MEMORY, 'the kernel ended it for want of memory')
  told = last_words(folder.log(job), log_from)
  if exit_.code == _EXIT_SAVED or (exit_.code and _saved_since(folder, job, before)):
    return Ending(SAVED, 'stopped from outside; its checkpoint is of that moment')
  if exit_.code == _EXIT_WRONG:
    return Ending(REFUSED, told or 'the command is wrong')
  number = -exit_.code if exit_.code < 0 else exit_.code - 128
  if 0 < number < 65:
    return Ending(KILLED, exit_.note or f'ended by {_signal_name(number)}')
  if exit_.code == 0:
    return Ending(BROKEN, 'its command ended well and recorded no finished trial')
  return Ending(BROKEN, told or f'exit code {exit_.code}; the log tells more')


def _saved_since(folder: PlanFolder, job: Job, before: int | None) -> bool:
  """Whether the trial says that it was saved: torchrun makes 1 of the exit code that tells so."""
  if before is None or stamp(folder, job) == before:
    return False
  state = folder.trial(job).read_state() or {}
  return state.get('status') == 'interrupted' and _reason(state).endswith(', saved')


def last_words(log: Path, start: int = 0) -> str:
  """The last line of a log that tells of an error, or ''."""
  try:
    with log.open('rb') as file:
      end = file.seek(0, 2)
      file.seek(max(start, end - _TAIL_BYTES))
      lines = file.read().decode(errors='replace').splitlines()
  except FileNotFoundError:
    return ''
  found = [match[1].strip() for line in lines if (match := _TOLD.search(line))]
  return found[-1] if found else ''


def _reason(state: dict[str, Any]) -> str:
  return str(state.get('reason') or '')


def _signal_name(number: int) -> str:
  try:
    return signal.Signals(number).name
  except ValueError:
    return f'signal {number}'
