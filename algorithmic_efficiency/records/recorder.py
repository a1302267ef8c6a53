"""This file writes a trial's rows: metrics.jsonl is the truth, the CSV files are views of it.

Rows are appended, each by one write, and never read back: row 10,000 costs what row 10 did. Only
a column that was not there before makes a CSV file be written anew, whole or not at all.
"""

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.appended_file import AppendedFile, to_json, to_line
from algorithmic_efficiency.records.run_folder import TrialFolder

Row = Mapping[str, Any]
Order = Callable[[tuple[str, ...]], tuple[str, ...]]


def to_cell(value: Any) -> Any:
  """The value as the csv module shall write it: TRUE or FALSE, floats to their last digit.

  None becomes an empty cell.
  """
  if isinstance(value, bool):
    return 'TRUE' if value else 'FALSE'
  if isinstance(value, float):
    return value if math.isfinite(value) else to_json(value)
  return json.dumps(to_json(value)) if isinstance(value, tuple | list | dict) else value


class CsvFile:
  """Rows of changing columns as a CSV file with one header.

  Args:
    path: the file.
    order: puts a tuple of column names into the order of the header.
  """

  def __init__(self, path: Path, order: Order) -> None:
    self._file = AppendedFile(path)
    self._order = order
    self._header: tuple[str, ...] = ()
    self._known: frozenset[str] = frozenset()

  def refill(self, rows: Iterable[Row]) -> None:
    """Replaces whatever is there by these rows."""
    cells: list[Row] = [{name: to_cell(value) for name, value in row.items()} for row in rows]
    for row in cells:
      if row.keys() - self._known:
        self._header = self._order((*self._header, *(n for n in row if n not in self._known)))
        self._known = frozenset(self._header)
    if self._header:
      lines = [_line([row.get(name) for name in self._header]) for row in cells]
      self._file.replace(_line(self._header) + ''.join(lines))

  def append(self, row: Row) -> None:
    """Adds a row. A column seen for the first time is added to the header of the whole file."""
    if row.keys() - self._known:
      self._add_columns(tuple(row))
    self._file.append(_line([to_cell(row.get(name)) for name in self._header]))

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _add_columns(self, names: tuple[str, ...]) -> None:
    new = tuple(name for name in names if name not in self._known)
    if not new:
      return
    header = self._order((*self._header, *new))
    text = _line(header)
    if self._header:
      with self._file.path.open(newline='', encoding='utf-8') as file:
        for cells in list(csv.reader(file))[1:]:
          kept = dict(zip(self._header, cells, strict=True))
          text += _line(kept.get(name, '') for name in header)
    self._file.replace(text)
    self._header, self._known = header, frozenset(header)


class Recorder:
  """A trial's rows, on disk before training goes on.

  Args:
    folder: the trial's folder.
    algoperf: also keeps eval_measurements.csv and measurements.csv in AlgoPerf's columns.

  Attributes:
    num_rows: recorded so far.
    num_scalar_rows: of measurements.csv.
  """

  def __init__(self, folder: TrialFolder, algoperf: bool = False) -> None:
    self.num_rows = 0
    self.num_scalar_rows = 0
    self._jsonl = AppendedFile(folder.metrics_jsonl)
    self._csv = CsvFile(folder.metrics_csv, columns.in_order)
    self._evaluations = CsvFile(folder.eval_measurements_csv, _sorted) if algoperf else None
    self._scalars_path = folder.measurements_csv
    self._scalars: CsvFile | None = None
    self._algoperf = algoperf

  @property
  def position(self) -> tuple[int, int]:
    """Rows and scalar rows so far; what `go_on` takes."""
    return self.num_rows, self.num_scalar_rows

  def go_on(self, num_rows: int, num_scalar_rows: int) -> list[str]:
    """Takes up a record after its first rows, which makes the files anew.

    Returns:
      The lines of metrics.jsonl that came later; they will be recorded again.

    Raises:
      MeasurementError: there are fewer rows than that, or the disk refuses it.
    """
    path = self._jsonl.path
    lines = path.read_text(encoding='utf-8').splitlines(keepends=True)
    kept, later = lines[:num_rows], lines[num_rows:]
    try:
      rows: list[Row] = [json.loads(line) for line in kept]
    except ValueError as error:
      raise MeasurementError(f'{str(path)!r} is damaged: {error}.') from error
    if len(rows) < num_rows:
      raise MeasurementError(f'{str(path)!r} has {len(rows)} rows of {num_rows}: some are lost.')
    self._jsonl.replace(''.join(kept))
    self._csv.refill(rows)
    if self._evaluations is not None:
      self._evaluations.refill(_algoperf_columns(row) for row in rows)
    if num_scalar_rows or self._scalars_path.exists():
      with self._scalars_path.open(newline='', encoding='utf-8') as file:
        scalars = list(csv.DictReader(file))[:num_scalar_rows]
      self._scalars = CsvFile(self._scalars_path, _sorted)
      self._scalars.refill(scalars)
    self.num_rows, self.num_scalar_rows = num_rows, num_scalar_rows
    return later

  def evaluation(self, row: Row) -> None:
    """Records one evaluation. Raises MeasurementError if the disk refuses it."""
    self.num_rows += 1
    self._jsonl.append(to_line(row), durable=True)
    self._csv.append(row)
    if self._evaluations is not None:
      measured = _algoperf_columns(row)
      self._evaluations.append(measured)
      self._append_scalars(measured)

  def append_scalar_metrics(self, metrics: Row, global_step: int) -> None:
    """What a submission logs through `workload.metrics_logger`, into measurements.csv."""
    self._append_scalars({**{k: float(v) for k, v in metrics.items()}, 'global_step': global_step})

  def close(self) -> None:
    """Closes the files."""
    self._jsonl.close()
    for file in (self._csv, self._evaluations, self._scalars):
      if file is not None:
        file.close()

  def _append_scalars(self, row: Row) -> None:
    self.num_scalar_rows += 1
    if self._scalars is None:
      self._scalars = CsvFile(self._scalars_path, _sorted)
    self._scalars.append(row)


def _line(cells: Any) -> str:
  buffer = io.StringIO()
  # Its own line end, \r\n, makes the module quote both characters wherever they stand in a cell.
  csv.writer(buffer).writerow(cells)
  return buffer.getvalue().removesuffix('\r\n') + '\n'


def _sorted(names: tuple[str, ...]) -> tuple[str, ...]:
  return tuple(sorted(names))


def _algoperf_columns(row: Row) -> dict[str, Any]:
  """AlgoPerf's columns of a row: `score` is the submission time of the evaluation."""
  times = (
    'accumulated_submission_time',
    'accumulated_eval_time',
    'accumulated_logging_time',
    'total_duration',
    'global_step',
  )
  measured = {k: v for k, v in row.items() if k.startswith(('train/', 'validation/', 'test/'))}
  measured.update({name: row[name] for name in times})
  measured['score'] = row['accumulated_submission_time']
  measured['preemption_count'] = row.get('preemption_count', 0)
  return measured
