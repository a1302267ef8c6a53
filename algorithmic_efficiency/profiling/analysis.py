"""This file answers questions about a table of kernels: where did the time go, and what changed it?

Rows are those of kernels.csv; durations are microseconds.
"""

import csv
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.profiling.columns import COLUMNS, NAMES

Row = dict[str, Any]

_TYPES = {column.name: column.type for column in COLUMNS}


class Share(NamedTuple):
  """What one kernel, operator, layer or phase took."""

  key: tuple[Any, ...]
  total_us: float
  share_pct: float
  occurrences: int


class Change(NamedTuple):
  """What it took in two tables; None where it did not run."""

  key: tuple[Any, ...]
  before_us: float | None
  after_us: float | None

  @property
  def difference_us(self) -> float:
    """How much more it took."""
    return (self.after_us or 0.0) - (self.before_us or 0.0)


class Spread(NamedTuple):
  """Repeats of one setting: their number, median, extremes and quartiles; microseconds."""

  setting: tuple[Any, ...]
  count: int
  median_us: float
  min_us: float
  max_us: float
  lower_us: float
  upper_us: float


def read(path: Path) -> list[Row]:
  """The rows of a kernels.csv; parameters that look like numbers are numbers.

  Raises UsageError where it is no such table.
  """
  try:
    with path.open(encoding='utf-8', newline='') as file:
      reader = csv.DictReader(file)
      missing = [name for name in NAMES if name not in (reader.fieldnames or ())]
      if missing:
        raise UsageError(
          f'{str(path)!r} is no table of kernels: it lacks {", ".join(missing)}; give the '
          'kernels.csv that export_kernels.py writes.'
        )
      return [{name: _value(name, text) for name, text in row.items()} for row in reader]
  except OSError as error:
    raise UsageError(f'{str(path)!r} cannot be read ({error.strerror}).') from error


def parameters(rows: Sequence[Row]) -> list[str]:
  """The columns that are none of ours: what the traces were made with."""
  return [name for name in (rows[0] if rows else ()) if name not in _TYPES]


def keep(rows: Iterable[Row], pattern: str, column: str = 'op_name') -> list[Row]:
  """The rows in whose column the pattern is found. Raises UsageError."""
  try:
    compiled = re.compile(pattern)
  except re.error as error:
    raise UsageError(f'{pattern!r} is no regular expression: {error}; mend it.') from error
  return [row for row in rows if compiled.search(str(row[column] or ''))]


def shares(rows: Sequence[Row], by: Sequence[str]) -> list[Share]:
  """Total, share and occurrences of each value of these columns, the longest first."""
  totals: dict[tuple[Any, ...], list[float]] = {}
  for row in rows:
    total = totals.setdefault(tuple(row[name] for name in by), [0.0, 0])
    total[0] += row['total_duration_us']
    total[1] += row['occurrences']
  whole = sum(total for total, _ in totals.values())
  found = [
    Share(key, total, 100 * total / whole if whole else 0.0, int(count))
    for key, (total, count) in totals.items()
  ]
  return sorted(found, key=lambda share: (-share.total_us, str(share.key)))


def compare(before: Sequence[Row], after: Sequence[Row], by: Sequence[str]) -> list[Change]:
  """What changed between two tables, the greatest change first.

  Each is divided by the number of its traces, so that a run is compared with a run.
  """
  old, new = _mean_by_trace(before, by), _mean_by_trace(after, by)
  changes = [Change(key, old.get(key), new.get(key)) for key in old.keys() | new.keys()]
  return sorted(changes, key=lambda change: (-abs(change.difference_us), str(change.key)))


def per_trace(rows: Sequence[Row], names: Sequence[str]) -> list[Row]:
  """The sum of the rows of each trace, with the trace's parameters."""
  found: dict[tuple[Any, ...], Row] = {}
  for row in rows:
    trial = found.setdefault(
      (row['trace'], row['host']),
      {'trace': row['trace'], **{name: row[name] for name in names}, 'total_us': 0.0},
    )
    trial['total_us'] += row['total_duration_us']
  return list(found.values())


def spreads(trials: Sequence[Row], names: Sequence[str]) -> list[Spread]:
  """Repeats of each setting of these parameters, in the order of the settings."""
  groups: dict[tuple[Any, ...], list[float]] = {}
  for trial in trials:
    groups.setdefault(tuple(trial[name] for name in names), []).append(trial['total_us'])
  return [_spread(setting, sorted(groups[setting])) for setting in sorted(groups, key=_sortable)]


def surface(
  trials: Sequence[Row], x: str, y: str
) -> tuple[list[Any], list[Any], list[list[float | None]]]:
  """(values of x, values of y, medians by [y][x]); None where nothing was measured."""
  medians = {s.setting: s.median_us for s in spreads(trials, (x, y))}
  xs = sorted({trial[x] for trial in trials}, key=lambda value: _sortable((value,)))
  ys = sorted({trial[y] for trial in trials}, key=lambda value: _sortable((value,)))
  return xs, ys, [[medians.get((a, b)) for a in xs] for b in ys]


def _spread(setting: tuple[Any, ...], values: Sequence[float]) -> Spread:
  if len(values) == 1:
    lower = upper = values[0]
  else:
    lower, _, upper = statistics.quantiles(values, n=4, method='inclusive')
  middle = statistics.median(values)
  return Spread(setting, len(values), middle, values[0], values[-1], lower, upper)


def _mean_by_trace(rows: Sequence[Row], by: Sequence[str]) -> Mapping[tuple[Any, ...], float]:
  traces = len({(row['trace'], row['host']) for row in rows}) or 1
  return {share.key: share.total_us / traces for share in shares(rows, by)}


def _sortable(setting: tuple[Any, ...]) -> tuple[Any, ...]:
  """Numbers before words, and both before nothing."""
  return tuple(
    (2, 0, '') if v is None else (0, v, '') if isinstance(v, int | float) else (1, 0, str(v))
    for v in setting
  )


def _value(name: str, text: str) -> Any:
  kind = _TYPES.get(name)
  if kind == 'boolean':
    return text == 'True'
  if kind == 'string':
    return text
  if text == '':
    return None
  for number in (int, float):
    try:
      return number(text)
    except ValueError:
      continue
  return text
