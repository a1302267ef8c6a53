"""This file reads the columns that scoring needs from one trial's table, and nothing else of it.

Thousands of tables are read for one score, so numpy reads those that are in order, in which every
line has a number in each wanted cell. Any other is cut line by line, and one with quotes in it
goes through the csv module.
"""

import csv
import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]
_Cells = Sequence[Any]


class Table:
  """A trial's evaluations.

  Attributes:
    columns: name to one value a row, in the order written; NaN where a cell is empty. A column
      that the table lacks is not there.
    torn: whether the last line was cut off by a kill; it is left out.
    odd_lines: lines with more or fewer cells than the header; they are left out.
    odd_cells: cells that are no numbers; they are NaN.
    last: of the column that only its last value is wanted of; NaN where there is none.
  """

  def __init__(self) -> None:
    self.columns: dict[str, Column] = {}
    self.torn = False
    self.odd_lines = 0
    self.odd_cells = 0
    self.last = np.nan

  def __len__(self) -> int:
    return len(next(iter(self.columns.values()), ()))

  def take(self, names: list[str], rows: Iterable[_Cells]) -> None:
    """Sets the columns from the cells of each row, in the order of the names."""
    values = [[self.number(cell) for cell in cells] for cells in rows]
    array = np.array(values, dtype=np.float64).reshape(len(values), len(names))
    self.columns = dict(zip(names, array.T.copy(), strict=True))

  def number(self, cell: Any) -> float:
    """The cell's value; NaN where it is empty or, which is counted, no number."""
    try:
      return float(cell)
    except (TypeError, ValueError, OverflowError):
      if cell not in (b'', '', None):
        self.odd_cells += 1
      return np.nan


def read(path: Path, wanted: Sequence[Sequence[str]], last: str) -> Table:
  """Columns of a .csv or .jsonl file. Raises OSError, csv.Error.

  Args:
    wanted: of each group of names the first that the table has is read.
    last: the column of which only the last value is wanted.
  """
  data = path.read_bytes()
  table = Table()
  if path.suffix == '.jsonl':
    _read_jsonl(data, wanted, last, table)
  else:
    _read_csv(data, wanted, last, table)
  if last in table.columns:
    values = table.columns.pop(last)
    table.last = float(values[-1]) if len(values) else np.nan
  return table


def _first(groups: Sequence[Sequence[str]], known: Collection[str]) -> list[str]:
  found = (next((name for name in names if name in known), None) for names in groups)
  return [name for name in found if name is not None]


def _read_csv(data: bytes, wanted: Sequence[Sequence[str]], last: str, table: Table) -> None:
  if b'\r' in data:
    data = data.replace(b'\r\n', b'\n')
  end = data.find(b'\n')
  first = data if end < 0 else data[:end]
  header = next(csv.reader([first.decode('utf-8', 'replace')]), [])
  places = {name: header.index(name) for name in _first(wanted, header)}
  if end < 0:
    table.torn = bool(data)
  elif (array := _read_orderly(data, end + 1, len(header), list(places.values()))) is not None:
    table.columns = dict(zip(places, array, strict=True))
    if last in header:
      cells = data[data.rfind(b'\n', 0, -1) + 1 :].split(b',')
      table.last = table.number(cells[header.index(last)])
  else:
    if last in header:
      places[last] = header.index(last)
    _read_disorderly(data[end + 1 :], len(header), places, table)


def _read_orderly(data: bytes, begin: int, width: int, places: list[int]) -> Column | None:
  """(columns, rows) of a table in which nothing is missing; None where something may be."""
  num_rows = data.count(b'\n', begin)
  if not (num_rows and places) or b'"' in data or not data.endswith(b'\n'):
    return None
  if data.count(b',', begin) != (width - 1) * num_rows:
    return None
  # In order, every width-th separator ends its line; else a long line makes up for a short one.
  cells = np.frombuffer(data, np.uint8, offset=begin)
  ends = np.flatnonzero((cells == ord(',')) | (cells == ord('\n')))[width - 1 :: width]
  if not (cells[ends] == ord('\n')).all():
    return None
  try:
    array = np.loadtxt(
      io.BytesIO(data), delimiter=',', skiprows=1, usecols=places, ndmin=2, comments=None
    )
  except ValueError:
    return None
  return array.T.copy() if len(array) == num_rows else None


def _read_disorderly(data: bytes, width: int, places: dict[str, int], table: Table) -> None:
  lines = data.split(b'\n')
  rest = lines.pop()  # empty where the last line ended
  if rest and rest.count(b',') + 1 == width and width - 1 not in places.values():
    lines.append(rest)  # a cut in the last cell touches nothing that is wanted
  else:
    table.torn = bool(rest)
  cut = _cut_quoted if b'"' in data else _cut_plain
  table.take(list(places), cut(lines, width, list(places.values()), table))


def _cut_plain(
  lines: list[bytes], width: int, places: list[int], table: Table
) -> Iterator[list[bytes]]:
  most = max(places, default=-1) + 1
  for line in lines:
    if line.count(b',') + 1 != width:
      table.odd_lines += bool(line)
      continue
    cells = line.split(b',', most)
    yield [cells[place] for place in places]


def _cut_quoted(
  lines: list[bytes], width: int, places: list[int], table: Table
) -> Iterator[list[str]]:
  text = io.StringIO(b'\n'.join(lines).decode('utf-8', 'replace'), newline='')
  for cells in csv.reader(text):
    if len(cells) != width:
      table.odd_lines += bool(cells)
      continue
    yield [cells[place] for place in places]


def _read_jsonl(data: bytes, wanted: Sequence[Sequence[str]], last: str, table: Table) -> None:
  found: list[Mapping[str, Any]] = []
  lines = data.split(b'\n')
  table.torn = bool(lines.pop().strip())
  for line in filter(None, lines):
    try:
      row = json.loads(line)
    except ValueError:
      row = None
    if isinstance(row, dict):
      found.append(row)
    else:
      table.odd_lines += 1
  names = _first([*wanted, [last]], {name for row in found for name in row})
  table.take(names, ([row.get(name) for name in names] for row in found))
