"""This file writes tables of rows: CSV, Parquet, and the JSON that TensorBoard's page gave."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.profiling.columns import COLUMNS, KERNEL
from algorithmic_efficiency.records.whole_files import write_whole

# The columns of the page's export, which scripts written for it may find by their place.
GVIZ = tuple(column for column in KERNEL if column.name != 'occupancy_pct')
_LABELS = {
  'rank': 'Rank',
  'kernel_name': 'Kernel Name',
  'registers_per_thread': 'Registers per thread',
  'shmem_bytes': 'Shared Mem bytes',
  'block_dim': 'Block dim',
  'grid_dim': 'Grid dim',
  'is_op_tensor_core_eligible': 'Op is TensorCore eligible',
  'is_kernel_using_tensor_core': 'Kernel uses TensorCore',
  'op_name': 'Op Name',
  'occurrences': 'Occurrences',
  'total_duration_us': 'Total Duration (us)',
  'avg_duration_us': 'Avg Duration (us)',
  'min_duration_us': 'Min Duration (us)',
  'max_duration_us': 'Max Duration (us)',
}
_BATCH_ROWS = 20_000

Rows = Iterable[Sequence[Any]]


def write_csv(path: Path, names: Sequence[str], rows: Rows) -> int:
  """Writes the rows, whole or not at all; returns how many. Raises MeasurementError."""

  def write(temporary: Path) -> int:
    count = 0
    with temporary.open('w', encoding='utf-8', newline='') as file:
      writer = csv.writer(file, lineterminator='\n')
      writer.writerow(names)
      for row in rows:
        writer.writerow(row)
        count += 1
    return count

  return _whole(path, write)


def write_parquet(path: Path, names: Sequence[str], rows: Rows) -> int:
  """The same as Parquet, in batches. Raises UsageError without pyarrow, MeasurementError."""
  try:
    import pyarrow as pa
    from pyarrow import parquet
  except ImportError as error:
    raise UsageError('Parquet needs pyarrow, which is not there; pip install pyarrow.') from error
  types = {'number': pa.float64(), 'string': pa.string(), 'boolean': pa.bool_()}
  known = {column.name: types[column.type] for column in COLUMNS}

  def write(temporary: Path) -> int:
    count, writer = 0, None
    try:
      for batch in _batches(rows):
        columns = zip(names, zip(*batch, strict=True), strict=True)
        arrays = [pa.array(_plain(list(v), n in known), known.get(n)) for n, v in columns]
        table = pa.table(arrays, names=list(names))
        if writer is None:
          writer = parquet.ParquetWriter(temporary, table.schema)
        writer.write_table(table.cast(writer.schema))
        count += len(batch)
      if writer is None:
        parquet.write_table(pa.table({n: pa.array([], known.get(n)) for n in names}), temporary)
    finally:
      if writer is not None:
        writer.close()
    return count

  return _whole(path, write)


def write_gviz(path: Path, rows: Iterable[dict[str, Any]]) -> None:
  """The JSON of one trace as the page exported it: {"cols": […], "rows": [{"c": [{"v": …}]}]}."""
  columns = [{'id': c.name, 'label': _LABELS[c.name], 'type': c.type} for c in GVIZ]
  cells = [{'c': [{'v': row[c.name]} for c in GVIZ]} for row in rows]
  write_whole(path, json.dumps({'cols': columns, 'rows': cells}))


def _plain(values: list[Any], typed: bool) -> list[Any]:
  """Values of one type: parameters may be numbers in one trace and words in another."""
  if typed:
    return values
  if all(v is None or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values):
    return [None if v is None else float(v) for v in values]
  return [None if v is None else str(v) for v in values]


def _batches(rows: Rows) -> Iterator[list[Sequence[Any]]]:
  batch: list[Sequence[Any]] = []
  for row in rows:
    batch.append(row)
    if len(batch) == _BATCH_ROWS:
      yield batch
      batch = []
  if batch:
    yield batch


def _whole(path: Path, write: Callable[[Path], int]) -> int:
  temporary = path.with_name(f'.{path.name}.tmp')
  try:
    count = write(temporary)
    temporary.replace(path)
  except OSError as error:
    raise MeasurementError(
      f'{str(path)!r} cannot be written ({error.strerror}); what was exported is kept. '
      'Free space or mend the folder, and export again.'
    ) from error
  finally:
    temporary.unlink(missing_ok=True)
  return count
