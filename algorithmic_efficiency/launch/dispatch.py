"""This file gives the jobs of a plan to the slots of this machine until all have ended."""

import collections
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import endings
from algorithmic_efficiency.launch.endings import Ending, Exit
from algorithmic_efficiency.launch.engine import CannotStart, Engine, EngineLost, Running
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

_POLL_SEC = 0.1
_GRACE_SEC = 20.0  # the runner waits up to 12 s for the end of a step, then saves


@dataclass
class Attempt:
  """A job that runs."""

  job: Job
  slot: Slot
  number: int  # from 1, over all launchers of the plan
  running: Running
  began: float
  log_from: int


@dataclass(frozen=True)
class Event:
  """Something a person may want to know: a job 'began' or 'ended', or time has passed ('tick')."""

  kind: str
  attempt: Attempt | None = None
  ending: Ending | None = None
  again: bool = False


class Dispatcher:
  """Runs the jobs of a plan that are not finished.

  Args:
    plan: all jobs.
    folder: its records.
    engine: starts jobs.
    slots: each runs one job at a time.
    tell: is told of events, in this thread.
    jobs: those to run, in order.

  Attributes:
    running: the attempts under way, by slot index.
    waiting: jobs not begun yet, in order.
    ended: the last ending of each job that ended here, by job name.
  """

  def __init__(
    self,
    plan: Plan,
    folder: PlanFolder,
    engine: Engine,
    slots: Sequence[Slot],
    tell: Callable[['Dispatcher', Event], None],
    jobs: Iterable[Job],
  ) -> None:
    self._plan, self._folder, self._engine, self._tell = plan, folder, engine, tell
    self._slots = list(slots)
    self.running: dict[int, Attempt] = {}
    self.waiting = collections.deque(jobs)
    self.ended: dict[str, Ending] = {}
    self._starts: dict[str, int] = collections.Counter()  # by this launcher
    self._ever_started = False

  def run(self) -> None:
    """Returns when no job waits or runs. Raises MeasurementError where it cannot go on; whatever
    ends it, what it started is stopped, recorded and released first."""
    try:
      while self.waiting or self.running:
        self._fill()
        if not self._collect():
          time.sleep(_POLL_SEC)
        self._tell(self, Event('tick'))
    except EngineLost as error:
      self._give_up()
      raise error
    except BaseException:
      self.stop()
      raise

  def stop(self) -> None:
    """Asks all that runs to stop, waits for it, and kills what does not; so does a second Ctrl-C.

    Raises MeasurementError or UsageError at the end if an ending could not be judged or recorded.
    """
    unrecorded: list[Exception] = []
    for attempt in self.running.values():
      attempt.running.ask_to_stop()
    until = time.monotonic() + _GRACE_SEC
    while self.running:
      try:
        if not self._collect(stopping=True):
          time.sleep(_POLL_SEC)
      except EngineLost:
        self._give_up()
        raise
      except (MeasurementError, UsageError, OSError) as error:
        unrecorded.append(error)  # the others are stopped all the same
      except KeyboardInterrupt:
        until = 0.0
      if time.monotonic() > until:
        for attempt in self.running.values():
          attempt.running.kill()
        until = float('inf')
    if unrecorded:
      raise unrecorded[0]

  def _fill(self) -> None:
    for slot in self._slots:
      if slot.index not in self.running and self.waiting:
        job = self.waiting.popleft()
        attempt = self._start(job, slot)
        if attempt is not None:
          self.running[slot.index] = attempt
          self._tell(self, Event('began', attempt))

  def _start(self, job: Job, slot: Slot) -> Attempt | None:
    """Starts a job and records that it did; None if it could not be started."""
    number = len(self._folder.attempts(job)) + 1
    self._starts[job.name] += 1
    log = self._folder.log(job)
    log_from = log.stat().st_size if log.exists() else 0
    began = time.time()
    try:
      running = self._engine.start(job, slot, number)
    except CannotStart as error:
      if not self._ever_started:  # it would not be otherwise for any other
        raise UsageError(f'{job.name} cannot be started: {error}.') from error
      self._end_unstarted(job, number, began, str(error))
      return None
    self._ever_started = True
    attempt = Attempt(job, slot, number, running, began, log_from)
    self.running[slot.index] = attempt  # before anything else can fail: it must be stopped then
    self._record(attempt, None)
    return attempt

  def _collect(self, stopping: bool = False) -> bool:
    """Takes in what has ended; whether anything has."""
    ended = [(a, exit_) for a in list(self.running.values()) if (exit_ := a.running.poll())]
    for attempt, exit_ in ended:
      self._end(attempt, exit_, stopping)
    return bool(ended)

  def _end(self, attempt: Attempt, exit_: Exit, stopping: bool) -> None:
    attempt.running.release()
    del self.running[attempt.slot.index]
    how = endings.ending(self._folder, attempt.job, exit_, attempt.log_from)
    if stopping and how.outcome not in (endings.COMPLETE, endings.FAILED):
      how = Ending(endings.STOPPED, 'stopped with the launcher; --resume goes on with it')
    self._record(attempt, how, exit_)
    self.ended[attempt.job.name] = how
    again = not stopping and self._is_tried_again(attempt.job, how)
    if again:
      if how.outcome == endings.FAILED:
        self._begin_anew(attempt.job)
      self.waiting.append(attempt.job)
    self._tell(self, Event('ended', attempt, how, again))

  def _is_tried_again(self, job: Job, how: Ending) -> bool:
    return how.may_be_tried_again and self._starts[job.name] <= self._plan.retries

  def _end_unstarted(self, job: Job, number: int, began: float, reason: str) -> None:
    how = Ending(endings.NOT_STARTED, reason)
    attempts = self._folder.attempts(job)
    attempts.append({
      'attempt': number, 'engine': self._engine.name, 'started': began, 'ended': time.time(),
      'outcome': how.outcome, 'reason': how.reason,
    })  # fmt: skip
    self._write(job, attempts)
    self.ended[job.name] = how
    if self._is_tried_again(job, how):
      self.waiting.append(job)

  def _record(self, attempt: Attempt, how: Ending | None, exit_: Exit | None = None) -> None:
    """Writes an attempt into the job's file: when it begins, and again when it has ended."""
    entry: dict[str, Any] = {
      'attempt': attempt.number,
      'engine': self._engine.name,
      'slot': str(attempt.slot),
      **attempt.running.facts,
      'started': attempt.began,
    }
    if how is not None:
      entry |= {'ended': time.time(), 'outcome': how.outcome, 'reason': how.reason}
    if exit_ is not None:
      entry['exit_code'] = exit_.code
    earlier = [a for a in self._folder.attempts(attempt.job) if a['attempt'] != attempt.number]
    self._write(attempt.job, [*endings.close_old(earlier), entry])

  def _write(self, job: Job, attempts: list[dict[str, Any]]) -> None:
    with self._unwritable_is_told():
      self._folder.record(job, attempts)

  def _begin_anew(self, job: Job) -> None:
    with self._unwritable_is_told():
      self._folder.trial(job).begin_anew()

  @contextmanager
  def _unwritable_is_told(self) -> Iterator[None]:
    try:
      yield
    except OSError as error:
      raise MeasurementError(
        f'{str(self._folder.root)!r} cannot be written to ({error.strerror}); free space or mend '
        'its permissions, then go on with --resume.'
      ) from error

  def _give_up(self) -> None:
    """Records that it is not known what became of the jobs in an engine that went away."""
    for attempt in self.running.values():
      how = Ending(endings.LOST, 'the engine went away while it ran; --resume goes on with it')
      self.ended[attempt.job.name] = how
      attempt.running.abandon()
      self._record(attempt, how)
    self.running.clear()
