"""This file says what is true of a workload on any framework: numbers, not code."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from algorithmic_efficiency.spec import LossType

EDITIONS = ('0.5', '0.6', '1.0')  # of the rules, oldest first; the newest is the default
NEWEST_EDITION = EDITIONS[-1]


@dataclass(frozen=True)
class EditionRules:
  """What changed between editions of AlgoPerf's rules.

  Attributes:
    self_tuning_factor: budget of the self-tuning ruleset over that of external tuning.
    evaluates_over_budget: whether an evaluation that falls due in the step that uses up the
      budget is still made and may reach the target.
  """

  self_tuning_factor: float
  evaluates_over_budget: bool


EDITION_RULES = {
  '0.5': EditionRules(self_tuning_factor=3.0, evaluates_over_budget=True),
  '0.6': EditionRules(self_tuning_factor=1.5, evaluates_over_budget=False),
  '1.0': EditionRules(self_tuning_factor=1.5, evaluates_over_budget=False),
}


@dataclass(frozen=True)
class Budget:
  """What an edition grants a workload.

  Attributes:
    max_allowed_runtime_sec: submission time under external tuning.
    eval_period_time_sec: submission time between evaluations.
    step_hint: steps the reference algorithm takes to the target.
  """

  max_allowed_runtime_sec: float
  eval_period_time_sec: float
  step_hint: int


@dataclass(frozen=True, kw_only=True)
class Facts:
  """A workload's facts.

  Attributes:
    name: as the command takes it.
    summary: the model and the data in a line.
    data: where the data comes from, with its licence.
    source: of these facts.
    loss_type: the loss trained with, as submissions are told it.
    loss_name: of a loss that the submission API does not know, as frameworks/ have it; loss_type is
      then that of the API which takes the same logits. '' if the API knows it.
    target_metric_name: the metric whose target ends training; `lower_is_better` gives its sense.
    validation_target_value, test_target_value: reached when met or passed.
    num_train_examples, num_eval_train_examples, num_validation_examples, num_test_examples: of
      the splits.
    eval_batch_size: examples in a batch of an evaluation.
    input_shape: of one example, channels last.
    target_shape: of one target, an array of 0 and 1; () where it is the number of a class.
    num_classes: of the targets.
    train_mean, train_stddev: what inputs are normalised with, where pixels run from 0 to 1.
    num_params: trained numbers in the model, in either framework.
    dropout_rate: of a forward pass in training that names no other.
    torch_compile_off: why torch.compile is not used for the model by default; '' if it is.
    model: settings that both frameworks' model files read.
    budgets: edition to Budget.
    expected: what a good run does, for a reader to compare with.
  """

  name: str
  summary: str
  data: str
  source: str
  loss_type: LossType
  loss_name: str = ''
  target_metric_name: str
  lower_is_better: bool = False
  validation_target_value: float
  test_target_value: float | None
  num_train_examples: int
  num_eval_train_examples: int
  num_validation_examples: int
  num_test_examples: int | None
  eval_batch_size: int
  input_shape: tuple[int, ...]
  target_shape: tuple[int, ...] = ()
  num_classes: int
  train_mean: float | tuple[float, ...] | None = None
  train_stddev: float | tuple[float, ...] | None = None
  num_params: int
  dropout_rate: float = 0.0
  torch_compile_off: str = ''
  model: Mapping[str, Any]
  budgets: Mapping[str, Budget]
  expected: str

  def variant(self, name: str, **changes: Any) -> 'Facts':
    """The same workload with another model setting or target; `model` settings are merged."""
    model = {**self.model, **changes.pop('model', {})}
    return dataclasses.replace(self, name=f'{self.name}_{name}', model=model, **changes)


def same_in_every_edition(budget: Budget) -> dict[str, Budget]:
  """A budget that no edition changed."""
  return dict.fromkeys(EDITIONS, budget)
