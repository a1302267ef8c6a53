"""This file says when a trial is evaluated and when it ends, by the edition of the rules."""

import math
from typing import Any

from algorithmic_efficiency.workloads.facts import EDITION_RULES

FIRST_EVALUATION_STEP = 1  # upstream evaluates after the first step, then by time


class Rules:
  """The rules for one trial.

  The budget is looked at after every step. Upstream (since 0.6) looks only when an evaluation is
  due; as none is made over budget, both find the same evaluations, and this one stops sooner.
  """

  def __init__(
    self,
    workload: Any,
    self_tuning: bool = False,
    max_global_steps: int | None = None,
    eval_period_steps: int | None = None,
    goal_counts: bool = True,
  ) -> None:
    edition = EDITION_RULES[workload.edition]
    factor = edition.self_tuning_factor if self_tuning else 1.0
    self.budget_sec: float = workload.max_allowed_runtime_sec * factor
    self._workload = workload
    self._edition = edition
    self._period_sec: float = workload.eval_period_time_sec
    self._max_steps = math.inf if max_global_steps is None else max_global_steps
    self._period_steps = eval_period_steps
    self._goal_counts = goal_counts  # never on synthetic data

  def reason_to_stop(self, trial: Any) -> str | None:
    """Why no further step is made, or None."""
    if trial.validation_goal_reached and trial.test_goal_reached:
      return 'both targets reached'
    if trial.training_complete:
      return 'the submission ended training'
    if trial.global_step >= self._max_steps:
      return f'{self._max_steps:,} steps made (--max_global_steps)'
    if trial.submission_sec >= self.budget_sec:
      return f'the budget of {self.budget_sec:g} s is spent'
    return None

  def evaluation_is_due(self, trial: Any, submission_sec: float) -> bool:
    """After the first step, every period of submission time, and when training has ended."""
    return (
      self._period_has_passed(trial, submission_sec)
      or trial.global_step == FIRST_EVALUATION_STEP
      or trial.global_step >= self._max_steps
      or trial.training_complete
    )

  def _period_has_passed(self, trial: Any, submission_sec: float) -> bool:
    if self._period_steps is not None:
      return trial.global_step % self._period_steps == 0
    return submission_sec - trial.last_eval_submission_sec >= self._period_sec

  def next_decision_sec(self, trial: Any) -> float:
    """The submission time at which time next decides something: an evaluation, or the end."""
    if self._period_steps is not None:
      return self.budget_sec
    return min(self.budget_sec, trial.last_eval_submission_sec + self._period_sec)

  def may_evaluate(self, submission_sec: float) -> bool:
    """Whether an evaluation that is due is made; `submission_sec` after prepare_for_eval."""
    return submission_sec < self.budget_sec or self._edition.evaluates_over_budget

  def note_evaluation(self, trial: Any, metrics: dict[str, float]) -> None:
    """Remembers targets met; once met they stay so."""
    if self._goal_counts:
      trial.validation_goal_reached |= self._workload.has_reached_validation_target(metrics)
      trial.test_goal_reached |= self._workload.has_reached_test_target(metrics)
