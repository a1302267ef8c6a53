"""This file says what is scored under an edition of the rules: workloads, targets, budgets.

The numbers of AlgoPerf's workloads are data, in editions.json; those of this bench's own workloads
are the workloads' facts.
"""

import functools
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.facts import EDITION_RULES, EDITIONS

RULESETS = ('external', 'self')
# A metric is better when lower if its name contains one of these, as AlgoPerf's scorer decides.
_LOWER_IS_BETTER = ('loss', 'error_rate', 'wer', 'ppl')


@dataclass(frozen=True)
class Goal:
  """What a workload asks for.

  Attributes:
    workload: its name, without a framework.
    metric: of the validation split, such as 'accuracy'.
    target: of that metric; meeting it is enough.
    lower_is_better: the metric's sense.
    budget_sec: submission time a trial is granted under external tuning; None where unknown.
    step_hint: steps of the reference algorithm; None where unknown.
  """

  workload: str
  metric: str
  target: float
  lower_is_better: bool
  budget_sec: float | None = None
  step_hint: int | None = None

  def met(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which of the metric's values meet the target; NaN does not."""
    return values <= self.target if self.lower_is_better else values >= self.target


@dataclass(frozen=True)
class Edition:
  """An edition of AlgoPerf's rules, as far as scoring goes.

  Attributes:
    name: '0.5', '0.6' or '1.0'.
    num_studies, num_trials: what a submission is to bring; trials of external tuning, a study.
    self_tuning_factor: budget of self-tuning over that of external tuning.
    base_workloads: what the score is over.
    held_out_workloads: variants that must be reached as well for their base to count.
    goals: of every workload of AlgoPerf's, variants included.
  """

  name: str
  num_studies: int
  num_trials: int
  self_tuning_factor: float
  base_workloads: tuple[str, ...]
  held_out_workloads: tuple[str, ...]
  goals: dict[str, Goal]

  def goal(self, workload: str) -> Goal | None:
    """Of AlgoPerf's or this bench's own workloads; None for a name that is neither's."""
    return self.goals.get(workload) or own_goals(self.name).get(workload)

  def base_of(self, variant: str) -> str | None:
    """The base workload that a variant belongs to; None where it is nobody's."""
    near = [w for w in self.base_workloads if variant == w or variant.startswith(f'{w}_')]
    return max(near, key=len, default=None)

  def budget_sec(self, goal: Goal, ruleset: str) -> float | None:
    """Submission time that a trial is granted under the ruleset; None where unknown."""
    factor = self.self_tuning_factor if ruleset == 'self' else 1.0
    return None if goal.budget_sec is None else goal.budget_sec * factor

  def chosen(self, found: Collection[str], names: str) -> tuple[str, ...]:
    """The workloads that the score is over.

    Args:
      found: workloads that the logs have.
      names: 'auto' (the edition's if any of them is there, else what is found), 'edition',
        'found', or names with commas.

    Raises UsageError for a name without a target, or where nothing is left.
    """
    known = tuple(sorted(w for w in found if self.goal(w)))
    if names == 'auto':
      names = 'edition' if set(found) & set(self.base_workloads) else 'found'
    if names == 'edition':
      return self.base_workloads
    given = dict.fromkeys(w.strip() for w in names.split(',') if w.strip())
    chosen = known if names == 'found' else tuple(given)
    for name in chosen:
      if self.goal(name) is None:
        raise UsageError(unknown_name('workload', name, {*self.goals, *own_goals(self.name)}))
    if not chosen:
      raise UsageError(
        f'No workload is left to score (--workloads={names}); the logs have '
        f'{", ".join(sorted(found)) or "none"}.'
      )
    return chosen


@functools.cache
def load(name: str) -> Edition:
  """The edition of this name. Raises UsageError where there is none."""
  if name not in EDITIONS:
    raise UsageError(unknown_name('edition', name, EDITIONS))
  data = json.loads(Path(__file__).with_name('editions.json').read_text(encoding='utf-8'))
  rules = data['editions'][name]
  bare = Edition(
    name=name,
    num_studies=rules['num_studies'],
    num_trials=rules['num_trials'],
    self_tuning_factor=EDITION_RULES[name].self_tuning_factor,
    base_workloads=tuple(rules['base_workloads']),
    held_out_workloads=tuple(rules['held_out_workloads']),
    goals={},
  )
  for workload, facts in data['workloads'].items():
    budget = rules['budgets'].get(bare.base_of(workload), {})
    bare.goals[workload] = Goal(
      workload,
      facts['metric'],
      facts['validation_target'],
      lower_is_better(facts['metric']),
      budget.get('max_allowed_runtime_sec'),
      budget.get('step_hint'),
    )
  return bare


@functools.cache
def own_goals(edition: str) -> dict[str, Goal]:
  """Goals of the workloads in this package, by name."""
  goals = dict[str, Goal]()
  for name, found in registry.find_all().items():
    facts: Any = found.facts
    budget = facts.budgets.get(edition)
    goals[name] = Goal(
      name,
      facts.target_metric_name,
      facts.validation_target_value,
      facts.lower_is_better,
      budget and budget.max_allowed_runtime_sec,
      budget and budget.step_hint,
    )
  return goals


def lower_is_better(metric: str) -> bool:
  """The sense of a metric by its name."""
  return any(part in metric for part in _LOWER_IS_BETTER)
