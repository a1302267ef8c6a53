"""This file makes a heat map: which part of the memory is touched when.

Rows are the units that are ever touched, in the order of their addresses and without the gaps
between; columns are time. Memory stays bounded by going through the trace twice: once to see which
units there are, once to count.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.memory_trace.mappings import ANONYMOUS, HEAP, KERNEL, STACK, Mapping
from algorithmic_efficiency.memory_trace.page_table import PageTable
from algorithmic_efficiency.memory_trace.windows import PROCESS_BITS, JointWindow

_BY_KIND = (HEAP, ANONYMOUS, STACK, KERNEL)  # of which one is told by its kind, not by a path
_SMALL = 0.01  # of all units: parts of the same kind that are smaller go together


class Part(NamedTuple):
  """Neighbouring rows of one kind of memory.

  Attributes:
    name: of its file, or its region where it has none.
    region: one of mappings.REGIONS.
    process: its place in `Windows.pids`.
    first, last: units before its first and before the next part's, in the order of the rows.
  """

  name: str
  region: str
  process: int
  first: int
  last: int


class HeatMap(NamedTuple):
  """A heat map.

  Attributes:
    touched: (rows, columns) float32: of the row's units the part that a window of the column
      touched, in the mean. Row 0 has the lowest addresses.
    units: all of its rows together; about as many in each row.
    edges: (columns + 1) windows before each column.
    parts: in the order of the rows; they cover all.
  """

  touched: np.ndarray
  units: int
  edges: np.ndarray
  parts: list[Part]


class Seen:
  """The first pass: which units are touched at all, and in which mappings they lie."""

  def __init__(self) -> None:
    self.windows = 0
    self.table = PageTable()
    self._marks = np.zeros(0, bool)
    self._mappings: dict[tuple[int, Mapping], None] = {}

  def add(self, joint: JointWindow, pids: Sequence[int]) -> None:
    """Enters a window, which tells units; `pids` are those of `Windows`."""
    assert joint.runs is not None
    places = self.table.places(joint.runs)
    if self.table.size > len(self._marks):
      grown = np.zeros(max(self.table.size, 2 * len(self._marks)), bool)
      grown[: len(self._marks)] = self._marks
      self._marks = grown
    self._marks[places] = True
    for sample in joint.samples:
      process = pids.index(sample.pid)
      for extent in sample.touched.extents:
        if extent.touched:
          self._mappings[process, extent.mapping] = None
    self.windows += 1

  def units(self) -> tuple[np.ndarray, np.ndarray]:
    """Those that were touched, ascending, and their places."""
    units, places = self.table.units()
    touched = self._marks[places]
    return units[touched], places[touched]

  def parts(self, units: np.ndarray, unit_bytes: int) -> list[Part]:
    """What the units are; where mappings followed each other at a place it is the last one."""
    labels: dict[tuple[int, str, str, int], int] = {}
    groups = _groups(self._mappings)
    label = np.full(len(units), -1)
    for process, mapping in self._mappings:
      name = _name(mapping)
      which = labels.setdefault(
        (process, mapping.region, name, groups[process, mapping]), len(labels)
      )
      base = process << PROCESS_BITS
      low, high = (base + mapping.begin // unit_bytes, base - (-mapping.end // unit_bytes))
      if low < 2**62 and high < 2**62:  # the kernel's own pages lie beyond all processes
        label[slice(*np.searchsorted(units, [low, high]))] = which
    names = [*labels, (0, ANONYMOUS, 'unknown', 0)]
    cuts = np.flatnonzero(np.diff(label)) + 1 if len(label) else []
    found: list[Part] = []
    for first, last in zip([0, *cuts], [*cuts, len(label)], strict=True):
      if last > first:
        process, region, name, _ = names[label[first]]
        found.append(Part(name, region, process, int(first), int(last)))
    return _joined(found, _SMALL * len(units))


def heat_map(
  seen: Seen, windows: Iterable[JointWindow], unit_bytes: int, rows: int = 512, columns: int = 1024
) -> HeatMap:
  """The second pass, over the same windows.

  Args:
    seen: has been given every window.
    windows: the same again.
    unit_bytes: of a unit.
    rows, columns: at most so many; fewer where there are fewer units or windows.
  """
  units, places = seen.units()
  rows, columns = min(rows, len(units)), min(columns, seen.windows)
  edges = -(-np.arange(columns + 1) * seen.windows // max(columns, 1))
  if not rows:
    return HeatMap(np.zeros((0, columns), np.float32), 0, edges, [])
  row_of = np.zeros(seen.table.size, np.int32)
  ordinal = np.arange(len(units)) * rows // len(units)
  row_of[places] = ordinal
  counts = np.zeros((columns, rows), np.int64)
  for joint in windows:
    assert joint.runs is not None
    column = joint.index * columns // seen.windows
    counts[column] += np.bincount(row_of[seen.table.places(joint.runs)], minlength=rows)
  cells = np.outer(np.diff(edges), np.bincount(ordinal, minlength=rows))
  return HeatMap(
    (counts / cells).T.astype(np.float32), len(units), edges, seen.parts(units, unit_bytes)
  )


def _name(mapping: Mapping) -> str:
  if mapping.region in _BY_KIND:
    return mapping.region
  return mapping.path.rpartition('/')[2]


def _groups(mappings: Iterable[tuple[int, Mapping]]) -> dict[tuple[int, Mapping], int]:
  """A number each; the same for those of a kind that touch or follow each other at a place.

  A backend may have split a mapping, and one that grows comes again; but two areas with a gap
  between them are two, though neither has a name.
  """
  found: dict[tuple[int, Mapping], int] = {}
  before, end, number = None, 0, 0
  for process, mapping in sorted(mappings):
    kind = process, mapping.region, mapping.path
    if kind != before or mapping.begin > end:
      before, end, number = kind, 0, number + 1
    end = max(end, mapping.end)
    found[process, mapping] = number
  return found


def _joined(parts: list[Part], small: float) -> list[Part]:
  """Small neighbours of a kind go together, under the region's name unless all have one name."""
  found: list[Part] = []
  for part in parts:
    before = found[-1] if found else None
    alike = before is not None and (before.process, before.region) == (part.process, part.region)
    if before is None or not alike:
      found.append(part)
      continue
    # A group of small ones is known by its name and takes in more, however large it has become.
    gathers = before.name == before.region or before.last - before.first < small
    of_a_file = before.name == part.name != part.region
    if of_a_file or (gathers and part.last - part.first < small):
      name = part.name if before.name == part.name else part.region
      found[-1] = before._replace(name=name, last=part.last)
    else:
      found.append(part)
  return found
