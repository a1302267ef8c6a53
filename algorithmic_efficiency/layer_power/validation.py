"""This file scores predictors honestly: which layers they are fitted to, and which they never saw.

- by shape: folds grouped by configuration, the headline. Repeats and the many equal layers of a
  network are all on one side.
- by family: one family of networks left out at a time, also a headline. Another family may have a
  layer of the same configuration; its share is told.
- random rows, and the edge study's own three networks: references only. They leak, for equal layers
  are on both sides.

Hyperparameters are fixed and the choice among learners is made anew within the rows that each fold
fits (choice.py), so no row is scored by something chosen with its help.
"""

from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import choice, predictor, study_models, tables
from algorithmic_efficiency.layer_power.frames import Frame
from algorithmic_efficiency.layer_power.zoo import family

BY_SHAPE, BY_FAMILY, RANDOM, STUDY = 'by_shape', 'by_family', 'random', 'study_holdout'
LEAKY = (RANDOM, STUDY)
SPLITS = (BY_SHAPE, BY_FAMILY, RANDOM, STUDY)
STUDY_NETWORKS = ('lenet', 'resnet18', 'vgg16')
MEAN, LASSO = 'mean', 'study_lasso'
WITHIN = 0.1

Folds = list[tuple[np.ndarray, np.ndarray]]


class Metrics(NamedTuple):
  """Errors of predictions; percentages are of what was measured."""

  rmspe_pct: float
  mape_pct: float
  rmse: float
  r2: float
  within_10_pct: float


class Score(NamedTuple):
  """What a model reached at one target of one type of layers.

  Attributes:
    seen_pct: Share of scored rows whose configuration was among the fitted ones.
    covered_pct: Share of measured values in the interval of 90 %; NaN for other models.
    chosen: What each fold chose; empty for other models.
  """

  layer_type: str
  target: str
  split: str
  model: str
  rows: int
  configurations: int
  metrics: Metrics
  seen_pct: float
  covered_pct: float
  chosen: str


def metrics(measured: np.ndarray, predicted: np.ndarray) -> Metrics:
  """RMSPE, MAPE, RMSE (in the unit given), R² and the share within 10 %."""
  error = predicted - measured
  relative = error / measured
  spread = float(np.sum((measured - measured.mean()) ** 2))
  return Metrics(
    100 * float(np.sqrt(np.mean(relative**2))),
    100 * float(np.mean(np.abs(relative))),
    float(np.sqrt(np.mean(error**2))),
    1 - float(np.sum(error**2)) / spread if spread > 0 else float('nan'),
    100 * float(np.mean(np.abs(relative) <= WITHIN)),
  )


def folds_of(rows: Frame, split: str, seed: int = 0, count: int = 5) -> Folds:
  """(rows to fit, rows to score) of each fold. Raises UsageError where the split has none."""
  everything = np.arange(len(rows))
  if split == BY_SHAPE:
    groups = tables.configurations(rows)
    count = min(count, len(set(groups)))
    return choice.grouped_folds(groups, count, seed) if count > 1 else []
  if split == RANDOM:
    return choice.grouped_folds(everything, min(count, len(rows)), seed)
  networks = rows['network'].astype(str)
  if split == STUDY:
    out = networks.isin(STUDY_NETWORKS).to_numpy()
    return [(np.flatnonzero(~out), np.flatnonzero(out))] if out.any() and not out.all() else []
  if split != BY_FAMILY:
    raise UsageError(f'{split!r} is no split; there are {", ".join(SPLITS)}.')
  families = np.array([family(name) for name in networks])
  names = sorted(set(families) - {''})
  if len(names) < 2:
    return []
  return [(np.flatnonzero(families != n), np.flatnonzero(families == n)) for n in names]


def score(rows: Frame, target: str, split: str, seed: int = 0, lasso: bool = True) -> list[Score]:
  """Scores of all models at one type of layers; empty where the rows allow no such split.

  Args:
    rows: Of one layer type.
    target: runtime or power.
    split: One of SPLITS.
    seed: Of the folds.
    lasso: Whether the study's Lasso too, which takes longest.
  """
  rows = rows[rows[target].notna()].reset_index(drop=True)
  folds = folds_of(rows, split, seed)
  if not folds:
    return []
  measured = rows[target].to_numpy(float)
  predicted: dict[str, np.ndarray] = {}
  inside = np.zeros(len(rows))
  chosen = []
  seen = np.zeros(len(rows))
  groups = tables.configurations(rows)
  for inner, outer in folds:
    found, interval, name = _predict_fold(rows.iloc[inner], rows.iloc[outer], target, lasso)
    for label, values in found.items():
      predicted.setdefault(label, np.full(len(rows), np.nan))[outer] = values
    low, high = interval
    ratio = np.log(measured[outer] / found[choice.CHOSEN])
    inside[outer] = (ratio >= low) & (ratio <= high)
    seen[outer] = np.isin(groups[outer], groups[inner])
    chosen.append(name)
  scored = np.concatenate([outer for _, outer in folds])
  shown = []
  for label, values in predicted.items():
    ours = label == choice.CHOSEN
    shown.append(
      Score(
        str(rows['layer_type'].iloc[0]), target, split, label, len(scored),
        len(set(groups[scored])), metrics(measured[scored], values[scored]),
        100 * float(seen[scored].mean()),
        100 * float(inside[scored].mean()) if ours else float('nan'),
        ' | '.join(chosen) if ours else '',
      )
    )  # fmt: skip
  return shown


def repeat_floor(rows: Frame, target: str) -> Metrics | None:
  """How well a row is told by the mean of the other rows of its configuration; None without any.

  No predictor that sees only the configuration can do better than that.
  """
  rows = rows[rows[target].notna()].reset_index(drop=True)
  grouped = rows.groupby(tables.configurations(rows))[target]
  count, total = grouped.transform('count'), grouped.transform('sum')
  repeated = (count > 1).to_numpy()
  if repeated.sum() < 2:
    return None
  values = rows[target][repeated]
  others = (total[repeated] - values) / (count[repeated] - 1)
  return metrics(values.to_numpy(float), others.to_numpy(float))


def noise_floor(first: Frame, second: Frame, target: str) -> Metrics | None:
  """How well one pass of measuring tells another: rows of one network, layer and configuration."""
  keys = ['device', 'network', 'layer', *tables.CONFIGURATION]
  pair = []
  for rows in (first, second):
    some = rows[rows[target].notna()]
    # The same layer measured several times in a pass: first with first, second with second.
    number = some.groupby(keys, dropna=False).cumcount()
    pair.append(some.assign(repeat=number)[[*keys, 'repeat', target]])
  both = pair[0].merge(pair[1], on=[*keys, 'repeat'], suffixes=('_first', '_second'))
  if len(both) < 2:
    return None
  return metrics(both[f'{target}_first'].to_numpy(float), both[f'{target}_second'].to_numpy(float))


def _predict_fold(
  inner: Frame, outer: Frame, target: str, lasso: bool
) -> tuple[dict[str, np.ndarray], tuple[float, float], str]:
  """(predictions by model, log interval of the chosen one, what was chosen)."""
  picked = choice.choose(inner, target)
  candidates = choice.fit_candidates(inner, target)
  logs = candidates.log_predictions(outer)
  weights = dict.fromkeys(candidates.learners, 1 / len(candidates.learners))
  mixed = {choice.AVERAGE: weights, choice.CHOSEN: picked.weights}
  logs |= {name: choice.mix(logs, of) for name, of in mixed.items()}
  found = {MEAN: study_models.fit_mean(inner, target)(outer)}
  if lasso:
    found[LASSO] = study_models.fit_lasso(inner, target)(outer)
  found |= {label: np.exp(log) for label, log in logs.items()}
  return found, predictor.interval(picked.residuals), picked.name
