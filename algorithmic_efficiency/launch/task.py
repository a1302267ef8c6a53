"""This file runs one job of a plan to its end, wherever a cluster has put it.

  python3 -m algorithmic_efficiency.launch.task --log_dir=DIR --index=3

A job that is finished is not run again; one that was interrupted goes on. SIGTERM is handed to the
run, which saves itself. Exit codes are those of submission_runner: 0, 1, 2, and 75 for a run that
was stopped and saved.

--plan=FILE brings the plan along where the log folder may not hold it yet. --only_framework=jax
counts only the jobs of that framework, for clusters that number the jobs of each image from 0.

With --ended=CODE it runs nothing: it is told how such a process ended, completes the record where
that one could not, and exits with 75 if the job is to go back into the queue, else with CODE.
"""

import argparse
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import endings, nodes, requeue, task_process
from algorithmic_efficiency.launch.command import Place
from algorithmic_efficiency.launch.endings import Ending, Exit
from algorithmic_efficiency.launch.plan import Job, Plan, from_json
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_CODES = {
  endings.COMPLETE: 0,
  endings.FAILED: 1,
  endings.BROKEN: 1,
  endings.NOT_STARTED: 1,
  endings.REFUSED: 2,
  endings.SAVED: requeue.PUT_BACK,
  endings.STOPPED: requeue.PUT_BACK,
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
    facts: for the record; attempts with another 'job_id' use up no retries.
    plan_file: holds the plan, which is put into the folder if none is there.
    framework: if given, `index` counts only its jobs.
    launched: whether a launcher keeps the record; the run is stopped when it is gone.

  Raises:
    UsageError: no such plan or job, or another process has it.
  """
  folder = PlanFolder(root)
  plan = folder.load() if plan_file is None else _brought(folder, plan_file)
  job = job_of(plan, index, framework)
  place = nodes.this_node(os.environ, plan.resources.nodes)
  job_id = (facts or {}).get('job_id')
  attempts = [requeue.closed(attempt, job_id) for attempt in folder.attempts(job)]
  state = folder.finished(job)  # after the attempts: node 0 may be putting it aside just now
  if state is not None and not launched:
    if state['status'] != 'failed' or not requeue.may_fail_again(plan, attempts, job_id):
      say(f'{job.name}: ended before: {state["status"]}')
      return int(state['status'] == 'failed')
    if place.node == 0:
      folder.trial(job).begin_anew()
  if place.node == 0:
    task_process.wait_for_the_dead(folder.trial(job).lock, job.name, say)
  nodes.wait_for_coordinator(place, say)
  entry = {
    'attempt': len(attempts) + (not launched), 'engine': engine, 'host': socket.gethostname(),
    'pid': os.getpid(), **(facts or {}), 'started': time.time(),
  }  # fmt: skip
  records = place.node == 0 and not launched
  if records:
    folder.record(job, [*attempts, entry])
  say(f'{job.name}: begins on {entry["host"]}{_which(place, entry["attempt"])}')
  ending, exit_ = _train(plan, job, folder, place, launched)
  if place.node != 0:  # the record is node 0's, and may be whole only after this end
    say(f'{job.name}: node {place.node + 1} ended with exit code {exit_.code}')
    return exit_.code if exit_.code >= 0 else 128 - exit_.code
  if records:
    step = (folder.trial(job).read_state() or {}).get('global_step', 0)
    entry |= {'ended': time.time(), 'outcome': ending.outcome, 'reason': ending.reason}
    folder.record(job, [*attempts, {**entry, 'exit_code': exit_.code, 'global_step': step}])
  say(f'{job.name}: {ending.outcome}{": " if ending.reason else ""}{ending.reason}')
  return exit_code(ending, exit_)


def _which(place: Place, attempt: int) -> str:
  node = f', node {place.node + 1} of {place.nodes}' if place.nodes > 1 else ''
  return node + (f' (attempt {attempt})' if attempt > 1 and place.node == 0 else '')


def _train(
  plan: Plan, job: Job, folder: PlanFolder, place: Place, launched: bool
) -> tuple[Ending, Exit]:
  """Runs the command, and judges how it ended; for node 0, which alone knows the whole record."""
  log_from = folder.log(job).stat().st_size if folder.log(job).exists() else 0
  stamp = endings.stamp(folder, job)
  exit_, asked = task_process.run(plan, job, folder, place, launched)
  ending = endings.ending(folder, job, exit_, log_from, stamp)
  if asked and ending.outcome in (endings.KILLED, endings.BROKEN):
    ending = Ending(endings.STOPPED, 'stopped from outside; it goes on from what was recorded')
  return ending, exit_


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
  parser.add_argument('--plan', type=Path, help='a plan.json to begin with')
  parser.add_argument('--only_framework', help='--index counts only its jobs')
  parser.add_argument('--launched', action='store_true', help=argparse.SUPPRESS)
  given = parser.parse_args(argv)
  facts = {} if given.job_id is None else {'job_id': given.job_id}
  try:
    if given.ended is not None:
      return requeue.after(given.log_dir, given.index, given.engine, given.job_id, given.ended)
    return run(
      given.log_dir, given.index, given.engine, _say, facts,
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
