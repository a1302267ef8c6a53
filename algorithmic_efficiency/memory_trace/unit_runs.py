"""This file works on sets of units as runs: (n, 2) int64, rows (first unit, how many).

Runs ascend and do not overlap. A working set of a gigabyte is 262,144 pages, yet some thousand
runs; what can be done by runs costs next to nothing.
"""

from collections.abc import Iterable

import numpy as np

from algorithmic_efficiency.memory_trace.mappings import Mapping

NONE = np.empty((0, 2), np.int64)


def of_units(units: np.ndarray) -> np.ndarray:
  """Ascending distinct units as runs. Raises ValueError if they are not."""
  units = np.asarray(units, np.int64)
  if not len(units):
    return NONE
  steps = np.diff(units)
  if len(steps) and steps.min() < 1:
    raise ValueError('units must ascend and be distinct')
  begins = np.concatenate([[0], np.flatnonzero(steps > 1) + 1])
  return np.column_stack([units[begins], np.diff(begins, append=len(units))])


def units_of(runs: np.ndarray) -> np.ndarray:
  """Every unit."""
  return expanded(runs[:, 0], runs[:, 1])


def expanded(firsts: np.ndarray, counts: np.ndarray) -> np.ndarray:
  """The numbers first, first + 1, … of every run, behind each other."""
  ends = np.cumsum(counts)
  total = int(ends[-1]) if len(ends) else 0
  if total == len(firsts) and (counts == 1).all():
    return firsts
  numbers = np.repeat(firsts - (ends - counts), counts)
  numbers += np.arange(total)
  return numbers


def are_sound(runs: np.ndarray) -> bool:
  """Whether they ascend, do not overlap, and none is empty or below 0."""
  firsts, counts = runs[:, 0], runs[:, 1]
  if not len(runs):
    return True
  return bool(firsts[0] >= 0 and counts.min() > 0 and (firsts[1:] >= (firsts + counts)[:-1]).all())


def of_mappings(mappings: Iterable[Mapping], unit_bytes: int) -> np.ndarray:
  """The units in which some part of a mapping lies; the mappings ascend."""
  # uint64: the kernel's own mappings lie above 2**63.
  places = np.array([(each.begin, each.end) for each in mappings if each.size], np.uint64)
  size = np.uint64(unit_bytes)
  begins, last = places.reshape(-1, 2).T
  begins = (begins // size).astype(np.int64)
  ends = ((last - np.uint64(1)) // size).astype(np.int64) + 1
  # Mappings that meet within a unit both have it; it is the first one's.
  begins[1:] = np.maximum(begins[1:], np.maximum.accumulate(ends)[:-1])
  kept = ends > begins
  return np.column_stack([begins, ends - begins])[kept]


def intersected(runs: np.ndarray, others: np.ndarray) -> np.ndarray:
  """What lies in both, as runs."""
  begins, ends = runs[:, 0], runs.sum(1)
  other_begins, other_ends = others[:, 0], others.sum(1)
  low = np.searchsorted(other_ends, begins, 'right')
  pieces = np.maximum(np.searchsorted(other_begins, ends, 'left') - low, 0)
  own, other = np.repeat(np.arange(len(runs)), pieces), expanded(low, pieces)
  first = np.maximum(begins[own], other_begins[other])
  return np.column_stack([first, np.minimum(ends[own], other_ends[other]) - first])
