"""When a trial is evaluated and when it ends, edition by edition."""

from types import SimpleNamespace

import pytest

from algorithmic_efficiency.runner.rules import EDITION_RULES, Rules
from algorithmic_efficiency.runner.trial import Trial
from algorithmic_efficiency.workloads.facts import EDITIONS


class Accuracy:
  """A workload with targets of 0.9 (validation) and 0.8 (test), 100 s and a period of 10 s."""

  max_allowed_runtime_sec = 100.0
  eval_period_time_sec = 10.0

  def __init__(self, edition='1.0'):
    self.edition = edition

  def has_reached_validation_target(self, metrics):
    return metrics['validation/accuracy'] >= 0.9

  def has_reached_test_target(self, metrics):
    return metrics['test/accuracy'] >= 0.8


def found(validation, test):
  return {'validation/accuracy': validation, 'test/accuracy': test}


def after(trial, submission_sec):
  """The trial when it has used so much time."""
  trial.submission_sec = submission_sec
  return trial


def test_there_are_rules_for_every_edition():
  assert set(EDITION_RULES) == set(EDITIONS)


@pytest.mark.parametrize(
  ('edition', 'self_tuning', 'budget'),
  [
    ('0.5', False, 100), ('0.6', False, 100), ('1.0', False, 100),
    ('0.5', True, 300), ('0.6', True, 150), ('1.0', True, 150),
  ],
)  # fmt: skip
def test_the_budget_by_edition_and_ruleset(edition, self_tuning, budget):
  rules = Rules(Accuracy(edition), self_tuning=self_tuning)
  assert rules.budget_sec == budget
  trial = Trial(global_step=5)
  assert rules.reason_to_stop(after(trial, budget - 0.01)) is None
  assert f'budget of {budget:g} s' in rules.reason_to_stop(after(trial, budget))
  assert rules.reason_to_stop(after(trial, budget + 1)) is not None


@pytest.mark.parametrize(('edition', 'over'), [('0.5', True), ('0.6', False), ('1.0', False)])
def test_only_edition_05_evaluates_over_budget(edition, over):
  rules = Rules(Accuracy(edition))
  assert rules.may_evaluate(99.9)
  assert rules.may_evaluate(100.0) is over
  assert rules.may_evaluate(250.0) is over


def test_the_first_evaluation_is_due_after_the_first_step():
  rules = Rules(Accuracy())
  assert rules.evaluation_is_due(Trial(global_step=1), 0.001)
  assert not rules.evaluation_is_due(Trial(global_step=2), 0.002)


def test_then_one_is_due_every_period_of_submission_time():
  """Counted from the submission time of the last evaluation; nothing else counts."""
  rules = Rules(Accuracy())
  trial = Trial(global_step=50, last_eval_submission_sec=3.5)
  assert not rules.evaluation_is_due(trial, 13.49)
  assert rules.evaluation_is_due(trial, 13.5)
  assert rules.evaluation_is_due(trial, 60.0)
  trial.last_eval_submission_sec = 13.5
  assert not rules.evaluation_is_due(trial, 13.6)


def test_by_steps_the_time_does_not_matter():
  rules = Rules(Accuracy(), eval_period_steps=4)
  due = [s for s in range(1, 13) if rules.evaluation_is_due(Trial(global_step=s), 1e-9)]
  assert due == [1, 4, 8, 12]
  late = [s for s in range(1, 13) if rules.evaluation_is_due(Trial(global_step=s), 99.0)]
  assert late == due


@pytest.mark.parametrize('eval_period_steps', [None, 1000])
def test_an_evaluation_is_due_at_the_end(eval_period_steps):
  rules = Rules(Accuracy(), max_global_steps=7, eval_period_steps=eval_period_steps)
  assert not rules.evaluation_is_due(Trial(global_step=6), 0.1)
  assert rules.evaluation_is_due(Trial(global_step=7), 0.1)
  assert rules.evaluation_is_due(Trial(global_step=5, training_complete=True), 0.1)


def test_no_step_is_made_beyond_max_global_steps():
  rules = Rules(Accuracy(), max_global_steps=1200)
  assert rules.reason_to_stop(after(Trial(global_step=1199), 0.0)) is None
  assert '1,200 steps' in rules.reason_to_stop(after(Trial(global_step=1200), 0.0))
  assert rules.reason_to_stop(after(Trial(global_step=1201), 0.0)) is not None
  assert Rules(Accuracy()).reason_to_stop(after(Trial(global_step=10**9), 0.0)) is None


def test_the_submission_ends_training():
  reason = Rules(Accuracy()).reason_to_stop(after(Trial(training_complete=True), 0.0))
  assert 'submission' in reason


@pytest.mark.parametrize(
  ('validation', 'test', 'stops'),
  [(0.95, 0.85, True), (0.9, 0.8, True), (0.95, 0.1, False), (0.1, 0.85, False)],
)
def test_both_targets_must_be_reached(validation, test, stops):
  rules, trial = Rules(Accuracy()), Trial(global_step=1)
  assert rules.reason_to_stop(after(trial, 1.0)) is None
  rules.note_evaluation(trial, found(validation, test))
  assert trial.goal_reached is stops
  assert (rules.reason_to_stop(after(trial, 1.0)) is not None) is stops
  if stops:
    assert 'target' in rules.reason_to_stop(after(trial, 1.0))


def test_a_target_once_reached_stays_so():
  rules, trial = Rules(Accuracy()), Trial(global_step=1)
  rules.note_evaluation(trial, found(0.95, 0.0))
  rules.note_evaluation(trial, found(0.0, 0.0))
  assert trial.validation_goal_reached
  assert not trial.test_goal_reached
  rules.note_evaluation(trial, found(0.0, 0.85))
  assert trial.goal_reached
  assert rules.reason_to_stop(after(trial, 1.0))


def test_synthetic_data_never_reaches_a_goal():
  rules, trial = Rules(Accuracy(), goal_counts=False), Trial(global_step=1)
  rules.note_evaluation(trial, found(1.0, 1.0))
  assert not trial.validation_goal_reached
  assert not trial.test_goal_reached
  assert rules.reason_to_stop(after(trial, 1.0)) is None


def test_rules_ask_only_the_facts_of_a_workload():
  facts = SimpleNamespace(edition='0.6', max_allowed_runtime_sec=10, eval_period_time_sec=2)
  assert Rules(facts, self_tuning=True).budget_sec == 15
