"""This file runs one job of a plan to its end, wherever a cluster has put it.

  python3 -m algorithmic_efficiency.launch.task --log_dir=DIR --index=3

A job that is finished is not run again; one that was interrupted goes on. SIGTERM is handed to the
run, which saves itself. Exit codes are those of submission_runner: 0, 1, 2, and 75 for a run that
was stopped and saved.

With --ended=CODE it runs nothing: it is told how such a process ended, completes the record where
that one could not, and exits with 75 if the job is to go back into the queue, else with CODE.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import command, endings, nodes
from algorithmic_efficiency.launch.command import Place
from algorithmic_efficiency.launch.endings import Ending, Exit
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_ALIVE_SEC = 60.0  # the runner holds a trial for its owner's for so long after a sign of life
_PUT_BACK = 75
_STOPS_WITHOUT_PROGRESS = 5
_CODES = {
  endings.COMPLETE: 0,
  endings.FAILED: 1,
  endings.BROKEN: 1,
  endings.NOT_STARTED: 1,
  endings.REFUSED: 2,
  endings.SAVED: _PUT_BACK,
  endings.STOPPED: _PUT_BACK,
}
# Outcomes that were the scheduler's doing and use up no retry.
_NOT_ITS_FAULT = (endings.SAVED, endings.STOPPED, endings.LOST)


def exit_code(ending: Ending, exit_: Exit) -> int:
  """What a task's process ends with."""
  if ending.outcome in _CODES:
    return _CODES[ending.outcome]
  return exit_.code if exit_.code > 0 else 128 - exit_.code


def run(
  root: Path,
  index: int,
  engine: str,
  say: Callable[[str], None],
  facts: dict[str, Any] | None = None,
) -> int:
  """Runs job `index` of the plan in a folder; returns the exit code.

  Args:
    root: the plan's --log_dir, as it is called here.
    index: of the job, from 0.
    engine: named in the record.
    say: prints a line.
    facts: for the record of the attempt; attempts with another 'job_id' are not counted against
      the plan's retries.

  Raises:
    UsageError: no such plan or job, or another process has it.
  """
  folder = PlanFolder(root)
  plan = folder.load()
  jobs = plan.jobs()
  if not 0 <= index < len(jobs):
    raise UsageError(f'The plan has {len(jobs)} jobs and none with index {index}; count from 0.')
  job = jobs[index]
  place = nodes.this_node(os.environ, plan.resources.nodes)
  job_id = (facts or {}).get('job_id')
  attempts = [_closed(attempt, job_id) for attempt in folder.attempts(job)]
  state = folder.finished(job)
  if state is not None:
    if state['status'] != 'failed' or not _may_fail_again(plan, attempts, job_id):
      say(f'{job.name}: ended before: {state["status"]}')
      return 0 if state['status'] != 'failed' else 1
    if place.node == 0:
      folder.trial(job).begin_anew()
  _wait_for_the_dead(folder, job, say)
  entry = {
    'attempt': len(attempts) + 1, 'engine': engine, 'host': socket.gethostname(),
    'pid': os.getpid(), **(facts or {}), 'started': time.time(),
  }  # fmt: skip
  if place.node == 0:
    folder.record(job, [*attempts, entry])
  log_from = folder.log(job).stat().st_size if folder.log(job).exists() else 0
  which = f', node {place.node + 1} of {place.nodes}' if place.nodes > 1 else ''
  again = f' (attempt {entry["attempt"]})' if attempts and place.node == 0 else ''
  say(f'{job.name}: begins on {entry["host"]}{which}{again}')
  stamp = endings.stamp(folder, job)
  exit_, asked = _run_command(plan, job, folder, place)
  ending = endings.ending(folder, job, exit_, log_from, stamp)
  if asked and ending.outcome in (endings.KILLED, endings.BROKEN):
    ending = Ending(endings.STOPPED, 'stopped from outside; it goes on from what was recorded')
  if place.node == 0:
    step = (folder.trial(job).read_state() or {}).get('global_step', 0)
    entry |= {'ended': time.time(), 'outcome': ending.outcome, 'reason': ending.reason}
    folder.record(job, [*attempts, {**entry, 'exit_code': exit_.code, 'global_step': step}])
  say(f'{job.name}: {ending.outcome}{": " if ending.reason else ""}{ending.reason}')
  return exit_code(ending, exit_)


def _closed(attempt: dict[str, Any], job_id: str | None) -> dict[str, Any]:
  """An earlier attempt of this very task that had no time to say how it ended."""
  if 'ended' in attempt or attempt.get('job_id') != job_id:
    return attempt
  return {
    **attempt, 'ended': time.time(), 'outcome': endings.LOST,
    'reason': 'ended without a word, by the scheduler or with its machine',
  }  # fmt: skip


def _may_fail_again(plan: Plan, attempts: list[dict[str, Any]], job_id: str | None) -> bool:
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
    last = {
      'attempt': len(attempts) + 1, 'engine': engine, 'host': socket.gethostname(),
      'job_id': job_id, 'started': time.time(), 'ended': time.time(), 'exit_code': code,
      'outcome': endings.NOT_STARTED, 'reason': f'exit code {code} before it began',
    }  # fmt: skip
    attempts.append(last)
    folder.record(job, attempts)
  elif 'ended' not in last:
    how = endings.ending(folder, job, Exit(code))
    last |= {'ended': time.time(), 'outcome': how.outcome, 'reason': how.reason, 'exit_code': code}
    folder.record(job, attempts)
  if last['outcome'] in (endings.SAVED, endings.STOPPED):
    mine = [attempt for attempt in attempts if attempt.get('job_id') == job_id]
    return _PUT_BACK if _gets_on(mine) else _tell_of_no_progress(folder, job, attempts)
  again = Ending(last['outcome']).may_be_tried_again and _may_fail_again(plan, attempts, job_id)
  return _PUT_BACK if again else code


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


def _run_command(plan: Plan, job: Job, folder: PlanFolder, place: Place) -> tuple[Exit, bool]:
  """Runs it with its output in the job's log; signals that come meanwhile are handed on.

  Returns how it ended, and whether there was such a signal.
  """
  name = folder.log(job) if place.node == 0 else folder.log(job).with_suffix(f'.{place.node}.log')
  came: list[int] = []
  process: subprocess.Popen[bytes] | None = None

  def hand_on(number: int, _: Any) -> None:
    came.append(number)
    if process is not None:
      process.terminate()

  before = {number: signal.signal(number, hand_on) for number in _SIGNALS}
  try:
    with name.open('ab') as log:
      process = subprocess.Popen(
        command.words(plan, job, folder, place=place), cwd=command.ROOT,
        env={**os.environ, **command.variables(job, place)},
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
      if came:  # before there was anybody to hand it to
        process.terminate()
      code = process.wait()
    return Exit(code), bool(came)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _wait_for_the_dead(folder: PlanFolder, job: Job, say: Callable[[str], None]) -> None:
  """Waits until a trial's former owner, killed on another machine, is taken for dead.

  There flock does not reach for sure, so the runner holds a lock that was touched in the last
  minute for one that is held. An owner that goes on touching it is alive: the runner will say so.
  """
  lock = folder.trial(job).lock
  told, touched = False, None
  while True:
    try:
      stat = lock.stat()
      owner = json.loads(lock.read_text() or '{}').get('host', '')
    except (FileNotFoundError, ValueError):
      return
    if owner == socket.gethostname() or time.time() - stat.st_mtime > _ALIVE_SEC:
      return
    if touched is not None and stat.st_mtime > touched:
      return
    if not told:
      say(f'{job.name}: was run on {owner} a moment ago; waits until that is surely over')
      told = True
    touched = stat.st_mtime
    time.sleep(5.0)


def main(argv: Sequence[str] | None = None) -> int:
  """The command."""
  parser = argparse.ArgumentParser(
    prog='task', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--log_dir', type=Path, required=True, help='of the plan')
  parser.add_argument('--index', type=int, required=True, help='of the job, from 0')
  parser.add_argument('--engine', default='task', help='named in the record')
  parser.add_argument('--job_id', help='what the engine calls this job, for the record')
  parser.add_argument('--ended', type=int, metavar='CODE', help='how the job ended; runs nothing')
  given = parser.parse_args(argv)
  facts = {} if given.job_id is None else {'job_id': given.job_id}
  try:
    if given.ended is not None:
      return after(given.log_dir, given.index, given.engine, given.job_id, given.ended)
    return run(given.log_dir, given.index, given.engine, _say, facts)
  except UsageError as error:
    sys.stderr.write(f'task: error: {error}\n')
    return 2
  except OSError as error:
    sys.stderr.write(f'task: error: the record of the job cannot be written ({error}).\n')
    return 1


def _say(line: str) -> None:
  sys.stdout.write(f'{line}\n')
  sys.stdout.flush()


if __name__ == '__main__':
  sys.exit(main())
