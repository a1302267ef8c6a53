"""This file reads tables of measured layers: those of columns.py, and a public one of operators.

A public table of operators (device, op, batch, in_c …) gives its sizes in the order of the tensor's
dimensions, so of a dense layer the last one that is not 1 is its features; its padding is that of
one side. Both become columns.py's here. Rows that cannot be right are left out and told by number.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.frames import Frame

CONFIGURATION = [c.name for c in columns.CONFIGURATION]
SIZES = [name for name in CONFIGURATION if name not in ('layer_type', 'op', 'dtype')]
_MAY_BE_ZERO = ('padding_0', 'padding_1')
_OPERATORS = {
  'batch': 'batch_size', 'in_c': 'input_size_0', 'in_h': 'input_size_1', 'in_w': 'input_size_2',
  'out_c': 'output_size_0', 'out_h': 'output_size_1', 'out_w': 'output_size_2',
  'runtime_ms': 'runtime', 'runtime_std_ms': 'runtime_std', 'power_W': 'power',
  'power_std_W': 'power_std',
}  # fmt: skip
_TYPES = {
  'Conv': columns.CONV,
  'Pool': columns.POOLING,
  'Linear': columns.DENSE,
  'Norm': columns.NORMALISATION,
  'Attention': columns.ATTENTION,
  'LU': columns.ACTIVATION,
  'Sigmoid': columns.ACTIVATION,
  'swish': columns.ACTIVATION,
}


class Table(NamedTuple):
  """Rows with the columns of columns.py, and what was left out and why."""

  rows: Frame
  refused: tuple[str, ...]
  unknown_types: Counter[str]


def read(path: Path, measured: bool = True) -> Table:
  """Reads a table and leaves out what cannot be right.

  Args:
    path: A CSV.
    measured: Whether it must have runtimes; a network to predict has none.

  Raises UsageError where columns are missing or no row is left.
  """
  try:
    raw: Frame = pd.read_csv(path, encoding='utf-8', keep_default_na=True, low_memory=False)
  except OSError as error:
    raise UsageError(f'{str(path)!r} cannot be read ({error.strerror}).') from error
  except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
    raise UsageError(f'{str(path)!r} is no CSV: {error}.') from error
  rows = _of_operators(raw) if {'in_c', 'out_c', 'op'} <= set(raw.columns) else raw
  needed = [*CONFIGURATION, *(['runtime'] if measured else [])]
  missing = [name for name in needed if name not in rows.columns]
  if missing:
    raise UsageError(
      f'{str(path)!r} is no table of layers: it lacks {", ".join(missing)}; the columns are those '
      'of layer_power/columns.py.'
    )
  return check(rows, measured, str(path))


def read_all(paths: Sequence[Path]) -> Table:
  """Several tables of one device joined. Raises UsageError where the devices differ."""
  tables = [read(path) for path in paths]
  joined: Frame = pd.concat([t.rows for t in tables], ignore_index=True)
  devices = sorted(set(joined['device'].astype(str)))
  if len(devices) > 1:
    raise UsageError(
      f'The tables are of several devices ({", ".join(devices)}); a predictor is of one. Give the '
      'tables of one device.'
    )
  unknown: Counter[str] = Counter()
  for table in tables:
    unknown.update(table.unknown_types)
  return Table(joined, tuple(why for t in tables for why in t.refused), unknown)


def check(given_rows: Frame, measured: bool, name: str = 'the table') -> Table:
  """Leaves out rows with sizes, times or powers that cannot be; raises UsageError if none stays.

  An empty power is one that was not measured, which is no fault.
  """
  rows: Frame = given_rows.copy()
  for column in ('network', 'layer', 'device'):
    if column not in rows:
      rows[column] = ''
    rows[column] = rows[column].fillna('').astype(str)
  if 'power' not in rows:
    rows['power'] = np.nan
  checked = [*SIZES, 'power', *(['runtime'] if measured else [])]
  faults: dict[int, str] = {}
  for column in checked:
    given = rows[column]
    converted: Frame = pd.to_numeric(given, errors='coerce')
    numbers = converted.to_numpy(float)
    wrong = ~np.isfinite(numbers)
    if column == 'power':
      wrong &= given.notna().to_numpy()
    wrong |= numbers < 0 if column in _MAY_BE_ZERO else numbers <= 0
    for place in np.flatnonzero(wrong):
      faults.setdefault(int(place), f'{column} is {given.iloc[place]!r}')
    rows[column] = numbers
  for column in ('macs', 'bytes_moved'):
    if column in rows:
      rows[column] = pd.to_numeric(rows[column], errors='coerce')
  # Line 1 of the file has the names.
  refused = tuple(f'{name}, line {place + 2}: {why}' for place, why in sorted(faults.items()))
  kept = rows.drop(index=rows.index[sorted(faults)]).reset_index(drop=True)
  unknown = Counter(t for t in kept['layer_type'].astype(str) if t not in columns.LAYER_TYPES)
  if kept.empty:
    why = f' (the first: {refused[0]})' if refused else ''
    raise UsageError(f'{name!r} has no row that can be used{why}.')
  return Table(kept, refused, unknown)


def configurations(rows: Frame) -> np.ndarray:
  """A number for each row that rows of one configuration share; the device is not part of it.

  Folds made of these numbers cannot have a configuration on both sides.
  """
  return rows.groupby(CONFIGURATION, dropna=False, sort=False).ngroup().to_numpy()


def _of_operators(raw: Frame) -> Frame:
  rows = raw.rename(columns=_OPERATORS)
  rows['layer_type'] = [
    next((kind for part, kind in _TYPES.items() if part in str(op)), columns.OTHER)
    for op in rows['op']
  ]
  if 'dtype' not in rows:
    rows['dtype'] = 'float32'  # what these frameworks take when nothing is said
  rows['power_source'] = 'nvml'
  for column in ('padding_0', 'padding_1'):
    if column in rows:
      rows[column] = 2 * rows[column]
  sides = [f'input_size_{axis}' for axis in range(3)]
  outputs = ['output_size_1', 'output_size_2']
  if set(sides) <= set(rows.columns):
    for place in np.flatnonzero((rows['layer_type'] == columns.DENSE).to_numpy()):
      label = rows.index[place]
      sizes = [rows.at[label, side] for side in sides]
      while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
      features, leading = sizes[-1], [*sizes[:-1], 1, 1][:2]
      rows.loc[label, sides] = [features, *leading]
      rows.loc[label, outputs] = leading
  # Its count of multiplications is that of one vector for each dense layer.
  return rows.drop(columns='macs', errors='ignore')
