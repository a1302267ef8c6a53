"""This file tells the working set: which part of its memory a process touched in each window.

Denning, "The working set model for program behavior", CACM 11(5), 1968: what was touched within the
last τ seconds; here τ is a window, and windows do not overlap.
"""

from collections import Counter
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.memory_trace import filters
from algorithmic_efficiency.memory_trace.mappings import REGIONS, Mapping
from algorithmic_efficiency.memory_trace.windows import JointWindow

# What analyses compare, by its name in the table; a trace holds what its own filter kept.
FILTERS: MappingType[str, Sequence[filters.Filter]] = {
  'none': [],
  **{f'drop {name}': filters.parse([name]) for name in filters.DROPPED},
  'drop all of these': filters.parse(list(filters.DROPPED)),
  **{f'keep {name}': filters.parse(kept=[name]) for name in filters.KEPT},
}
_STATISTICS = {'median': 50, 'p5': 5, 'p95': 95}
_MOST_KNOWN = 1 << 18


class Row(NamedTuple):
  """A window; bytes are sums over its processes.

  Attributes:
    window: its number.
    begin_sec, end_sec: since the trace's first begin.
    length_sec: between the two.
    paused_sec: from its end to when the processes were let go on; the longest.
    step: training steps made by its end; None where nobody tells.
    processes: how many.
    virtual, resident: bytes of all mappings.
    touched: the working set.
    unplaced: of it, bytes of which is not known where they are.
    huge: resident bytes in huge pages.
    regions: of the working set, bytes in each of REGIONS.
    filtered: what each of FILTERS keeps of the working set.
  """

  window: int
  begin_sec: float
  end_sec: float
  length_sec: float
  paused_sec: float
  step: int | None
  processes: int
  virtual: int
  resident: int
  touched: int
  unplaced: int
  huge: int
  regions: tuple[int, ...]
  filtered: tuple[int, ...]

  def cells(self) -> dict[str, Any]:
    """By column, as in windows.csv."""
    cells = self._asdict()
    del cells['filtered']
    regions = zip(REGIONS, cells.pop('regions'), strict=True)
    cells |= {f'{region}_bytes': size for region, size in regions}
    for name in ('virtual', 'resident', 'touched', 'unplaced', 'huge'):
      cells[f'{name}_bytes'] = cells.pop(name)
    return {name: round(cell, 6) if isinstance(cell, float) else cell
            for name, cell in cells.items()}  # fmt: skip


class WorkingSets:
  """Makes a row of every window.

  Attributes:
    rows: so far.
    begin_ns: of the first.
  """

  def __init__(self) -> None:
    self.rows: list[Row] = []
    self.begin_ns = 0
    self._profiles: dict[Mapping, tuple[int, tuple[bool, ...]]] = {}

  def add(self, joint: JointWindow) -> Row:
    """Enters a window."""
    windows = [sample.window for sample in joint.samples]
    begin = min(window.begin_ns for window in windows)
    end = max(window.end_ns for window in windows)
    if not self.rows:
      self.begin_ns = begin
    steps = [window.step for window in windows if window.step is not None]
    parts = [sample.touched for sample in joint.samples]
    regions, filtered = self._sums(joint)
    row = Row(
      window=windows[0].number,
      begin_sec=(begin - self.begin_ns) / 1e9,
      end_sec=(end - self.begin_ns) / 1e9,
      length_sec=(end - begin) / 1e9,
      paused_sec=max(window.paused_ns for window in windows) / 1e9,
      step=max(steps, default=None),
      processes=len(windows),
      virtual=sum(part.virtual for part in parts),
      resident=sum(part.resident for part in parts),
      touched=sum(regions),
      unplaced=sum(part.unplaced for part in parts),
      huge=sum(part.huge for part in parts),
      regions=regions,
      filtered=filtered,
    )
    self.rows.append(row)
    return row

  def _sums(self, joint: JointWindow) -> tuple[tuple[int, ...], tuple[int, ...]]:
    sums: Counter[tuple[int, tuple[bool, ...]]] = Counter()
    if len(self._profiles) > _MOST_KNOWN:
      self._profiles.clear()
    for sample in joint.samples:
      for mapping, _, touched in sample.touched.extents:
        if touched:
          profile = self._profiles.get(mapping)
          if profile is None:
            profile = self._profiles[mapping] = _profile(mapping)
          sums[profile] += touched
    regions, filtered = [0] * len(REGIONS), [0] * len(FILTERS)
    for (region, kept), touched in sums.items():
      regions[region] += touched
      filtered = [total + touched * keep for total, keep in zip(filtered, kept, strict=True)]
    return tuple(regions), tuple(filtered)


def steady_from(rows: Sequence[Row], start_up: int | None = None) -> int:
  """The index of the first window after the start-up.

  Loading and compiling touch much once. Where nobody says how many windows that took (`start_up`),
  the first half of the windows is left out: it needs no threshold, and `drift` tells whether what
  is left is level.
  """
  return min(len(rows) // 2 if start_up is None else start_up, max(len(rows) - 1, 0))


def drift(rows: Sequence[Row]) -> float | None:
  """By which part the median working set of the later half of the rows is above the first half's.

  None for fewer than four rows or where the first half touched nothing.
  """
  sizes, half = [row.touched for row in rows], len(rows) // 2
  if half < 2 or not (first := float(np.median(sizes[:half]))):
    return None
  return float(np.median(sizes[half:])) / first - 1


def statistics(sizes: Sequence[float]) -> dict[str, float]:
  """Mean, median, 5th and 95th percentile and the greatest; each window counts the same."""
  found = {'mean': float(np.mean(sizes))}
  found |= {name: float(np.percentile(sizes, part)) for name, part in _STATISTICS.items()}
  return found | {'max': float(np.max(sizes))}


def summary(rows: Sequence[Row], steady: int) -> dict[str, Any]:
  """Of all windows and of those from the index `steady` on; bytes and seconds."""
  of_steady = rows[steady:]
  time = rows[-1].end_sec - rows[0].begin_sec + rows[-1].paused_sec
  paused = sum(row.paused_sec for row in rows)
  return {
    'windows': len(rows),
    'steady_from_window': rows[steady].window,
    'steady_from_sec': round(rows[steady].begin_sec, 3),
    'window_sec': round(float(np.median([row.length_sec for row in rows])), 6),
    'paused_part': round(paused / time, 4) if time else 0.0,
    'paused_median_sec': round(float(np.median([row.paused_sec for row in rows])), 6),
    'processes': max(row.processes for row in rows),
    'virtual_bytes': statistics([row.virtual for row in rows]),
    'resident_bytes': statistics([row.resident for row in rows]),
    'working_set_bytes': statistics([row.touched for row in rows]),
    'steady_working_set_bytes': statistics([row.touched for row in of_steady]),
    'steady_drift': drift(of_steady),
    'unplaced_bytes': float(np.mean([row.unplaced for row in of_steady])),
    'huge_bytes': max(row.huge for row in rows),
    'regions_bytes': {
      region: float(np.mean([row.regions[place] for row in of_steady]))
      for place, region in enumerate(REGIONS)
    },
  }


def filter_table(rows: Sequence[Row], steady: int) -> list[dict[str, Any]]:
  """What each of FILTERS keeps of the working set, all windows and steady ones; mean bytes."""
  sizes = np.array([row.filtered for row in rows], float).reshape(-1, len(FILTERS))
  table: list[dict[str, Any]] = []
  for name, every, late in zip(FILTERS, sizes.mean(0), sizes[steady:].mean(0), strict=True):
    whole, whole_late = sizes[:, 0].mean(), sizes[steady:, 0].mean()
    table.append(
      {
        'filter': name,
        'mean_bytes': round(every),
        'kept_pct': round(100 * every / whole, 3) if whole else None,
        'steady_mean_bytes': round(late),
        'steady_kept_pct': round(100 * late / whole_late, 3) if whole_late else None,
      }
    )
  return table


def _profile(mapping: Mapping) -> tuple[int, tuple[bool, ...]]:
  kept = tuple(filters.keeps(chosen, mapping) for chosen in FILTERS.values())
  return REGIONS.index(mapping.region), kept
