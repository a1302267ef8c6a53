"""This file runs one job of a plan to its end, wherever a cluster has put it.

  python3 -m algorithmic_efficiency.launch.task --log_dir=DIR --index=3

A job that is finished is not run again; one that was interrupted goes on. SIGTERM is handed to the
run, which saves itself. Exit codes are those of submission_runner: 0, 1, 2, and 75 for a run that
was stopped and saved.

--plan=FILE brings the plan along where the log folder may not hold it yet. --only_framework=jax
counts only the jobs of that framework, for clusters that number the jobs of each image from 0.
"""

import argparse
import contextlib
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

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import command, endings, nodes
from algorithmic_efficiency.launch.command import Place
from algorithmic_efficiency.launch.endings import Ending, Exit
from algorithmic_efficiency.launch.plan import Job, Plan, from_json
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_ALIVE_SEC = 60.0  # the runner holds a trial for its owner's for so long after a sign of life
_SAVING_SEC = 30.0  # so long may an owner that was told to stop take to save itself
_TOUCHED_SEC = 5.0  # owners touch their locks every second
_LOOK_SEC = 0.5
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
  plan_file: Path | None = None,
  framework: str | None = None,
  launched: bool = False,
) -> int:
  """Runs job `index` of the plan in a folder; returns the exit code.

  Args:
    root: the plan's --log_dir, as it is called here.
    index: of the job, from 0.
    engine: named in the record.
    say: prints a line.
    facts: for the record of the attempt.
    plan_file: holds the plan, which is put into the folder if none is there.
    framework: if given, `index` counts only its jobs.
    launched: whether a launcher lives on that started this process and keeps the record; the run
      is stopped when this process loses its parent.

  Raises:
    UsageError: no such plan or job, or another process has it.
  """
  folder = PlanFolder(root)
  plan = folder.load() if plan_file is None else _brought(folder, plan_file)
  job = job_of(plan, index, framework)
  place = nodes.this_node(os.environ, plan.resources.nodes)
  attempts = folder.attempts(job)
  state = folder.finished(job)  # after the attempts: node 0 may be putting it aside just now
  if state is not None and not launched:
    if state['status'] != 'failed' or len(attempts) > plan.retries:
      say(f'{job.name}: ended before: {state["status"]}')
      return int(state['status'] == 'failed')
    if place.node == 0:
      folder.trial(job).begin_anew()
  records = place.node == 0 and not launched
  if place.node == 0:
    _wait_for_the_dead(folder, job, say)
  nodes.wait_for_coordinator(place, say)
  entry = {
    'attempt': len(attempts) + (not launched), 'engine': engine, 'host': socket.gethostname(),
    'pid': os.getpid(), **(facts or {}), 'started': time.time(),
  }  # fmt: skip
  if records:
    folder.record(job, [*attempts, entry])
  log_from = folder.log(job).stat().st_size if folder.log(job).exists() else 0
  say(f'{job.name}: begins on {entry["host"]} (attempt {entry["attempt"]})')
  exit_ = _run_command(plan, job, folder, place, launched)
  if place.node != 0:  # the record is node 0's, and may be whole only after this end
    return exit_.code if exit_.code >= 0 else 128 - exit_.code
  ending = endings.ending(folder, job, exit_, log_from)
  if records:
    entry |= {'ended': time.time(), 'outcome': ending.outcome, 'reason': ending.reason}
    folder.record(job, [*attempts, {**entry, 'exit_code': exit_.code}])
  say(f'{job.name}: {ending.outcome}{": " if ending.reason else ""}{ending.reason}')
  return exit_code(ending, exit_)


def job_of(plan: Plan, index: int, framework: str | None = None) -> Job:
  """Job `index` of the plan, or of those of a framework. Raises UsageError if there is none."""
  jobs = [job for job in plan.jobs() if framework in (None, job.framework)]
  if not 0 <= index < len(jobs):
    of = '' if framework is None else f' in {framework}'
    raise UsageError(
      f'The plan has {len(jobs)} jobs{of} and none with index {index}; count from 0.'
    )
  return jobs[index]


def _brought(folder: PlanFolder, path: Path) -> Plan:
  """The plan of a file; many tasks of the plan may put it into the folder at once."""
  try:
    plan = from_json(path.read_text(encoding='utf-8'), path)
  except OSError as error:
    raise UsageError(f'The plan {str(path)!r} cannot be read ({error.strerror}).') from error
  folder.bring(plan)
  return plan


def _run_command(plan: Plan, job: Job, folder: PlanFolder, place: Place, launched: bool) -> Exit:
  """Runs it with its output in the job's log; signals that come meanwhile are handed on."""
  name = folder.log(job) if place.node == 0 else folder.log(job).with_suffix(f'.{place.node}.log')
  early: list[int] = []  # signals that came before there was anybody to hand them to
  before = {number: signal.signal(number, lambda n, _: early.append(n)) for number in _SIGNALS}
  parent = os.getppid()
  try:
    with name.open('ab') as log:
      process = subprocess.Popen(
        command.words(plan, job, folder, place=place), cwd=command.ROOT,
        env={**os.environ, **command.variables(job, place)}, stdin=subprocess.DEVNULL,
        stdout=log, stderr=subprocess.STDOUT,
        start_new_session=not launched,  # a launcher's worker ends the group of this process
      )  # fmt: skip
      for number in _SIGNALS:
        signal.signal(number, lambda *_: process.terminate())
      if early:
        process.terminate()
      if launched:
        _end_with_parent(process, parent)
      return Exit(process.wait())
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _end_with_parent(process: subprocess.Popen[bytes], parent: int) -> None:
  """Returns when a process has ended; asks it to when this one's parent is gone, then makes it."""
  lost_at = None
  while process.poll() is None:
    if lost_at is None and os.getppid() != parent:
      lost_at = time.monotonic()
      process.terminate()
    if lost_at is not None and time.monotonic() - lost_at > _SAVING_SEC:
      process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_LOOK_SEC)


def _wait_for_the_dead(folder: PlanFolder, job: Job, say: Callable[[str], None]) -> None:
  """Waits until a trial's former owner is gone or taken for dead.

  On another machine flock does not reach for sure, so the runner holds a lock that was touched in
  the last minute for one that is held. An owner that goes on touching it may be saving itself just
  now; if it still does after half a minute it is alive, and the runner will say so.
  """
  lock = folder.trial(job).lock
  until = time.monotonic() + _SAVING_SEC
  told, first = False, None
  while True:
    try:
      touched, text = lock.stat().st_mtime, lock.read_text()
      owner = json.loads(text or '{}')
    except (FileNotFoundError, ValueError):
      return
    here, age = owner.get('host') == socket.gethostname(), time.time() - touched
    if age > (_TOUCHED_SEC if here else _ALIVE_SEC) or (here and not _is_alive(owner.get('pid'))):
      return
    first = touched if first is None else first
    if touched > first and time.monotonic() > until:
      return
    if not told:
      say(f'{job.name}: was run on {owner.get("host")} a moment ago; waits until that is over')
      told = True
    time.sleep(_LOOK_SEC if here else _TOUCHED_SEC)


def _is_alive(pid: Any) -> bool:
  return isinstance(pid, int) and Path(f'/proc/{pid}').exists()


def main(argv: Sequence[str] | None = None) -> int:
  """The command."""
  parser = argparse.ArgumentParser(
    prog='task', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--log_dir', type=Path, required=True, help='of the plan')
  parser.add_argument('--index', type=int, required=True, help='of the job, from 0')
  parser.add_argument('--engine', default='task', help='named in the record')
  parser.add_argument('--plan', type=Path, help='a plan.json to begin with')
  parser.add_argument('--only_framework', help='--index counts only its jobs')
  parser.add_argument('--launched', action='store_true', help=argparse.SUPPRESS)
  given = parser.parse_args(argv)
  try:
    return run(
      given.log_dir, given.index, given.engine, _say,
      plan_file=given.plan, framework=given.only_framework, launched=given.launched,
    )  # fmt: skip
  except UsageError as error:
    sys.stderr.write(f'task: error: {error}\n')
    return 2
  except MeasurementError as error:
    sys.stderr.write(f'task: error: {error}\n')
    return 1
  except OSError as error:
    sys.stderr.write(f'task: error: the record of the job cannot be written ({error}).\n')
    return 1


def _say(line: str) -> None:
  sys.stdout.write(f'{line}\n')
  sys.stdout.flush()


if __name__ == '__main__':
  sys.exit(main())
