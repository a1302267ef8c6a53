"""This file says how each hyperparameter and the time to the target hang together over trials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithmic_efficiency.scoring.editions import Edition
from algorithmic_efficiency.scoring.logs import Trial
from algorithmic_efficiency.scoring.time_to_target import Studies

FEWEST_TRIALS = 3  # of which a correlation is worth a number


@dataclass(frozen=True)
class Effect:
  """A hyperparameter of a submission on a workload.

  Attributes:
    submission, workload, name: whose it is.
    values: of each trial.
    times_sec: to the target; infinite where it was never met.
    best: the validation metric's best value in each trial; NaN where there is none.
    with_time: Spearman's rank correlation of value and time, in [-1, 1]: positive where larger
      values take longer. None where all trials are alike in either.
    with_best: the same of the value and how good the best metric is: positive where larger values
      end better.
  """

  submission: str
  workload: str
  name: str
  values: tuple[float, ...]
  times_sec: tuple[float, ...]
  best: tuple[float, ...]
  with_time: float | None
  with_best: float | None


def effects(studies: Studies, edition: Edition) -> list[Effect]:
  """Of every numeric hyperparameter that was varied over at least FEWEST_TRIALS trials."""
  found = list[Effect]()
  for (submission, workload), group in studies.items():
    pairs = [pair for study in group for pair in study.trials]
    goal = edition.goal(workload)
    names = {name: None for trial, _ in pairs for name in trial.hparams}
    for name in names:
      rows = [(_number(trial, name), trial, result) for trial, result in pairs]
      rows = [row for row in rows if row[0] is not None]
      values = tuple(float(row[0] or 0.0) for row in rows)
      if goal is None or len(rows) < FEWEST_TRIALS or len(set(values)) < 2:
        continue
      times = tuple(result.time_sec for _, _, result in rows)
      best = tuple(best_value(trial, goal.lower_is_better) for _, trial, _ in rows)
      good = [-value if goal.lower_is_better else value for value in best]
      found.append(
        Effect(submission, workload, name, values, times, best,
               rank_correlation(values, times), rank_correlation(values, good))
      )  # fmt: skip
  return found


def best_value(trial: Trial, lower_is_better: bool) -> float:
  """The best of the trial's validation metric; NaN where it has none."""
  values = trial.values[~np.isnan(trial.values)]
  if not len(values):
    return float('nan')
  return float(values.min() if lower_is_better else values.max())


def rank_correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
  """Spearman's rank correlation, ties sharing their mean rank; None where one side is constant.

  Pairs with a NaN are left out; infinite values are the largest.
  """
  pairs = [(a, b) for a, b in zip(x, y, strict=True) if not (np.isnan(a) or np.isnan(b))]
  if len(pairs) < FEWEST_TRIALS:
    return None
  ranks = [_mean_ranks(side) for side in zip(*pairs, strict=True)]
  if any(np.ptp(side) == 0 for side in ranks):
    return None
  return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _mean_ranks(values: Sequence[float]) -> np.ndarray:
  _, places, counts = np.unique(np.array(values), return_inverse=True, return_counts=True)
  ends = np.cumsum(counts)
  return (ends - (counts - 1) / 2.0)[places.ravel()]


def _number(trial: Trial, name: str) -> float | None:
  value = trial.hparams.get(name)
  if not isinstance(value, int | float) or isinstance(value, bool):
    return None
  try:
    return float(value)
  except OverflowError:
    return None
