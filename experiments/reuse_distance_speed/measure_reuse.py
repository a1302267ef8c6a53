"""Measures how fast reuse distances are told from windows, and how far a sample is from them.

Speed is in the processor's time of one core. The pure-Python version does the same on the first
windows, in the same run, and its distances must be equal.
"""

import argparse
import csv
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from algorithmic_efficiency.memory_trace import unit_runs
from algorithmic_efficiency.memory_trace.reuse_distance import (
  Histogram,
  ReuseDistances,
  distribution,
  memory_for,
)

RATES = (0.1, 0.01, 0.001)
_BASE = 0x7F0000000  # where Linux maps
_MADE = 100  # windows that are drawn; then they come again, further on


class Case(NamedTuple):
  """Windows of about so many pages, a tenth of them anywhere; the hot rest moves on slowly.

  Attributes:
    run: pages of a run that is touched; one of the same length beside it is not.
    total: pages that there are.
    drift: runs by which the hot ones move in a window.
  """

  name: str
  windows: int
  pages: int
  run: int
  total: int
  drift: float


CASES = (
  Case('100 MiB, 1,500 windows', 1500, 25_000, 24, 280_000, 0.5),
  Case('1 GiB, 600 windows', 600, 262_144, 24, 1_000_000, 4),
  Case('1 GiB in long runs', 600, 262_144, 256, 1_000_000, 0.4),
  Case('100 MiB of single pages', 500, 25_000, 1, 280_000, 12),
  Case('4 MiB, 100,000 windows', 100_000, 1_000, 24, 280_000, 0.02),
)
SMOKE = (
  Case('4 MiB, 400 windows', 400, 1_000, 24, 20_000, 0.5),
  Case('single pages', 100, 1_000, 1, 20_000, 2),
)


def main() -> None:
  options = parse_options()
  cases = SMOKE if options.smoke else CASES
  speeds = [row for case in cases for row in measure_speed(case, options)]
  for row in speeds:
    print(row)
  errors = [row for case in cases[:2] for row in measure_errors(case, options)]
  for row in errors:
    print(row)
  if not options.smoke:
    write(HERE / 'results.csv', speeds)
    write(HERE / 'sampling.csv', errors)


def parse_options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=3, help='measurements of each')
  parser.add_argument('--layouts', type=int, default=5, help='places in memory, each other hashes')
  parser.add_argument('--python_touches', type=int, default=2_000_000)
  parser.add_argument('--smoke', action='store_true', help='a small run that writes no results')
  options = parser.parse_args()
  if options.smoke:
    options.repeats, options.layouts, options.python_touches = 1, 2, 50_000
  return options


def make_windows(case: Case, base: int = _BASE) -> Iterator[np.ndarray]:
  """The windows' units as runs."""
  generator = np.random.default_rng(1)
  places = case.total // (2 * case.run)
  hot, far = round(0.9 * case.pages / case.run), round(0.1 * case.pages / case.run)
  drawn = [
    (
      generator.random(round(hot / 0.9)) < 0.9,  # of the hot ones, nine of ten
      generator.choice(places, far, replace=False),
    )
    for _ in range(min(case.windows, _MADE))
  ]
  for number in range(case.windows):
    chosen, others = drawn[number % len(drawn)]
    near = (np.flatnonzero(chosen) + int(case.drift * number)) % places
    numbers = np.union1d(near, others)
    yield np.column_stack([base + 2 * case.run * numbers, np.full(len(numbers), case.run)])


def measure_speed(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
  """A row a repeat; making the windows is not counted."""
  rows: list[dict[str, Any]] = []
  for repeat in range(1, options.repeats + 1):
    found, used, touches, part, slow = ReuseDistances(), 0.0, 0, 0, 0.0
    slowly = InPython()
    for runs in make_windows(case):
      start = time.process_time_ns()
      found.add_runs(runs)
      used += (time.process_time_ns() - start) / 1e9
      touches += int(runs[:, 1].sum())
      if touches <= options.python_touches:
        units = unit_runs.units_of(runs).tolist()
        start = time.process_time_ns()
        slowly.add(units)
        slow += (time.process_time_ns() - start) / 1e9
        part = touches
        early = (dict_of(found.lower), dict_of(found.upper)) if near_end(part, options) else None
        assert early is None or early == (dict(slowly.lower), dict(slowly.upper))
    speed, speed_slow = touches / used / 1e6, part / slow / 1e6
    rows.append(
      {
        'case': case.name,
        'repeat': repeat,
        'touches': touches,
        'seconds': round(used, 3),
        'million_touches_per_sec': round(speed, 2),
        'python_million_touches_per_sec': round(speed_slow, 4),
        'ratio': round(speed / speed_slow, 1),
      }
    )
  return rows


def near_end(touches: int, options: argparse.Namespace) -> bool:
  """Whether it is worth a look: making a table of a histogram takes long."""
  return touches > 0.7 * options.python_touches


class InPython:
  """The same with a dict and lists: what one would write first."""

  def __init__(self) -> None:
    self.last: dict[int, int] = {}
    self.live: list[int] = []
    self.lower, self.upper = Counter[int](), Counter[int]()

  def add(self, units: list[int]) -> None:
    """Enters a window."""
    last, live, now = self.last, self.live, len(self.live)
    counts: dict[int, int] = {}
    for unit in units:
      before = last.get(unit)
      if before is not None:
        counts[before] = counts.get(before, 0) + 1
      last[unit] = now
    behind = 0  # units touched after the bucket
    joined = len(units)  # and those that this window brings there
    for bucket in range(now - 1, -1, -1):
      count = counts.get(bucket)
      if count:
        joined -= count
        self.lower[behind + 1] += count
        self.upper[behind + live[bucket] + joined] += count
      behind += live[bucket]
      if count:
        live[bucket] -= count
    live.append(len(units))


def measure_errors(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
  """A row a rate and layout: how far the distribution of a sample is from that of all."""
  rows: list[dict[str, Any]] = []
  exact = entered(case, _BASE, 1.0)[0]
  sizes = np.linspace(1, exact.unique, 2000)
  for rate in RATES:
    for layout in range(options.layouts):
      found, seconds = entered(case, _BASE + layout * 2**24, rate)
      pairs = [
        abs(at(getattr(distribution(found), bound), distribution(found).units, sizes)
            - at(getattr(distribution(exact), bound), distribution(exact).units, sizes))
        for bound in ('lower', 'upper')
      ]  # fmt: skip
      rows.append(
        {
          'case': case.name,
          'rate': rate,
          'layout': layout,
          'units': found.cold,
          'million_touches_per_sec': round((exact.cold + exact.reuses) / seconds / 1e6, 1),
          'mean_error': round(statistics.mean(float(pair.mean()) for pair in pairs), 5),
          'max_error': round(max(float(pair.max()) for pair in pairs), 5),
          'memory_for_90_pct_error': round(memory_error(found, exact), 5),
        }
      )
  return rows


def memory_error(found: ReuseDistances, exact: ReuseDistances) -> float:
  """How far the memory for 90 % of the reuses, its upper bound, is from the exact one, relative."""
  bounds, true = memory_for(found, 0.9), memory_for(exact, 0.9)
  return abs(bounds[1] / true[1] - 1) if bounds and true else float('nan')


def entered(case: Case, base: int, rate: float) -> tuple[ReuseDistances, float]:
  found, used = ReuseDistances(rate), 0.0
  for runs in make_windows(case, base):
    start = time.process_time_ns()
    found.add_runs(runs)
    used += (time.process_time_ns() - start) / 1e9
  return found, used


def at(values: np.ndarray, units: np.ndarray, sizes: np.ndarray) -> np.ndarray:
  """The curve at these sizes."""
  return np.concatenate([[0], values])[np.searchsorted(units, sizes, 'right')]


def dict_of(histogram: Histogram) -> dict[int, int]:
  values, counts = histogram.sorted()
  return dict(zip(values.tolist(), counts.tolist(), strict=True))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


if __name__ == '__main__':
  main()
