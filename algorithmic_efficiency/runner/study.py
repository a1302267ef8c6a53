"""This file runs a study: its trials one after another, each into its own record."""

import contextlib
import json
import logging
from collections.abc import Generator
from typing import Any

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.hparams import sampling
from algorithmic_efficiency.records import metadata, packages
from algorithmic_efficiency.records.run_folder import FINISHED
from algorithmic_efficiency.runner import beside, seeds
from algorithmic_efficiency.runner.attempt import Attempt, Outcome
from algorithmic_efficiency.runner.interrupts import Interrupts
from algorithmic_efficiency.runner.settings import Plan, check_batch_size, claim
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.telemetry.sample import Telemetry
from algorithmic_efficiency.workloads.workload import Workload

_log = logging.getLogger(__name__)


class Study:
  """A plan with its framework, submission and data at hand.

  Making one imports the framework and reads the data; it raises UsageError for whatever of that
  fails, and has then written nothing.
  """

  def __init__(self, plan: Plan) -> None:
    claim(plan)
    self.plan = plan
    settings = plan.settings
    points = self._start_sampling()
    self.framework = frameworks.load(plan.framework)
    self.submission = loader.load(plan.submission)
    self.workload = Workload(
      plan.found,
      self.framework,
      settings.edition,
      plan.data_dir,
      plan.seed if settings.data == 'synthetic' else None,
    )
    self.batch_size = self._batch_size()
    check_batch_size(plan, self.batch_size)
    self.interrupts = Interrupts()
    with self.interrupts.caught():
      for split in ('train', 'validation', 'test'):
        self.workload.load(split)
    self.points = points()
    self.telemetry = Telemetry()

  def run(self) -> list[Outcome]:
    """Runs the trials; one that fails does not keep the next from running.

    Raises Interrupted when asked to stop, MeasurementError when a record cannot be made.
    """
    outcomes: list[Outcome] = []
    with _disk_faults_told(), self.interrupts.caught():
      finish_packages = self._open_record()
      for index, point in zip(self.plan.trials, self.points, strict=True):
        folder = self.plan.folder.trial(index)
        before = folder.read_state()
        if before is not None and before['status'] in FINISHED:
          _log.info('trial %d is %s already; skipped.', index + 1, before['status'])
          outcomes.append(before)
          continue
        aside = folder.set_aside()
        if aside:
          _log.info(
            'trial %d starts anew; its unfinished record is kept as *.%s.', index + 1, aside
          )
        outcomes.append(Attempt(self, index, point, folder, finish_packages).run())
        finish_packages = None  # waited for before the first trial's clock
        # Compiled code goes too, so that every trial pays for its own compilation.
        self.framework.free_memory()
      if finish_packages is not None:  # every trial was there already
        finish_packages()
    return outcomes

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
      'num_devices': self.framework.num_devices(),
      **metadata.describe_machine(),
      **self.telemetry.describe(),
      **{f'workload.{name}': value for name, value in self.workload.properties().items()},
      **plan.extra,
    }
    return {key: value for key, value in content.items() if value is not None}

  def _start_sampling(self) -> Any:
    """Draws the points beside the framework's import; the returned function waits for them."""
    plan = self.plan
    if plan.space is None:
      return lambda: [None] * len(plan.trials)
    start, end = plan.trials.start, plan.trials.stop
    if plan.space.trials is not None:
      points = sampling.sample(plan.space, start, end, plan.seed)
      return lambda: points
    seed = seeds.derive(plan.seed)
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
    if plan.settings.overwrite:
      plan.folder.clear()
    plan.folder.make()
    if not plan.folder.metadata.exists():  # the first of a study's commands describes it
      metadata.write(plan.folder.metadata, self.describe())
    if plan.folder.packages.exists():
      return None
    return beside.start(packages.__name__, str(plan.folder.packages))


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
