"""This file runs one trial of a study, from its folder to its outcome, come what may."""

import collections
import contextlib
import datetime
import importlib.metadata
import json
import logging
import math
import signal
import time
import traceback
from collections.abc import Generator
from typing import Any

from algorithmic_efficiency import __version__
from algorithmic_efficiency.errors import MeasurementError, SubmissionError, UsageError
from algorithmic_efficiency.hparams.seeds import derive
from algorithmic_efficiency.records.appended_file import to_json
from algorithmic_efficiency.records.recorder import Recorder
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.records.trial_lock import TrialLock
from algorithmic_efficiency.records.whole_files import write_whole
from algorithmic_efficiency.runner import memory_tracing, seeds, streams, tracing
from algorithmic_efficiency.runner.agreement import Agreement
from algorithmic_efficiency.runner.checkpoint import Checkpoints, Saved
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.continuation import CountedQueue, objects, plain_part, take_up
from algorithmic_efficiency.runner.evaluation import Evaluation
from algorithmic_efficiency.runner.interrupts import Interrupted
from algorithmic_efficiency.runner.progress import Progress
from algorithmic_efficiency.runner.rules import Rules
from algorithmic_efficiency.runner.settings import Plan
from algorithmic_efficiency.runner.trial import Course, Metrics, Trial, run_trial
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.submissions.conventions import DEVICE_AXIS
from algorithmic_efficiency.telemetry.session import NoSession

_log = logging.getLogger(__name__)

Outcome = dict[str, Any]  # what a trial's trial.json holds


class Attempt:
  """One trial from its folder to its outcome.

  Args:
    study: it belongs to.
    index: from 0.
    point: its hyperparameters, or None.
    folder: its record.
    lock: held for it; None in processes that do not write.
    before: its state when it was left unfinished, and may be gone on with.
    finish_packages: waited for before the clock starts, if given.

  Making one raises UsageError if its checkpoint is of another run.
  """

  def __init__(
    self,
    study: Any,
    index: int,
    point: Any,
    folder: TrialFolder,
    lock: TrialLock | None,
    before: Outcome | None,
    finish_packages: Any,
  ) -> None:
    self._study = study
    self._plan: Plan = study.plan
    self._number = index + 1
    self._point: dict[str, Any] = point or {}
    self._folder = folder
    self._finish_packages = finish_packages
    self._writes: bool = study.is_first  # the others of several processes leave no record
    seed = derive(study.plan.seed, index)
    self._seeds = seeds.TrialSeeds(seed, study.framework.keys)
    self._started = time.time()
    self._lock = lock
    self._trial = Trial(alone=study.framework.processes.count() == 1)
    self._session = NoSession()
    self._memory = memory_tracing.make(study, folder, self._wait, self._warn)
    self._clock = Clock(
      self._wait, self._memory.now, lambda account: self._session.phases.observe(account)
    )
    self._agreement = Agreement(study.framework.processes, lambda: study.interrupts.asked)
    settings = study.plan.settings
    kept = settings.num_checkpoints_kept if settings.save_checkpoints else 0
    self._checkpoints = Checkpoints(folder, study.framework, self._identity(), kept)
    self._saved: Saved | None = self._newest_checkpoint() if before is not None else None
    self._preemptions = self._all_preemptions(before)
    self._rules = Rules(
      study.workload,
      self_tuning=study.plan.self_tuning,
      max_global_steps=settings.max_global_steps,
      eval_period_steps=settings.eval_period_steps,
      goal_counts=settings.data != 'synthetic',
    )
    self._progress = self._make_progress()
    self._profiler = tracing.make(study, folder, self._trial, self._clock, self._warn)
    self._compiled_before: float = study.framework.compile_seconds()
    if self._saved is not None:
      self._started: float = self._saved.content['started']
      self._compiled_before -= self._saved.content['compile_sec']
      step = self._saved.content['state']['global_step']
      self._profiler.take_up(self._saved.content.get('profiler'), step)
    self._static = self._static_columns()
    self._state: Outcome = {}
    self._prepared = False
    self._told_of_checkpoints = False

  @property
  def goes_on(self) -> bool:
    """Whether there is a checkpoint to go on from."""
    return self._saved is not None

  def run(self) -> Outcome:
    """Trains; the outcome is on disk when this returns or raises."""
    with self._outcome_recorded():
      with self._open_record() as self._recorder:
        _log.info('%s  %s', self._title, self._shown_point())
        if self._study.algoperf_log is not None:
          self._study.algoperf_log.begins(self._number, self._plan.num_trials)
        with self._memory, self._profiler:  # a checkpoint comes before the end of a trace
          reason = self._train_or_save()
        self._record_end()
      self._write_state('complete', reason)
    self._progress.clear()
    _log.info('%s  %s: %s.', self._title, self._state['status'], self._state['reason'])
    return self._state

  @contextlib.contextmanager
  def _open_record(self) -> Generator[Recorder | None, None, None]:
    if not self._writes:
      yield None
      return
    self._folder.path.mkdir(exist_ok=True)
    self._write_state('running', '')
    write_whole(self._folder.hparams, json.dumps(self._point, indent=2) + '\n')
    if self._plan.folder.algoperf:
      self._write_algoperf_files()
    recorder = Recorder(self._folder, self._plan.folder.algoperf)
    self._session = self._study.session(self._folder)
    try:
      if self._saved is not None:
        later = recorder.go_on(*self._saved.content['rows'])
        self._folder.keep_aside(later)
      yield recorder
    finally:
      self._session.close()
      recorder.close()

  def _train_or_save(self) -> str:
    """Trains; if it is asked to stop at a moment that can be saved, saves that first."""
    trial, interrupts = self._trial, self._study.interrupts
    try:
      with interrupts.waiting(lambda: self._prepared and not (trial.alone and trial.whole)):
        return self._train()
    except Interrupted as interrupted:
      if trial.whole and (trial.alone or self._agreement.stops):
        interrupted.saved = self._save()
      raise

  def _train(self) -> str:
    study, trial, workload = self._study, self._trial, self._study.workload
    trial.clock, trial.rules = self._clock, self._rules
    # Each process has hidden state of its own: their shares of a batch drop out different units.
    index = study.framework.processes.index()
    hidden = derive(self._seeds.hidden, index) if index else self._seeds.hidden
    seeds.seed_everything(hidden, study.framework)
    workload.metrics_logger = self._recorder
    hyperparameters = self._hyperparameters()
    trial.params, trial.model_state = workload.init_model_fn(
      self._seeds.model, **self._dropout_at_init()
    )
    trial.param_types = workload.model_params_types
    study.submission.start(workload, trial, hyperparameters, self._seeds.optimizer)
    if self._finish_packages is not None:
      self._finish_packages()
    if self._saved is not None:
      take_up(trial, self._clock, self._saved, study.framework)
      self._session.take_up(self._saved.content.get('telemetry', {}))
      self._tell_what_was_lost()
    drawn = 0 if self._saved is None else self._saved.content['batches_drawn']
    self._queue = CountedQueue(
      workload.training_queue(self._seeds.data, study.batch_size, drawn), drawn
    )
    study.telemetry.read()  # shares since the last reading count from here
    limit = self._plan.settings.eval_timeout_sec
    course = Course(
      workload=workload,
      submission=study.submission,
      hyperparameters=hyperparameters,
      seeds=self._seeds,
      rules=self._rules,
      clock=self._clock,
      agreement=self._agreement,
      queue=self._queue,
      evaluate=Evaluation(workload, study.framework, study.interrupts, limit, self._end_at_once),
      record=self._record,
      save=self._save_and_check,
      tick=self._tick,
      phases=self._session.phases,
      profiler=self._profiler,
    )
    self._prepared = trial.whole = True
    return run_trial(trial, course)

  def _hyperparameters(self) -> Any:
    if self._plan.self_tuning:
      return None
    return collections.namedtuple('Hyperparameters', self._point)(**self._point)  # pyright: ignore[reportUntypedNamedTuple]

  def _dropout_at_init(self) -> dict[str, Any]:
    """The dropout that submissions of the older generation leave to the bench to set."""
    if self._plan.framework == 'jax' and self._plan.api != DEVICE_AXIS:
      return {}
    return {n: self._point[n] for n in ('dropout_rate', 'aux_dropout_rate') if n in self._point}

  def _tick(self, trial: Trial, seconds: float) -> None:
    self._memory.step_ended(trial.global_step)
    self._stop_if_asked()
    self._progress.tick(trial.global_step, seconds)

  def _stop_if_asked(self) -> None:
    if self._trial.alone:
      self._study.interrupts.check()
    elif self._agreement.stops:  # known to all at the same step
      raise Interrupted(signal.SIGTERM)

  def _save_and_check(self) -> None:
    self._save()
    self._stop_if_asked()

  def _save(self) -> bool:
    """Whether a checkpoint of this moment is on the disk; without one training goes on."""
    if not self._plan.settings.save_checkpoints:
      return False
    trial, framework = self._trial, self._study.framework
    content = {
      **plain_part(trial, self._clock, self._queue),
      'rows': None if self._recorder is None else self._recorder.position,
      'started': self._started,
      'compile_sec': framework.compile_seconds() - self._compiled_before,
      'telemetry': self._session.state(),
      'preemptions': self._preemptions,
      'profiler': self._profiler.state(),
      'saved_at': time.time(),
      'library': self._library(),
    }
    with self._study.interrupts.held(then_check=False):
      try:
        self._checkpoints.save(
          trial.global_step, not trial.evaluation_pending, content, objects(trial, framework)
        )
      except MeasurementError as error:
        if not self._told_of_checkpoints:  # once is enough
          self._told_of_checkpoints = True
          self._progress.clear()
          _log.warning('%s; training goes on, and the checkpoints before are kept.', error)
        return False
    return True

  def _record(self, trial: Trial, metrics: Metrics) -> None:
    """One row on disk; then, if the loss is no number any more, the end of the trial."""
    trial.whole = False
    with self._study.interrupts.held():
      times = {
        'accumulated_submission_time': trial.last_eval_submission_sec,
        'accumulated_eval_time': self._clock.seconds('evaluation'),
        'accumulated_logging_time': self._clock.seconds('recording'),
        'total_duration': self._clock.total_seconds(),
      }
      times = self._study.framework.processes.share(times)  # submissions may decide by them
      if self._recorder is not None:
        self._recorder.evaluation(self._row(trial, metrics, times))
      seen = {**metrics, **times, 'score': trial.last_eval_submission_sec}
      trial.eval_results.append((trial.global_step, seen))
      if self._study.algoperf_log is not None:
        self._study.algoperf_log.evaluated(times['total_duration'], trial.global_step, seen)
      self._progress.evaluated(trial.global_step, trial.last_eval_submission_sec, metrics)
      for name, value in metrics.items():
        if not math.isfinite(value):
          raise SubmissionError(f'{name} is {value} at step {trial.global_step:,}')
      trial.whole = True

  def _row(self, trial: Trial, metrics: Metrics, times: dict[str, float]) -> dict[str, Any]:
    plain = {n: metrics[f'validation/{n}'] for n in ('accuracy', 'dice', 'loss')
             if f'validation/{n}' in metrics}  # fmt: skip
    return {
      **self._static,
      **times,
      'recorded_at': time.time(),
      'accumulated_compile_time': self._study.framework.compile_seconds() - self._compiled_before,
      'global_step': trial.global_step,
      'epoch': trial.global_step / self._static['steps_per_epoch'],
      **plain,
      **metrics,
      'goal_reached': trial.goal_reached,
      'validation_goal_reached': trial.validation_goal_reached,
      'test_goal_reached': trial.test_goal_reached,
      'preemption_count': len(self._preemptions),
      'accumulated_lost_time': self._clock.seconds('lost'),
      **self._profiler.columns(),
      **self._memory.columns(),
      **self._session.columns(),
    }

  def _static_columns(self) -> dict[str, Any]:
    plan, workload = self._plan, self._study.workload
    return {
      'workload': plan.folder.name,
      'framework': plan.framework,
      'run_idx': self._number,
      'batch_size': self._study.batch_size,
      **{f'hparam.{name}': value for name, value in self._point.items()},
      **{f'workload.{name}': value for name, value in workload.properties().items()},
      'steps_per_epoch': workload.num_train_examples / self._study.batch_size,
      'global_start_time': self._started,
      'trial_seed': self._seeds.seed,
      'rng_seed': plan.seed,
      'data': plan.settings.data,
      'edition': plan.settings.edition,
      **plan.extra,
    }

  @contextlib.contextmanager
  def _outcome_recorded(self) -> Generator[None, None, None]:
    """Writes how the trial ended, whatever happens; a failure of the algorithm ends only it."""
    interrupts = self._study.interrupts
    try:
      try:
        yield
      except Exception:
        interrupts.check()  # foreign code may have made an error of its own of the signal
        raise
    except (Interrupted, KeyboardInterrupt) as error:
      self._progress.clear()
      why = str(error) or type(error).__name__
      saved = ', saved' if getattr(error, 'saved', False) else ''
      self._write_state('interrupted', f'{why} at step {self._trial.global_step:,}{saved}')
      raise
    except (MeasurementError, UsageError) as error:
      self._progress.clear()
      # Not the algorithm's failure: --resume takes the trial up again.
      with contextlib.suppress(MeasurementError):  # the disk that refused a row may refuse this
        self._write_state('interrupted', str(error))
      raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it may raise anything
      self._progress.clear()
      with interrupts.held():
        self._write_state('failed', self._explain(error))
        if self._writes:
          write_whole(self._folder.error, traceback.format_exc())
      self._end_if_others_wait(error)

  def _end_if_others_wait(self, error: BaseException) -> None:
    """An error that may be this process's alone ends the run: the others wait for it in vain."""
    processes = self._study.framework.processes
    if processes.count() > 1 and not isinstance(error, SubmissionError):
      raise MeasurementError(
        f'Process {processes.index()} of {processes.count()} failed in {self._title}: '
        f'{self._explain(error)}; mend it, then go on with --resume.'
      ) from error

  def _explain(self, error: BaseException) -> str:
    if isinstance(error, SubmissionError):
      return str(error)
    where = f'after {self._trial.global_step:,} steps'
    return f'{loader.describe(error, self._plan.submission)} {where}'

  def _write_state(self, status: str, reason: str) -> None:
    trial, now = self._trial, datetime.datetime.now().isoformat(timespec='microseconds')
    last = trial.eval_results[-1][1] if trial.eval_results else {}
    self._state = {
      'run_idx': self._number,
      'status': status,
      'reason': reason,
      'trial_seed': self._seeds.seed,
      'hyperparameters': self._point,
      'global_step': trial.global_step,
      'goal_reached': trial.goal_reached,
      'last_evaluation': {k: last[k] for k in ('score', 'validation/loss') if k in last}
      | {k: v for k, v in last.items() if k.endswith(self._study.workload.target_metric_name)},
      'seconds': self._clock.accounts(),
      'preemptions': self._preemptions,
      'datetime': now,
    }
    measured = {'profiled': self._profiler.summary(), 'memory_traced': self._memory.summary()}
    self._state |= {name: told for name, told in measured.items() if told is not None}
    content = to_json(self._state)
    if self._writes:
      write_whole(self._folder.state, json.dumps(content, indent=2) + '\n')

  def _record_end(self) -> None:
    """What AlgoPerf's files say of a trial that has ended."""
    log, trial = self._study.algoperf_log, self._trial
    if log is None or self._recorder is None:
      return
    spent = trial.submission_sec
    results = trial.eval_results
    log.ended(self._number, self._plan.num_trials, self._point, results, trial.global_step, spent)
    self._recorder.append_scalar_metrics(
      {'score': spent, 'preemption_count': len(self._preemptions)}, trial.global_step
    )

  def _write_algoperf_files(self) -> None:
    content = to_json(self._study.describe())
    count = len(self._preemptions)
    write_whole(self._folder.meta_data(count), json.dumps(content, indent=2) + '\n')
    flags: dict[str, Any] = vars(self._plan.settings)
    write_whole(self._folder.flags(count), json.dumps(flags, indent=2) + '\n')

  def _identity(self) -> dict[str, Any]:
    """What must be the same for a checkpoint to be gone on from."""
    framework = self._study.framework
    return {
      **self._plan.identity(),
      'trial_seed': self._seeds.seed,
      'hyperparameters': to_json(self._point),
      'batch_size': self._study.batch_size,
      'num_devices': framework.num_devices(),
      'num_processes': framework.processes.count(),
      'version': __version__,
    }

  def _newest_checkpoint(self) -> Saved | None:
    return self._checkpoints.newest(self._folder.num_rows() if self._writes else 0)

  def _all_preemptions(self, before: Outcome | None) -> list[dict[str, Any]]:
    """Where the trial was taken up again, and the seconds lost, this time included."""
    if self._saved is None:
      return []
    known: list[dict[str, Any]] = (before or {}).get('preemptions') or []
    known = known if len(known) > len(self._saved.content['preemptions']) else [
      *self._saved.content['preemptions']
    ]  # fmt: skip
    since = max([self._saved.content['saved_at'], *(p['resumed_at'] for p in known)])
    state = self._saved.content['state']
    last_seen = None if self._lock is None else self._lock.last_seen
    if before is not None and before['global_step'] > state['global_step']:  # it stopped later
      last_seen = datetime.datetime.fromisoformat(before['datetime']).timestamp()
    lost = 0.0 if last_seen is None else max(0.0, last_seen - since)
    now = {'global_step': state['global_step'], 'resumed_at': self._started, 'lost_sec': lost}
    return self._study.framework.processes.share([*known, now])

  def _tell_what_was_lost(self) -> None:
    """Charges what was done since the checkpoint, and then lost, to an account of its own."""
    lost = sum(p['lost_sec'] for p in self._preemptions)
    already = self._clock.seconds('lost')
    self._clock.take_up({'lost': max(0.0, lost - already)})
    _log.info(
      '%s  goes on from step %s (%s); %.1f s of work after it were lost.',
      self._title, f'{self._trial.global_step:,}', self._saved and self._saved.path.name,
      self._preemptions[-1]['lost_sec'],
    )  # fmt: skip
    before = self._saved and self._saved.content['library']
    if before != self._library():
      _log.warning(
        'the checkpoint is of %s, and this is %s: numbers may differ from those of a run that was '
        'not interrupted.', before, self._library(),
      )  # fmt: skip

  def _library(self) -> str:
    name = {'pytorch': 'torch'}.get(self._plan.framework, self._plan.framework)
    return f'{name} {importlib.metadata.version(name)}'

  def _end_at_once(self, reason: str) -> None:
    """Ends the process from another thread, for an evaluation that hears nothing."""
    self._write_state('failed', reason)
    streams.complain(f'submission_runner: error: {self._title}: {reason}.')
    streams.leave_at_once(1)

  def _make_progress(self) -> Progress:
    workload = self._study.workload
    targets = {'validation': workload.validation_target_value, 'test': workload.test_target_value}
    name = workload.target_metric_name
    shown = [f'{split}/{name}' for split, target in targets.items() if target is not None]
    self._title = f'trial {self._number}/{self._plan.num_trials}'
    limit = self._plan.settings.max_global_steps
    budget_sec, quiet = self._rules.budget_sec, not self._writes
    return Progress(self._title, budget_sec, limit, shown, quiet, lambda: self._session.joules())

  def _warn(self, problem: str) -> None:
    self._progress.clear()
    _log.warning('%s %s.', self._title, problem)

  def _shown_point(self) -> str:
    shown = ', '.join(
      f'{name} {value:.4g}' if isinstance(value, float) else f'{name} {value}'
      for name, value in self._point.items()
    )
    return f'{shown or "no hyperparameters"}; seed {self._seeds.seed}'

  def _wait(self) -> None:
    trial = self._trial
    self._study.framework.wait(trial.params, trial.model_state, trial.optimizer_state)
