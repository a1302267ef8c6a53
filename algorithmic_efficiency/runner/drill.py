"""This file has a submission take a few steps on synthetic data and looks at what it does."""

import contextlib
import copy
import math
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import SubmissionError
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.rules import Rules
from algorithmic_efficiency.runner.seeds import TrialSeeds, seed_everything
from algorithmic_efficiency.runner.trial import Trial
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.submissions.submission import Submission

STEPS = 3  # before the evaluation; one more follows it
_COMPILING_SEC = 0.02  # more than this in a step that was compiled before is another compilation

Arrays = dict[str, np.ndarray[Any, Any]]


class _Stopped(Exception):
  """The submission cannot be taken any further; the report says why."""


class Drill:
  """Steps and an evaluation.

  Args:
    workload: on synthetic data.
    framework: of the workload.
    submission: to be drilled.
    hyperparameters: a point as a namedtuple, or None.
    dropout: arguments for `init_model_fn`.
  """

  def __init__(
    self,
    workload: Any,
    framework: Any,
    submission: Submission,
    hyperparameters: Any,
    dropout: dict[str, Any],
  ) -> None:
    self._workload = workload
    self._framework = framework
    self._submission = submission
    self._hyperparameters = hyperparameters
    self._dropout = dropout
    self._metrics: dict[str, float] | None = None

  def run(self, batch_size: int, report: Any) -> Arrays | None:
    """The parameters after the last step; None if it did not come that far."""
    try:
      return self._run(batch_size, report)
    except _Stopped:
      return None

  def _run(self, batch_size: int, report: Any) -> Arrays:
    trial, seeds = self._start(report)
    queue = self._workload.training_queue(seeds.data, batch_size)
    before = self._framework.snapshot(trial.params, trial.model_state)
    compiled = 0.0
    for step in range(STEPS):
      compiled = self._framework.compile_seconds()
      self._step(trial, seeds, queue, batch_size, report)
      if trial.training_complete:
        report.note(f'it ended training at step {step} by TrainingCompleteError')
        break
    if self._framework.compile_seconds() - compiled > _COMPILING_SEC:
      report.note(
        f'it compiled anew in step {STEPS}; make what changes from step to step an argument that '
        'is traced, not a static one'
      )
    after = self._framework.snapshot(trial.params, trial.model_state)
    self._compare(before, after, report)
    self._evaluate(trial, seeds, report)
    if not trial.training_complete:
      self._step_after_evaluation(trial, seeds, queue, batch_size, report)
    return self._framework.snapshot(trial.params, trial.model_state)[0]

  def _start(self, report: Any) -> tuple[Trial, TrialSeeds]:
    seeds = TrialSeeds(0, self._framework.keys)
    seed_everything(seeds.hidden, self._framework)
    trial = Trial()
    trial.clock = Clock(lambda: self._framework.wait(trial.params))
    trial.rules = Rules(self._workload, self_tuning=self._hyperparameters is None)
    params = self._workload.init_model_fn(seeds.model, **self._dropout)
    trial.params, trial.model_state = params
    trial.param_types = self._workload.model_params_types
    with self._told('init_optimizer_state', report):
      self._submission.start(self._workload, trial, self._hyperparameters, seeds.optimizer)
    self._look_at_state(trial.optimizer_state, report)
    return trial, seeds

  def _look_at_state(self, state: Any, report: Any) -> None:
    kind = type(state).__name__
    if self._framework.NAME == 'jax':
      usual = isinstance(state, tuple) and len(state) == 2 and callable(state[1])  # pyright: ignore[reportUnknownArgumentType]
      custom = 'a pair (state, update function)'
    else:
      usual, custom = isinstance(state, dict), 'a dict'
    if usual:
      report.ok(f'init_optimizer_state gives {custom}')
    else:
      report.note(
        f'init_optimizer_state gives a {kind}; the custom is {custom}, which other tools rely on'
      )

  def _step(
    self, trial: Trial, seeds: TrialSeeds, queue: Any, batch_size: int, report: Any
  ) -> None:
    select_rng, update_rng, _ = seeds.of_step(trial.global_step)
    point = self._hyperparameters
    with self._told('data_selection', report):
      batch = self._submission.select(self._workload, trial, point, queue, select_rng)
    self._look_at_batch(batch, batch_size, report, tell=trial.global_step == 0)
    with self._told('update_params', report):
      self._submission.update(self._workload, trial, point, batch, update_rng)
    if trial.global_step == 0:
      report.ok('update_params gives (optimizer_state, parameters, model_state)')
    trial.global_step += 1

  def _look_at_batch(self, batch: Any, batch_size: int, report: Any, tell: bool) -> None:
    kind = type(batch).__name__
    if not isinstance(batch, Mapping) or not {'inputs', 'targets'} <= batch.keys():
      report.mend(
        f'data_selection gives a {kind} without inputs and targets; '
        'give a batch as the input queue does'
      )
      raise _Stopped
    size = math.prod(batch['targets'].shape)  # pyright: ignore[reportUnknownMemberType,reportUnknownArgumentType]
    if tell and size == batch_size:
      report.ok('data_selection gives a batch of the size asked for')
    elif tell:
      report.note(f'data_selection gives {size} examples where the queue has {batch_size}')

  def _compare(self, before: tuple[Arrays, Arrays], after: tuple[Arrays, Arrays],
               report: Any) -> None:  # fmt: skip
    self._same_form('parameters', before[0], after[0], report)
    if not all(np.isfinite(array).all() for array in after[0].values()):
      report.mend(f'parameters are not finite after {STEPS} steps on synthetic data')
      raise _Stopped
    moved = [name for name in after[0] if not np.array_equal(before[0][name], after[0][name])]
    if not moved:
      report.mend(
        f'parameters are the same after {STEPS} steps; update_params must return new ones'
      )
    elif len(moved) < len(after[0]):
      still = [name for name in after[0] if name not in moved]
      report.note(
        f'{len(still)} of {len(after[0])} parameters never moved, the first is {still[0]}'
      )
    else:
      report.ok('all parameters move, stay finite and keep their shapes')
    if after[1]:
      self._same_form('the model state', before[1], after[1], report)
      if all(np.array_equal(before[1][name], after[1][name]) for name in after[1]):
        report.note('batch statistics never moved; pass update_batch_norm=True in training')
      else:
        report.ok('batch statistics are brought up to date')

  def _same_form(self, what: str, before: Arrays, after: Arrays, report: Any) -> None:
    if before.keys() != after.keys():
      other = sorted(before.keys() ^ after.keys())
      report.mend(f'{what} have another structure than before: {", ".join(other[:3])}')
      raise _Stopped
    for name, old in before.items():
      new = after[name]
      if (old.shape, old.dtype) != (new.shape, new.dtype):
        report.mend(
          f'{what}: {name} was {old.dtype}{list(old.shape)} and came back as '
          f'{new.dtype}{list(new.shape)}; keep shapes and types'
        )
        raise _Stopped

  def _evaluate(self, trial: Trial, seeds: TrialSeeds, report: Any) -> None:
    if self._submission.prepare_for_eval is not None:
      before = self._framework.snapshot(trial.params, trial.model_state)
      _, _, rng = seeds.of_step(trial.global_step)
      with self._told('prepare_for_eval', report):
        self._submission.prepare(self._workload, trial, self._hyperparameters, rng)
      after = self._framework.snapshot(trial.params, trial.model_state)
      self._same_form('parameters after prepare_for_eval', before[0], after[0], report)
      report.ok('prepare_for_eval gives (optimizer_state, parameters, model_state)')
    # A second run is to see the same results, not to find them anew.
    found: dict[str, float] = self._metrics or self._workload.evaluate(
      trial.params, trial.model_state
    )
    self._metrics = found
    metrics = dict(found)
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
      report.mend(f'the evaluation gives no number for {", ".join(wrong)}')
      raise _Stopped
    report.ok(f'the evaluation is finite: validation/loss {metrics["validation/loss"]:.4f}')
    trial.eval_results.append((trial.global_step, metrics))

  def _step_after_evaluation(
    self, trial: Trial, seeds: TrialSeeds, queue: Any, batch_size: int, report: Any
  ) -> None:
    results = copy.deepcopy(trial.eval_results)
    self._step(trial, seeds, queue, batch_size, report)
    if trial.eval_results != results:
      report.mend('it changes eval_results; only read them')
    else:
      report.ok('training goes on after an evaluation')

  @contextlib.contextmanager
  def _told(self, function: str, report: Any) -> Generator[None, None, None]:
    try:
      yield
    except SubmissionError as error:
      report.mend(str(error))
      raise _Stopped from error
    except (Exception, SystemExit) as error:  # someone else's function may raise anything
      report.mend(f'{function} raised {loader.describe(error, self._submission.path)}')
      raise _Stopped from error
