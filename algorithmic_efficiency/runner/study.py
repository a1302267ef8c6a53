"""This file runs a study: its trials one after another, each into its own record."""

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import MeasurementError, ToldByTheFirst, UsageError
from algorithmic_efficiency.exports.beside import exported
from algorithmic_efficiency.frameworks import environment
from algorithmic_efficiency.hparams import sampling
from algorithmic_efficiency.hparams.seeds import derive
from algorithmic_efficiency.records import metadata, packages
from algorithmic_efficiency.records.algoperf_log import AlgoperfLog
from algorithmic_efficiency.records.run_folder import FINISHED, TrialFolder
from algorithmic_efficiency.records.trial_lock import TrialLock, all_taken, for_a_moment
from algorithmic_efficiency.runner import beside
from algorithmic_efficiency.runner.attempt import Attempt, Outcome
from algorithmic_efficiency.runner.interrupts import Interrupts
from algorithmic_efficiency.runner.settings import Plan, check_batch_size, claim
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.submissions.conventions import DEVICE_AXIS
from algorithmic_efficiency.telemetry.sample import Telemetry
from algorithmic_efficiency.telemetry.session import NoSession, Session, measure_idle
from algorithmic_efficiency.workloads.workload import Workload

_log = logging.getLogger(__name__)


class Compilation(NamedTuple):
  """Whether a model is compiled, and the reason where that needs one."""

  chosen: bool
  reason: str


class Study:
  """A plan with its framework, submission and data at hand.

  Making one imports the framework and reads the data; it raises UsageError for whatever of that
  fails, and has then written nothing.
  """

  def __init__(self, plan: Plan) -> None:
    self.plan = plan
    settings = plan.settings
    if _is_alone(plan.framework):
      claim(plan)
      points = self._start_sampling()  # beside the import of the framework
      self.framework = _load_framework(plan)
      self.is_first = True
    else:
      self.framework = _load_framework(plan)
      self.is_first = self.framework.processes.index() == 0
      self._first_then_all(lambda: claim(plan) if self.is_first else None)
      seed = self.framework.processes.share(plan.seed)
      self.plan = plan = dataclasses.replace(plan, seed=seed)
      points = self._start_sampling()
    self.submission = loader.load(plan.submission, plan.api, plan.framework)
    self.compiles = self._compiles()
    self.workload = Workload(
      plan.found,
      self.framework,
      settings.edition,
      plan.data_dir,
      plan.seed if settings.data == 'synthetic' else None,
      self.compiles.chosen,
    )
    self.batch_size = self._batch_size()
    self._first_then_all(lambda: check_batch_size(plan, self.batch_size))
    self.interrupts = Interrupts()
    with self.interrupts.caught():
      self._first_then_all(self._load_data)  # one process downloads, the others find it there
    self.points = points()
    self.telemetry = Telemetry([] if settings.telemetry == 'off' or not self.is_first else None)
    self.idle_watts: dict[str, float] = {}
    self.algoperf_log: AlgoperfLog | None = None

  def run(self) -> list[Outcome]:
    """Runs the trials; one that fails does not keep the next from running.

    Raises Interrupted when asked to stop, MeasurementError when a record cannot be made.
    """
    with _disk_faults_told(), self.interrupts.caught(), self._all_locked() as locks:
      self._measure_idle()
      finish_packages = self._open_record()
      plan = self.plan
      sinks = plan.exports if self.is_first else ()
      with exported(plan.folder, plan.trials, sinks, self.telemetry.leave_out):
        return self._run_trials(locks, finish_packages)

  def describe(self) -> dict[str, Any]:
    """metadata.json's content."""
    plan, settings = self.plan, self.plan.settings
    content: dict[str, Any] = {
      'workload': plan.folder.name,
      'framework': plan.framework,
      'log_dir': str(plan.folder.root),
      'submission_path': settings.submission_path,
      'tuning_search_space': settings.tuning_search_space,
      'command': settings.command,
      'num_tuning_trials': plan.num_trials,
      'max_global_steps': settings.max_global_steps,
      **plan.identity(),
      'batch_size': self.batch_size,
      'data_source': self.workload.data_source(),
      'device': self.framework.device(),
      'num_devices': self.framework.num_devices(),
      'num_processes': self.framework.processes.count(),
      'submission_api': plan.api if plan.framework == 'jax' else None,
      'torch_compile': self.compiles.chosen if plan.framework == 'pytorch' else None,
      'torch_compile_reason': self.compiles.reason or None,
      **metadata.describe_machine(),
      **self.telemetry.describe(),
      **{f'{name}.idle_watts': watts for name, watts in self.idle_watts.items()},
      **{f'workload.{name}': value for name, value in self.workload.properties().items()},
      **plan.extra,
    }
    return {key: value for key, value in content.items() if value is not None}

  def _run_trials(self, locks: dict[Path, TrialLock], finish_packages: Any) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for index, point in zip(self.plan.trials, self.points, strict=True):
      folder = self.plan.folder.trial(index)
      before = self._of_the_first(folder.read_state)
      if before is not None and before['status'] in FINISHED:
        _log.info('trial %d is %s already; skipped.', index + 1, before['status'])
        outcomes.append(before)
        continue
      lock = locks[folder.lock] if self.is_first else None
      attempt = self._attempt(index, point, folder, lock, before, finish_packages)
      outcomes.append(attempt.run())
      finish_packages = None  # waited for before the first trial's clock
      # Compiled code goes too, so that every trial pays for its own compilation.
      self.framework.free_memory()
    if finish_packages is not None:  # every trial was there already
      finish_packages()
    if self.algoperf_log is not None:
      self.algoperf_log.final(_score(outcomes))
      self.algoperf_log.close()
    return outcomes

  def _attempt(
    self, index: int, point: Any, folder: TrialFolder, lock: Any, before: Any, finish_packages: Any
  ) -> Attempt:
    """An attempt that goes on from the newest checkpoint, or begins anew beside what was left."""
    try:
      attempt = Attempt(self, index, point, folder, lock, before, finish_packages)
    except UsageError as error:  # the same in all processes
      raise error if self.is_first else ToldByTheFirst(str(error)) from error
    if not attempt.goes_on and self.is_first:
      aside = folder.set_aside()
      if aside:
        _log.info('trial %d starts anew; its unfinished record is kept as *.%s.', index + 1, aside)
    return attempt

  @contextlib.contextmanager
  def _all_locked(self) -> Generator[dict[Path, TrialLock], None, None]:
    """Holds the locks of this command's trials; makes the folder. Raises UsageError."""
    plan, folder = self.plan, self.plan.folder
    with contextlib.ExitStack() as stack:
      locks: dict[Path, TrialLock] = {}

      def take() -> None:
        if self.is_first:
          folder.make()
          paths = {folder.trial(index).lock for index in plan.trials}
          paths |= folder.locks() if plan.settings.overwrite else set()
          locks.update(stack.enter_context(all_taken(sorted(paths))))

      self._first_then_all(take)
      yield locks

  def _first_then_all(self, action: Callable[[], None]) -> None:
    """Does it in the first process and then in the others, or tells all what went wrong there."""
    processes = self.framework.processes
    problem = None
    if self.is_first:
      try:
        action()
      except UsageError as error:
        if processes.count() == 1:
          raise
        problem = str(error)
    problem = processes.share(problem)
    if problem is not None:
      raise UsageError(problem) if self.is_first else ToldByTheFirst(problem)
    if not self.is_first:
      action()

  def _of_the_first(self, read: Callable[[], Any]) -> Any:
    """What the first process reads, in all of them."""
    return self.framework.processes.share(read() if self.is_first else None)

  def session(self, folder: TrialFolder) -> NoSession:
    """The telemetry of a trial that begins now."""
    settings = self.plan.settings
    if settings.telemetry == 'off' or not self.is_first:
      return NoSession()
    hz = settings.telemetry_hz if settings.telemetry == 'continuous' else 0.0
    compiled = self.framework.compile_seconds
    # Of several processes the first samples for all, whose devices it does not know.
    uuids: list[str] = (
      self.framework.device_uuids() if self.framework.processes.count() == 1 else []
    )
    return Session(self.telemetry, folder, hz, self.idle_watts, compiled, uuids)

  def _measure_idle(self) -> None:
    """What the devices draw while nothing runs; the other processes wait too."""
    seconds = self.plan.settings.telemetry_idle_sec
    if seconds and self.is_first:
      _log.info('measuring the idle power for %g s', seconds)
      self.idle_watts = measure_idle(self.telemetry, seconds)
      if not self.idle_watts:
        _log.warning('no device here tells its power, so there is no idle power.')
    if seconds:
      self.framework.processes.share(None)

  def _load_data(self) -> None:
    for split in ('train', 'validation', 'test'):
      self.workload.load(split)

  def _compiles(self) -> Compilation:
    """Whether torch.compile is used, and why not."""
    asked = self.plan.settings.torch_compile
    if self.plan.framework != 'pytorch':
      return Compilation(False, '')
    if asked != 'auto':
      return Compilation(asked == 'true', f'--torch_compile={asked}')
    reason = self.plan.found.facts.torch_compile_off or self.framework.compile_does_not_help()
    return Compilation(not reason, reason)

  def _start_sampling(self) -> Any:
    """Draws the points beside the framework's import; the returned function waits for them."""
    plan = self.plan
    if plan.space is None:
      return lambda: [None] * len(plan.trials)
    start, end = plan.trials.start, plan.trials.stop
    if plan.space.trials is not None:
      points = sampling.sample(plan.space, start, end, plan.seed)
      return lambda: points
    seed = derive(plan.seed)
    arguments = (str(plan.space_path), str(start), str(end), str(seed))
    wait = beside.start(sampling.__name__, *arguments)
    return lambda: json.loads(wait())

  def _batch_size(self) -> int:
    facts = self.workload.facts
    size, eval_size = loader.batch_sizes(
      self.submission, facts.name, self.plan.found.folder, self.plan.settings.batch_size
    )
    if eval_size is not None:
      self.workload.eval_batch_size = eval_size
    devices = self.framework.num_devices()
    for name, value in (('Batch size', size), ('Evaluation batch size', eval_size or devices)):
      if value % devices:
        raise UsageError(
          f'{name} {value} does not divide over {devices} devices; use a multiple of {devices}.'
        )
    return size

  def _open_record(self) -> Any:
    plan = self.plan
    if not self.is_first:
      return None
    with for_a_moment(plan.folder.path):  # several commands may begin at once
      if plan.settings.overwrite:
        plan.folder.clear()
      else:
        claim(plan)  # again: somebody may have been quicker
      if not plan.folder.metadata.exists():  # the first of a study's commands describes it
        metadata.write(plan.folder.metadata, self.describe())
    if plan.folder.algoperf:
      self.algoperf_log = AlgoperfLog(plan.folder.root, plan.folder.name)
    if plan.folder.packages.exists():
      return None
    return beside.start(packages.__name__, str(plan.folder.packages))


def _score(outcomes: list[Outcome]) -> float:
  """The least submission time of a trial that reached both targets."""
  times = [o['last_evaluation']['score'] for o in outcomes if o['goal_reached']]
  return min(times, default=float('inf'))


def _load_framework(plan: Plan) -> Any:
  return frameworks.load(plan.framework, plan.api == DEVICE_AXIS, plan.settings.device)


def _is_alone(framework: str) -> bool:
  try:
    return environment.this_process(framework).count == 1
  except ValueError as error:
    raise UsageError(f"The launcher's variables make no sense: {error}; mend them.") from error


@contextlib.contextmanager
def _disk_faults_told() -> Generator[None, None, None]:
  """A folder that cannot be made, renamed or removed ends the run with one line."""
  try:
    yield
  except OSError as error:
    raise MeasurementError(
      f'{error.filename!r} cannot be changed ({error.strerror}); '
      'free space or mend the folder, then go on with --resume.'
    ) from error
