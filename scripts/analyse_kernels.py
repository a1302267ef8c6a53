#!/usr/bin/env python3
"""Says where the time of traced runs went, from the kernels.csv of export_kernels.py.

  python scripts/analyse_kernels.py kernels.csv                     by phase, and the top kernels
  python scripts/analyse_kernels.py kernels.csv --by=layer,phase
  python scripts/analyse_kernels.py old.csv --compare=new.csv --by=op_name
  python scripts/analyse_kernels.py kernels.csv --ops='Conv2D$' --over=batch_size
                                              each trace's sum of these operators, by a parameter

--output writes the table as CSV too. Exit codes: 0, or 2 for a wrong command or table.
"""

import argparse
import csv
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.profiling import analysis

_WIDEST = 60


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    tables = _tables(given)
  except UsageError as error:
    print(f'analyse_kernels: error: {error}', file=sys.stderr)
    return 2
  for title, names, rows in tables:
    _show(title, names, rows[: given.top])
    if len(rows) > given.top:
      print(f'… and {len(rows) - given.top:,} more (--top)')
  if given.output:
    _, names, rows = tables[-1]
    with given.output.open('w', encoding='utf-8', newline='') as file:
      csv.writer(file, lineterminator='\n').writerows([names, *rows])
  return 0


Table = tuple[str, Sequence[str], list[Sequence[Any]]]


def _tables(given: argparse.Namespace) -> list[Table]:
  rows = _rows(given.table, given)
  if given.compare:
    by = _by(given.by or 'kernel_name', rows)
    changes = analysis.compare(rows, _rows(given.compare, given), by)
    names = [*by, 'before_us', 'after_us', 'difference_us']
    return [('a trace on average', names,
             [(*c.key, c.before_us, c.after_us, c.difference_us) for c in changes])]  # fmt: skip
  if given.over:
    by = _by(given.over, rows)
    found = analysis.spreads(analysis.per_trace(rows, by), by)
    names = [*by, 'traces', 'median_us', 'min_us', 'max_us', 'lower_us', 'upper_us']
    return [('sum of each trace', names, [(*s.setting, *s[1:]) for s in found])]
  asked = [given.by] if given.by else ['kind,phase', 'kernel_name,op_name']
  tables: list[Table] = []
  for text in asked:
    by = _by(text, rows)
    names = [*by, 'total_us', 'share_pct', 'occurrences']
    found = [(*s.key, s.total_us, s.share_pct, s.occurrences) for s in analysis.shares(rows, by)]
    tables.append((f'by {text}', names, found))
  return tables


def _rows(path: Path, given: argparse.Namespace) -> list[analysis.Row]:
  rows = analysis.read(path)
  if given.ops:
    rows = analysis.keep(rows, given.ops)
  if not rows:
    what = f' with operators like {given.ops!r}' if given.ops else ''
    raise UsageError(f'{str(path)!r} has no rows{what}.')
  return rows


def _by(text: str, rows: Sequence[analysis.Row]) -> list[str]:
  names = text.split(',')
  unknown = [name for name in names if name not in rows[0]]
  if unknown:
    known = ', '.join(rows[0])
    raise UsageError(f'there is no column {", ".join(unknown)}; there are {known}.')
  return names


def _show(title: str, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
  cells = [[_cell(value) for value in row] for row in rows]
  widths = [max(len(n), *(len(r[i]) for r in cells), 0) for i, n in enumerate(names)]
  print(f'\n{title}')
  for line in [list(names), *cells]:
    print('  '.join(f'{text:<{width}}' for text, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
  if value is None:
    return ''
  text = f'{value:,.3f}' if isinstance(value, float) else str(value)
  return text if len(text) <= _WIDEST else f'{text[: _WIDEST - 1]}…'


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('table', type=Path, help='kernels.csv')
  parser.add_argument('--by', help='columns: phase, layer, op_name, kernel_name, step, …')
  parser.add_argument('--top', type=int, default=20, help='rows shown (default: 20)')
  parser.add_argument('--compare', type=Path, help='another kernels.csv')
  parser.add_argument('--ops', help='keep rows whose op_name has this regular expression')
  parser.add_argument('--over', help='parameters: the spread of the traces with each setting')
  parser.add_argument('--output', type=Path, help='write the (last) table as CSV')
  return parser.parse_args()


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
