"""This file runs one job of a plan to its end, wherever a cluster has put it.

  python3 -m algorithmic_efficiency.launch.task --log_dir=DIR --index=3

A job that is finished is not run again; one that was interrupted goes on. SIGTERM is handed to the
run, which saves itself. Exit codes are those of submission_runner: 0, 1, 2, and 75 for a run that
was stopped and saved.
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
_CODES = {
  endings.COMPLETE: 0,
  endings.FAILED: 1,
  endings.BROKEN: 1,
  endings.NOT_STARTED: 1,
  endings.REFUSED: 2,
  endings.SAVED: 75,
}


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
    facts: for the record of the attempt.

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
  attempts = folder.attempts(job)
  state = folder.finished(job)
  if state is not None and place.node == 0:
    if state['status'] != 'failed' or len(attempts) > plan.retries:
      say(f'{job.name}: ended before: {state["status"]}')
      return 0 if state['status'] != 'failed' else 1
    folder.trial(job).begin_anew()
  _wait_for_the_dead(folder, job, say)
  entry = {
    'attempt': len(attempts) + 1, 'engine': engine, 'host': socket.gethostname(),
    'pid': os.getpid(), **(facts or {}), 'started': time.time(),
  }  # fmt: skip
  if place.node == 0:
    folder.record(job, [*attempts, entry])
  log_from = folder.log(job).stat().st_size if folder.log(job).exists() else 0
  again = f' (attempt {entry["attempt"]})' if attempts else ''
  say(f'{job.name}: begins on {entry["host"]}{again}')
  exit_ = _run_command(plan, job, folder, place)
  ending = endings.ending(folder, job, exit_, log_from)
  if place.node == 0:
    entry |= {'ended': time.time(), 'outcome': ending.outcome, 'reason': ending.reason}
    folder.record(job, [*attempts, {**entry, 'exit_code': exit_.code}])
  say(f'{job.name}: {ending.outcome}{": " if ending.reason else ""}{ending.reason}')
  return exit_code(ending, exit_)


def _run_command(plan: Plan, job: Job, folder: PlanFolder, place: Place) -> Exit:
  """Runs it with its output in the job's log; signals that come meanwhile are handed on."""
  name = folder.log(job) if place.node == 0 else folder.log(job).with_suffix(f'.{place.node}.log')
  early: list[int] = []  # signals that came before there was anybody to hand them to
  before = {number: signal.signal(number, lambda n, _: early.append(n)) for number in _SIGNALS}
  try:
    with name.open('ab') as log:
      process = subprocess.Popen(
        command.words(plan, job, folder, place=place), cwd=command.ROOT,
        env={**os.environ, **command.variables(job, place)},
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
      for number in _SIGNALS:
        signal.signal(number, lambda *_: process.terminate())
      if early:
        process.terminate()
      return Exit(process.wait())
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
  given = parser.parse_args(argv)
  try:
    return run(given.log_dir, given.index, given.engine, _say)
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
