"""This file is a training algorithm as the loop uses it: each of the API's long calls, once."""

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import SubmissionError
from algorithmic_efficiency.spec import TrainingCompleteError


class Submission(NamedTuple):
  """The functions a submission is made of; see the submission API for their arguments.

  `trial` below is the state of a run: params, model_state, optimizer_state, global_step,
  eval_results, training_complete and train_state().
  """

  path: Path
  get_batch_size: Callable[[str], int]
  init_optimizer_state: Callable[..., Any]
  update_params: Callable[..., Any]
  data_selection: Callable[..., Any]
  prepare_for_eval: Callable[..., Any] | None
  get_eval_batch_size: Callable[[str], int] | None
  wants_train_state: bool

  def start(self, workload: Any, trial: Any, hyperparameters: Any, rng: Any) -> None:
    """Makes the optimizer state."""
    trial.optimizer_state = self.init_optimizer_state(
      workload, trial.params, trial.model_state, hyperparameters, rng
    )

  def select(self, workload: Any, trial: Any, hyperparameters: Any, queue: Any, rng: Any) -> Any:
    """The batch of the next step."""
    return self.data_selection(
      workload,
      queue,
      trial.optimizer_state,
      trial.params,
      trial.model_state,
      hyperparameters,
      trial.global_step,
      rng,
    )

  def update(self, workload: Any, trial: Any, hyperparameters: Any, batch: Any, rng: Any) -> None:
    """One step: replaces the trial's optimizer state, parameters and model state."""
    extra = {}
    if self.wants_train_state:
      extra['train_state'] = MappingProxyType(trial.train_state())
    try:
      returned = self.update_params(
        workload=workload,
        current_param_container=trial.params,
        current_params_types=trial.param_types,
        model_state=trial.model_state,
        hyperparameters=hyperparameters,
        batch=batch,
        loss_type=workload.loss_type,
        optimizer_state=trial.optimizer_state,
        eval_results=trial.eval_results,
        global_step=trial.global_step,
        rng=rng,
        **extra,
      )
    except TrainingCompleteError:
      trial.training_complete = True
      return
    try:
      trial.optimizer_state, trial.params, trial.model_state = returned
    except (TypeError, ValueError) as error:
      raise _no_triple('update_params', returned) from error

  def prepare(self, workload: Any, trial: Any, hyperparameters: Any, rng: Any) -> None:
    """What the algorithm does before an evaluation, if anything; on the clock."""
    if self.prepare_for_eval is None:
      return
    returned = self.prepare_for_eval(
      workload=workload,
      current_param_container=trial.params,
      current_params_types=trial.param_types,
      model_state=trial.model_state,
      hyperparameters=hyperparameters,
      loss_type=workload.loss_type,
      optimizer_state=trial.optimizer_state,
      eval_results=trial.eval_results,
      global_step=trial.global_step,
      rng=rng,
    )
    try:
      trial.optimizer_state, trial.params, trial.model_state = returned
    except (TypeError, ValueError) as error:
      raise _no_triple('prepare_for_eval', returned) from error


def _no_triple(function: str, returned: Any) -> SubmissionError:
  what = (
    f'{len(returned)} values' if isinstance(returned, tuple | list) else type(returned).__name__
  )
  return SubmissionError(
    f'{function} returned {what}, not (optimizer_state, parameters, model_state)'
  )
