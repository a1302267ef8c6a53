"""This file says how sure a score is: it scores again and again with studies and trials redrawn.

A sample draws, for each submission and workload on its own, as many studies as there are, with
replacement, and within each study as many trials, with replacement (Efron and Tibshirani, "An
introduction to the bootstrap", 1993, chapter 8: nested data are redrawn level by level). All of
the scoring is then done anew. An interval holds the middle 95 % of the samples.

Of trials redrawn some are missing, so the best of them is often worse than the best of all: under
external tuning the samples lean towards longer times. They say how far luck in the search carries,
not where the true time lies in the middle.
"""

import math
from collections.abc import Sequence

import numpy as np

from algorithmic_efficiency.scoring import time_to_target
from algorithmic_efficiency.scoring.performance_profile import Array
from algorithmic_efficiency.scoring.time_to_target import Studies, Study

LEVELS = (2.5, 97.5)  # percentiles


def sample_times(
  studies: Studies,
  names: Sequence[tuple[str, Sequence[str]]],
  mode: str,
  num_samples: int,
  seed: int,
) -> Array:
  """(samples, submissions, workloads): median seconds to the target, NaN where not tried.

  Args:
    names: each submission with the workloads, in the order of the result's axes.
    mode: one of time_to_target.MODES.
  """
  rng = np.random.default_rng(seed)
  samples = np.full((num_samples, len(names), len(names[0][1])), np.nan)
  for i, (submission, workloads) in enumerate(names):
    for j, workload in enumerate(workloads):
      found = studies.get((submission, workload), ())
      if found:
        samples[:, i, j] = _medians(_redrawn(found, mode, num_samples, rng))
  return samples


def _medians(times: Array) -> Array:
  """(samples,): medians over studies. For so few of them sorting is quicker than numpy's median."""
  times = np.sort(times, axis=1)
  num = times.shape[1]
  return (times[:, (num - 1) // 2] + times[:, num // 2]) / 2.0


def _redrawn(
  studies: Sequence[Study], mode: str, num_samples: int, rng: np.random.Generator
) -> Array:
  """(samples, studies): each redrawn study's time, from redrawn trials."""
  most = max(len(study.trials) for study in studies)
  count = np.array([len(study.trials) for study in studies])
  keys = np.full((len(studies), most), np.inf)
  times = np.full((len(studies), most), np.inf)
  for row, study in enumerate(studies):
    for column, (_, result) in enumerate(study.trials):
      times[row, column] = result.time_sec
      if result is not time_to_target.NOT_REACHED:
        keys[row, column] = time_to_target.sort_key(result, mode)
  chosen = rng.integers(len(studies), size=(num_samples, len(studies)))
  if most == 1:
    return times[chosen, 0]
  trials = (rng.random((*chosen.shape, most)) * count[chosen][..., None]).astype(int)
  trials[np.arange(most) >= count[chosen][..., None]] = 0
  drawn = keys[chosen[..., None], trials]
  drawn[np.arange(most) >= count[chosen][..., None]] = np.inf
  first = np.take_along_axis(trials, drawn.argmin(axis=-1)[..., None], axis=-1)[..., 0]
  return np.where(np.isinf(drawn.min(axis=-1)), np.inf, times[chosen, first])


def interval(samples: Array) -> tuple[Array, Array]:
  """(low, high) over the first axis, of values that occurred; infinite ones take part."""
  last = len(samples) - 1
  low, high = math.floor(LEVELS[0] / 100 * last), math.ceil(LEVELS[1] / 100 * last)
  in_place = np.partition(samples, (low, high), axis=0)
  return in_place[low], in_place[high]


def ranks(scores: Array) -> Array:
  """(..., submissions): 1 is best; equal scores share the better rank."""
  return (scores[..., None, :] > scores[..., :, None] + 1e-12).sum(axis=-1) + 1
