"""This file computes performance profiles and the scores that are areas below them.

All of it takes arrays with any number of leading axes, (..., submissions, workloads), so that a
bootstrap scores all of its samples at once.

Sources: Dolan and More, "Benchmarking optimization software with performance profiles", 2002;
Dahl et al., "Benchmarking neural network training algorithms", 2023, section 4.5.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

MAX_RATIO = 4.0  # a time over this many times the workload's best counts as never
NUM_POINTS = 100  # of the published trapezoid
TAUS: Array = np.linspace(1.0, MAX_RATIO, NUM_POINTS)


def apply_rules(times: Array, base_of: list[int | None], num_base: int) -> Array:
  """Times of the base workloads after the rules of an edition.

  In this order: a held-out variant's time is infinite where its base's is not finite; a time over
  MAX_RATIO times the workload's best is infinite; a base's time is infinite where its held-out
  variant's is not finite.

  Args:
    times: (..., submissions, workloads) seconds; infinite where never reached, NaN where not tried.
    base_of: for each workload None, or the place of the base whose held-out variant it is.
    num_base: the first so many workloads are the base workloads.

  Returns (..., submissions, num_base).
  """
  times = times.copy()
  pairs = [(variant, base) for variant, base in enumerate(base_of) if base is not None]
  for variant, base in pairs:
    times[..., variant] = np.where(np.isfinite(times[..., base]), times[..., variant], np.inf)
  with np.errstate(invalid='ignore'):
    times = np.where(times > MAX_RATIO * best(times)[..., None, :], np.inf, times)
  for variant, base in pairs:
    times[..., base] = np.where(np.isfinite(times[..., variant]), times[..., base], np.inf)
  return times[..., :num_base]


def best(times: Array) -> Array:
  """(..., workloads): the least time over submissions, infinite where nobody reached it."""
  return np.where(np.isnan(times), np.inf, times).min(axis=-2)


def ratios(times: Array) -> Array:
  """Times over the workload's best, at least 1; infinite where never reached or not tried."""
  least = best(times)[..., None, :]
  finite = np.isfinite(times) & np.isfinite(least)
  alike = finite & (times == least)  # also where both are 0
  ratio = np.divide(
    times, least, out=np.full(times.shape, np.inf), where=finite & ~alike & (least > 0)
  )
  return np.where(alike, 1.0, ratio)


def profile(ratio: Array, taus: Array = TAUS) -> Array:
  """(..., submissions, taus): the share of workloads with a ratio of at most tau."""
  counts = [(ratio <= tau).sum(axis=-1) for tau in taus]
  return np.stack(counts, axis=-1) / ratio.shape[-1]


def score(ratio: Array, mode: str) -> Array:
  """(..., submissions): the area below the profile from 1 to MAX_RATIO, over its width.

  'published': by the trapezoid rule at NUM_POINTS equidistant points, which is what AlgoPerf
  publishes; 'exact': the integral of the step function, the mean over workloads of how much of
  [1, MAX_RATIO] lies beyond the ratio.
  """
  if mode == 'exact':
    return np.maximum(0.0, MAX_RATIO - ratio).mean(axis=-1) / (MAX_RATIO - 1.0)
  # A workload's part of the profile is a step from 0 to 1 at the first point not below its ratio:
  # the trapezoids beyond are whole ones, and the one that ends there is half a one.
  first = np.searchsorted(TAUS, ratio, side='left')
  trapezoids = np.where(first == 0, NUM_POINTS - 1.0, np.maximum(NUM_POINTS - first - 0.5, 0.0))
  return trapezoids.mean(axis=-1) / (NUM_POINTS - 1)


def geometric_mean_ratio(times: Array, reference: int, never_sec: Array) -> Array:
  """(..., submissions): the geometric mean of times over those of the submission `reference`.

  Below 1 is faster. A time that is not finite counts as `never_sec` of its workload (a budget and
  one second, as AlgoPerf's own tool has it).
  """
  filled = np.where(np.isfinite(times), times, never_sec)
  return np.exp(np.log(filled / filled[..., reference : reference + 1, :]).mean(axis=-1))
