"""This file owns the paths of a plan and the launcher's record of its jobs.

LOG_DIR/plan.json                                   the plan
LOG_DIR/jobs/<job>.json                             every attempt at a job and how it ended
LOG_DIR/jobs/<job>.log                              what its command printed, attempt by attempt
LOG_DIR/<submission>/study_<s>/<workload>_<framework>/run_<i>/     the runs' own records
"""

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch.plan import Job, Plan, from_json
from algorithmic_efficiency.records.run_folder import FINISHED, RunFolder, TrialFolder
from algorithmic_efficiency.records.whole_files import write_whole


class PlanFolder:
  """A plan's folder; `root` is what the user named --log_dir."""

  def __init__(self, root: Path) -> None:
    self.root = root
    self.plan_file = root / 'plan.json'
    self.jobs = root / 'jobs'

  def run_root(self, job: Job) -> Path:
    """The --log_dir of a job's command: one for all trials of a study of an algorithm."""
    return self.root / job.algorithm.name / f'study_{job.study + 1}'

  def trial(self, job: Job) -> TrialFolder:
    """Where a job's trial is recorded."""
    run = RunFolder(self.run_root(job), f'{job.workload}_{job.framework}')
    return run.trial(job.trial)

  def log(self, job: Job) -> Path:
    """What the job's command printed."""
    return self.jobs / f'{job.name}.log'

  def engine_file(self, name: str) -> Path:
    """A file that an engine needs, such as a batch script."""
    return self.root / name

  def load(self) -> Plan:
    """The plan that is there. Raises UsageError if there is none."""
    try:
      return from_json(self.plan_file.read_text(encoding='utf-8'), self.plan_file)
    except FileNotFoundError as error:
      raise UsageError(
        f'{str(self.root)!r} holds no plan; start one without --resume, or name its --log_dir.'
      ) from error
    except OSError as error:
      raise self._trouble(error) from error

  def save(self, plan: Plan) -> None:
    """Makes the folder and writes the plan. Raises UsageError if it cannot be written to."""
    try:
      self.jobs.mkdir(parents=True, exist_ok=True)
      write_whole(self.plan_file, plan.to_json())
    except OSError as error:
      raise self._trouble(error) from error

  def forget_if_unbegun(self) -> None:
    """Removes a plan of which no job has begun, so that a mended one can take its place."""
    if not any(self.jobs.glob('*.json')):
      self.plan_file.unlink(missing_ok=True)
      with suppress(OSError):  # somebody has put something there, or it is not there
        self.jobs.rmdir()

  def bring(self, plan: Plan) -> None:
    """Puts a plan there if there is none; others may do the same at this moment, elsewhere.

    Raises UsageError if another plan is there, or if it cannot be written.
    """
    try:
      if not self.plan_file.exists():
        self.jobs.mkdir(parents=True, exist_ok=True)
        # Not by write_whole: in containers the ids of processes are all alike.
        own = self.root / f'.plan.json.{uuid.uuid4().hex}.tmp'
        own.write_text(plan.to_json(), encoding='utf-8')
        own.replace(self.plan_file)
    except OSError as error:
      raise self._trouble(error) from error
    there = self.load()
    if there.id != plan.id:
      raise UsageError(
        f'{str(self.root)!r} holds another plan ({there.name}, {there.id}) than {plan.name}, '
        f'{plan.id}; choose another --log_dir.'
      )

  @contextmanager
  def held(self) -> Generator[None, None, None]:
    """Holds the folder for this launcher. Raises UsageError if another one has it."""
    try:
      self.root.mkdir(parents=True, exist_ok=True)
      fd = os.open(self.root / '.launch.lock', os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
      raise self._trouble(error) from error
    try:
      try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as error:
        who = os.pread(fd, 200, 0).decode(errors='replace') or 'another launcher'
        raise UsageError(
          f'{str(self.root)!r} is being run by {who}; wait for it, or choose another --log_dir.'
        ) from error
      try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f'process {os.getpid()} on {socket.gethostname()}'.encode(), 0)
      except OSError as error:
        raise self._trouble(error) from error
      yield
    finally:
      os.close(fd)

  def finished(self, job: Job) -> dict[str, Any] | None:
    """The state of a job's trial if it has ended, well or not; else None."""
    state = self.trial(job).read_state()
    return state if state is not None and state['status'] in FINISHED else None

  def attempts(self, job: Job) -> list[dict[str, Any]]:
    """What is recorded of each attempt at a job, the oldest first."""
    path = self.jobs / f'{job.name}.json'
    try:
      return list(json.loads(path.read_text(encoding='utf-8'))['attempts'])
    except FileNotFoundError:
      return []
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise UsageError(f'{str(path)!r} cannot be read ({error}); delete it.') from error

  def record(self, job: Job, attempts: list[dict[str, Any]]) -> None:
    """Writes the attempts at a job, whole. OSError if the disk does not take it."""
    content = {'job': job.name, 'attempts': attempts}
    write_whole(self.jobs / f'{job.name}.json', json.dumps(content, indent=2) + '\n')

  def _trouble(self, error: OSError) -> UsageError:
    return UsageError(
      f'{str(self.root)!r} cannot be used ({error.strerror}); choose another --log_dir '
      'or mend its permissions or free space.'
    )
