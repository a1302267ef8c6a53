"""This file tells reuse distances: how much else is touched before a unit is touched again.

Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970: the
stack distance of a touch is how many distinct units, itself with them, were touched since it was
touched last; a cache of at least so many, which drops what was not used for longest, still has it.
A trace tells the set that was touched in each window and not the order within, so what is found is
a lower and an upper bound.
"""

from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import unit_runs
from algorithmic_efficiency.memory_trace.page_table import PageTable, SampledTable

_SPARE = 1024  # empty buckets that are not worth closing up
_PENDING = 1 << 20


class Recency(NamedTuple):
  """When the units of a window were touched last, before it.

  Attributes:
    windows: ascending, from 0: those in which some were touched last.
    counts: how many in each.
    cold: units that were never touched before.
  """

  windows: np.ndarray
  counts: np.ndarray
  cold: int

  @property
  def total(self) -> int:
    """Units of this window."""
    return self.cold + int(self.counts.sum())

  def new_since(self, window: int) -> int:
    """Units of this window that no window from that one on has touched."""
    return self.cold + int(self.counts[: np.searchsorted(self.windows, window)].sum())


class Histogram:
  """How often each value came; holds the values that came, not those between."""

  def __init__(self) -> None:
    self._values = np.empty(0, np.int64)
    self._counts = np.empty(0, np.int64)
    self._pending: list[tuple[np.ndarray, np.ndarray]] = []
    self._waiting = 0

  def add(self, values: np.ndarray, counts: np.ndarray) -> None:
    """Adds counts to values."""
    self._pending.append((values, counts))
    self._waiting += len(values)
    if self._waiting > _PENDING:
      self.sorted()

  def sorted(self) -> tuple[np.ndarray, np.ndarray]:
    """The values, ascending, and the count of each; int64."""
    if self._pending:
      values = np.concatenate([self._values, *(pair[0] for pair in self._pending)])
      counts = np.concatenate([self._counts, *(pair[1] for pair in self._pending)])
      order = np.argsort(values, kind='stable')
      values, counts = values[order], counts[order]
      firsts = np.flatnonzero(np.diff(values, prepend=-1))
      self._values = values[firsts]
      self._counts = np.add.reduceat(counts, firsts) if len(firsts) else counts
      self._pending, self._waiting = [], 0
    return self._values, self._counts


class ReuseDistances:
  """Bounds of the reuse distances in a sequence of windows, each the set that was touched in it.

  For a unit of window j that was touched last in window i < j, S being the sets:
    lower = |S[i+1] ∪ … ∪ S[j-1]| + 1: between the last touch in i and the first in j lie at least
      these, and the unit itself;
    upper = |S[i] ∪ … ∪ S[j]|: and at most these.
  A unit's first touch is cold, of infinite distance. A unit that is touched several times in a
  window is in its set once: such reuse is not observed and not counted.

  How: every unit has the window of its last touch (its bucket), every bucket the number of its
  units. Units touched in i or later are the buckets' sum from i on: of the sums before the window
  is entered comes lower, of those after it upper. A window costs O(units + buckets); buckets
  that have lost all their units are closed up, and sums begin at the oldest bucket that is needed.

  With a rate below 1 only that part of the units is followed (`SampledTable`). Of the others of a
  distance, 1/rate as many are then expected: distance = 1 + others / rate.

  Args:
    rate: in (0, 1]. Raises UsageError.

  Attributes:
    windows: so far.
    cold, reuses: touches so far, of the units that are followed.
    lower, upper: histograms of the distances, in units.
  """

  def __init__(self, rate: float = 1.0) -> None:
    if not 0 < rate <= 1:
      raise UsageError(f'{rate} is no part of the units; give a rate above 0 and at most 1.')
    self.rate = rate
    self.windows = self.cold = self.reuses = 0
    self.lower, self.upper = Histogram(), Histogram()
    self._table = PageTable() if rate == 1 else SampledTable(rate)
    self._bucket = np.zeros(0, np.int32)  # of the unit at each place; 0: not touched yet
    self._live = np.zeros(_SPARE, np.int64)  # units in each bucket
    self._window = np.full(_SPARE, -1, np.int64)  # of each bucket
    self._buckets = 1  # so far; bucket 0 is of no window

  @property
  def unique(self) -> int:
    """Units touched so far; an estimate where the rate is below 1."""
    return round(self.cold / self.rate)

  def add(self, units: np.ndarray) -> Recency:
    """Enters a window: its units, ascending and distinct. Raises ValueError if they are not."""
    return self.add_runs(unit_runs.of_units(units))

  def add_runs(self, runs: np.ndarray) -> Recency:
    """Enters a window: its units as sound runs (`runs.are_sound`)."""
    places = self._table.places(runs)
    if self._table.size > len(self._bucket):
      self._bucket = _grown(self._bucket, self._table.size)
    if self._buckets == len(self._live):
      self._make_room()
    counts = np.bincount(self._bucket[places], minlength=1)
    self._bucket[places] = self._buckets
    cold, counts[0] = int(counts[0]), 0
    touched = np.flatnonzero(counts)
    self._count(touched, counts[touched], len(places))
    found = Recency(self._window[touched], counts[touched], cold)
    self._live[touched] -= found.counts
    self._live[self._buckets] = len(places)
    self._window[self._buckets] = self.windows
    self._buckets += 1
    self.windows += 1
    self.cold += cold
    self.reuses += len(places) - cold
    return found

  def _count(self, buckets: np.ndarray, counts: np.ndarray, total: int) -> None:
    """Enters the distances of a window of `total` units, `counts` of which are in `buckets`."""
    if not len(buckets):
      return
    oldest = int(buckets[0])
    live = self._live[oldest : self._buckets]
    from_it_on = np.cumsum(live[::-1])[::-1][buckets - oldest]
    after = from_it_on - self._live[buckets]
    # What of this window was in a bucket before i comes to those from i on; the rest is there.
    joining = total - np.cumsum(counts[::-1])[::-1]
    others_below, others_above = after, from_it_on + joining - 1
    if self.rate != 1:
      others_below = np.rint(others_below / self.rate).astype(np.int64)
      others_above = np.rint(others_above / self.rate).astype(np.int64)
    self.lower.add(others_below + 1, counts)
    self.upper.add(others_above + 1, counts)

  def _make_room(self) -> None:
    """Closes up empty buckets; where there are few, makes room for twice as many."""
    kept = np.flatnonzero(self._live)
    renamed = np.zeros(len(self._live), np.int32)
    renamed[kept] = np.arange(1, len(kept) + 1)
    self._bucket = renamed[self._bucket]
    size = 2 * len(kept) + _SPARE
    live, window = np.zeros(size, np.int64), np.full(size, -1, np.int64)
    live[1 : len(kept) + 1], window[1 : len(kept) + 1] = self._live[kept], self._window[kept]
    self._live, self._window, self._buckets = live, window, len(kept) + 1


class Curve(NamedTuple):
  """A band over sizes of memory.

  Attributes:
    units: sizes, ascending; int64.
    lower, upper: the quantity's least and greatest value at each.
  """

  units: np.ndarray
  lower: np.ndarray
  upper: np.ndarray


def distribution(found: ReuseDistances) -> Curve:
  """The part of reuses, cold touches aside, within a distance of at most so many units."""
  (near, near_sums), (far, far_sums) = (_sums(part) for part in (found.lower, found.upper))
  units = np.union1d(near, far)
  reuses = max(found.reuses, 1)
  # Were all distances their upper bounds, fewest reuses would be within a size.
  return Curve(units, _at(far, far_sums, units) / reuses, _at(near, near_sums, units) / reuses)


def miss_ratio(found: ReuseDistances) -> Curve:
  """The part of all touches, cold ones with them, that a memory of so many units misses.

  Memory that drops what was not used for longest (LRU). A touch is a unit in a window, however
  often it was touched in it, so this is no part of the single accesses.
  """
  within = distribution(found)
  touches = max(found.cold + found.reuses, 1)
  part = found.reuses / touches
  return Curve(within.units, 1 - within.upper * part, 1 - within.lower * part)


def memory_for(found: ReuseDistances, part: float) -> tuple[int, int] | None:
  """Units within which lies this part of the reuses, at least and at most; None without reuses."""
  if not found.reuses:
    return None
  ends: list[int] = []
  for histogram in (found.lower, found.upper):
    values, sums = _sums(histogram)
    ends.append(int(values[np.searchsorted(sums, part * found.reuses * (1 - 1e-12))]))
  return ends[0], ends[1]


def thinned(curve: Curve, most: int) -> Curve:
  """At most so many points of it, evenly among those there are; the first and last stay."""
  if len(curve.units) <= most:
    return curve
  chosen = np.unique(np.linspace(0, len(curve.units) - 1, most).round().astype(int))
  return Curve(*(part[chosen] for part in curve))


def _sums(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
  values, counts = histogram.sorted()
  return values, np.cumsum(counts)


def _at(values: np.ndarray, sums: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """The sum over values up to each wanted one."""
  return np.concatenate([[0], sums])[np.searchsorted(values, wanted, 'right')]


def _grown(array: np.ndarray, size: int) -> np.ndarray:
  grown = np.zeros(max(size, 2 * len(array)), array.dtype)
  grown[: len(array)] = array
  return grown
