"""This file fits all candidates to one type of layers and one target, and chooses among them.

The choice is made by cross-validation within the rows given, folds grouped by configuration; rows
that are to score it must not be among them. The residuals of that same cross-validation, on the
log scale, give the intervals.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.layer_power import descriptors, physics
from algorithmic_efficiency.layer_power.fitted import Learner
from algorithmic_efficiency.layer_power.frames import Frame
from algorithmic_efficiency.layer_power.tables import configurations

RUNTIME, POWER = 'runtime', 'power'
INNER_FOLDS = 4
# How a learner is used: of what physics leaves over, or of the logarithm itself.
OVER_PHYSICS, DIRECT = 'over physics', 'direct'
USES: dict[str, tuple[tuple[str, str], ...]] = {
  RUNTIME: (
    ('ridge', OVER_PHYSICS),
    ('extra_trees', OVER_PHYSICS),
    ('boosting', OVER_PHYSICS),
    ('process', OVER_PHYSICS),
    ('process_by_column', OVER_PHYSICS),
  ),
  POWER: (
    ('ridge', OVER_PHYSICS),
    ('extra_trees', OVER_PHYSICS),
    ('boosting', OVER_PHYSICS),
    ('process', OVER_PHYSICS),
    ('extra_trees', DIRECT),
    ('boosting', DIRECT),
    ('process', DIRECT),
  ),
}
PHYSICS, AVERAGE, CHOSEN = 'physics', 'average', 'chosen'
# With few configurations the best of several is the best by chance, and an average of all hardly
# worse than it; so one learner is taken only if its error is less than this share of the average's.
CLEARLY_BETTER = 0.9


class Base(NamedTuple):
  """The physics of one type of layers: a roofline and, for power, a limited power."""

  roofline: physics.Roofline
  power: physics.LimitedPower | None
  ops: tuple[str, ...]

  def log_and_columns(self, rows: Frame) -> tuple[np.ndarray, np.ndarray]:
    """(logarithm of what physics says, the columns that learners see)."""
    _, x = descriptors.describe(rows, self.ops)
    q = descriptors.quantities(rows)
    time = np.maximum(self.roofline.predict(q), 1e-9)
    if self.power is None:
      return np.log(time), np.column_stack([x, np.log(time)])
    power = np.log(self.power.predict(q, time))
    speeds = np.log(np.maximum(physics.rates(q, time)[:, 1:], 1.0))
    return power, np.column_stack([x, np.log(time), speeds, power])


class Candidates(NamedTuple):
  """All learners of one type and target."""

  base: Base
  learners: dict[str, Learner]

  def log_predictions(self, rows: Frame) -> dict[str, np.ndarray]:
    """Of physics and of each learner, by 'name, use'."""
    base, x = self.base.log_and_columns(rows)
    found = {PHYSICS: base}
    for label, learner in self.learners.items():
      said = learner.predict(x)
      found[label] = said + base if label.endswith(OVER_PHYSICS) else said
    return found


class Choice(NamedTuple):
  """What was chosen: weights of candidates, each one's error, and the residuals of the chosen.

  Attributes:
    weights: By label; their sum is 1.
    scores: RMSPE in percent of every candidate in the inner cross-validation.
    residuals: log(measured / predicted) of the chosen one there, ascending.
  """

  name: str
  weights: dict[str, float]
  scores: dict[str, float]
  residuals: np.ndarray


def fit_candidates(rows: Frame, target: str, labels: Sequence[str] | None = None) -> Candidates:
  """Fits physics and the learners (or those of the labels) to the rows."""
  from algorithmic_efficiency.layer_power import learners  # scikit-learn is slow to import

  ops = tuple(sorted(set(rows['op'].astype(str))))
  q = descriptors.quantities(rows)
  runtime, values = rows[RUNTIME].to_numpy(float), rows[target].to_numpy(float)
  roofline = physics.fit_roofline(q, runtime)
  predicted = np.maximum(roofline.predict(q), 1e-9)
  power = physics.fit_power(q, predicted, values) if target == POWER else None
  base = Base(roofline, power, ops)
  said, x = base.log_and_columns(rows)
  fitted = {}
  for name, use in USES[target]:
    label = f'{name}, {use}'
    if labels is None or label in labels:
      left = np.log(values) - (said if use == OVER_PHYSICS else 0.0)
      fitted[label] = learners.LEARNERS[name](x, left)
  return Candidates(base, fitted)


def choose(rows: Frame, target: str) -> Choice:
  """Chooses by an inner cross-validation of the rows; with too few configurations, physics."""
  groups = configurations(rows)
  values = np.log(rows[target].to_numpy(float))
  folds = min(INNER_FOLDS, len(set(groups)))
  if folds < 2:
    return Choice(PHYSICS, {PHYSICS: 1.0}, {}, np.zeros(1))
  found: dict[str, np.ndarray] = {}
  for inner, outer in grouped_folds(groups, folds):
    candidates = fit_candidates(rows.iloc[inner], target)
    for label, said in candidates.log_predictions(rows.iloc[outer]).items():
      found.setdefault(label, np.full(len(values), np.nan))[outer] = said
  mixtures = {label: {label: 1.0} for label in found}
  learned = [label for label in found if label != PHYSICS]
  mixtures[AVERAGE] = dict.fromkeys(learned, 1 / len(learned))
  said = {name: mix(found, weights) for name, weights in mixtures.items()}
  scores = {name: _rmspe(values, log) for name, log in said.items()}
  best = min(scores, key=lambda name: scores[name])
  if scores[best] > CLEARLY_BETTER * scores[AVERAGE]:
    best = AVERAGE
  return Choice(best, mixtures[best], scores, np.sort(values - said[best]))


def mix(logs: dict[str, np.ndarray], weights: dict[str, float]) -> np.ndarray:
  """The weighted mean of logarithms."""
  return np.sum([weight * logs[label] for label, weight in weights.items()], axis=0)


def grouped_folds(
  groups: np.ndarray, count: int, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
  """(rows to fit, rows to score) of each fold; a group is never on both sides."""
  names = np.unique(groups)
  order = np.random.default_rng(seed).permutation(len(names))
  fold_of = np.empty(len(names), int)
  fold_of[order] = np.arange(len(names)) % count
  fold = fold_of[np.searchsorted(names, groups)]
  return [(np.flatnonzero(fold != n), np.flatnonzero(fold == n)) for n in range(count)]


def _rmspe(log_values: np.ndarray, log_said: np.ndarray) -> float:
  return 100 * float(np.sqrt(np.mean(np.expm1(log_said - log_values) ** 2)))
