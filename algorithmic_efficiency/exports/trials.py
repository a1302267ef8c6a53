"""This file reads what trials have recorded, at once or while they run, whoever recorded it.

Three kinds of folder: a trial's of this bench (metrics.jsonl), a trial's of which only the CSV file
is left (metrics.csv), and one of AlgoPerf's logs (eval_measurements.csv).
"""

import csv
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from algorithmic_efficiency.records.run_folder import RunFolder, TrialFolder
from algorithmic_efficiency.records.tables import restore_floats
from algorithmic_efficiency.records.tail import Tail
from algorithmic_efficiency.records.trial_lock import any_is_alive

Number = int | float
TELEMETRY = 'telemetry/'  # begins the names of what was sampled

_MARKS = ('trial.json', 'metrics.jsonl', 'metrics.csv', 'eval_measurements.csv')
_NO_TRIALS_IN = {'checkpoints', 'traces'}
_NOT_MEASURED = {'monotonic_sec', 'time'}
_TRUTH = {'TRUE': 1, 'FALSE': 0, 'True': 1, 'False': 0}


class Point(NamedTuple):
  """A row of the record, or a sample of the hardware.

  Attributes:
    is_row: whether it is a row.
    step: of a row, its global_step; of a sample, whole milliseconds since the first sample.
    time: seconds since 1970.
    values: of every column that holds a number; True is 1.
  """

  is_row: bool
  step: int
  time: float
  values: dict[str, Number]


class Status(NamedTuple):
  """How a trial has ended, or that it runs.

  Attributes:
    word: running, complete, failed, interrupted, killed, or unknown where nobody recorded it.
    reason: in words.
    goal_reached: None where nobody recorded it.
  """

  word: str
  reason: str = ''
  goal_reached: bool | None = None


@dataclass(frozen=True)
class Trial:
  """What is known of a trial before its first row.

  Attributes:
    key: sixteen hexadecimal digits, the same wherever the record lies and after a resume.
    name: folders below the one that was exported: digits_jax/run_1.
    group: the folder that the trial is in.
    hparams: its hyperparameters.
    metadata: what was run, on what, with which settings.
  """

  key: str
  name: str
  group: str
  hparams: dict[str, Any]
  metadata: dict[str, Any]


def find(root: Path, leave_out: Path | None = None) -> list[Path]:
  """The folders of all trials at or below `root`, run_2 before run_10."""
  found: list[Path] = []
  for parent, folders, files in os.walk(root):
    path = Path(parent)
    # An output folder within the logs holds no trials.
    folders[:] = [
      name for name in folders if name not in _NO_TRIALS_IN and path / name != leave_out
    ]
    if any(mark in files for mark in _MARKS):
      found.append(path)
  return sorted(found, key=_natural)


def default_output(root: Path) -> Path:
  """Where exports of `root` go: where a run puts them itself (RunFolder.exports)."""
  nearest = next(iter(find(root)), root)
  root = root.absolute()
  return RunFolder(root, '', algoperf=_is_algoperf(nearest)).exports


class Reader:
  """One trial's record.

  Args:
    path: its folder.
    name: as users know it.
    warn: told one sentence about whatever cannot be read.
    telemetry_period_sec: samples that come sooner after the last are left out; None: all are.

  Attributes:
    over: whoever ran it has ended.
  """

  def __init__(
    self,
    path: Path,
    name: str,
    warn: Callable[[str], None],
    telemetry_period_sec: float | None = 0.0,
  ) -> None:
    self.name = name
    self.over = False
    self._warn = warn
    self._folder = TrialFolder(path, algoperf=_is_algoperf(path))
    self._study = RunFolder(path.parent.parent, path.parent.name)
    self._period = telemetry_period_sec
    self._rows = Tail(self._folder.metrics_jsonl)
    self._samples = Tail(self._folder.telemetry)
    self._table = _first_there(self._folder.metrics_csv, self._folder.eval_measurements_csv)
    self._table_is_read = False
    self._inode = _inode(self._folder.metrics_jsonl)
    self._first_sample: float | None = None
    self._last_sample = -math.inf
    self._held: list[Point] = []

  def trial(self) -> Trial:
    """What is known of the trial now."""
    metadata = self._object(_first_there(self._study.metadata, self._folder.meta_data(0)))
    hparams = self._object(self._folder.hparams)
    places = '/'.join(self._folder.path.resolve().parts[-2:])
    identity = json.dumps(metadata, sort_keys=True) if metadata else self._first_line()
    key = hashlib.sha256(f'{places}\n{identity}'.encode()).hexdigest()[:16]
    group = self.name.rpartition('/')[0]
    return Trial(key, self.name, group, hparams, metadata)

  def status(self) -> Status:
    """The trial's status; one that says it runs although nobody runs it was killed."""
    state = self._object(self._folder.state)
    if not state:
      return Status('unknown')
    word, reason = str(state.get('status', 'unknown')), str(state.get('reason', ''))
    if word == 'running' and (self.over or not any_is_alive([self._folder.lock])):
      word, reason = 'killed', 'its process ended without a word'
    goal = state.get('goal_reached')
    return Status(word, reason, goal if isinstance(goal, bool) else None)

  def fingerprint(self) -> str:
    """Changes whenever one of the files does."""
    folder = self._folder
    files = [
      folder.metrics_jsonl, folder.telemetry, folder.state, folder.hparams, folder.meta_data(0),
      self._study.metadata, folder.metrics_csv, folder.eval_measurements_csv,
    ]  # fmt: skip
    parts = [f'{self.status().word} {self._period}']
    for file in files:
      try:
        found = file.stat()
      except OSError:
        continue
      parts.append(f'{file.name} {found.st_size} {found.st_mtime_ns}')
    return hashlib.sha256('\n'.join(parts).encode()).hexdigest()

  def replaced(self) -> bool:
    """Whether the record was taken up again since, perhaps without its last rows."""
    now = _inode(self._folder.metrics_jsonl)
    return self._inode is not None and now != self._inode

  def new(self, until: float = math.inf) -> list[Point]:
    """The points that are new since the last time, in the order of time.

    Samples later than `until` (seconds since 1970) are kept for the next time: a row that was
    measured before them may still be on its way to the disk.
    """
    if self._inode is None:
      self._inode = _inode(self._folder.metrics_jsonl)
    samples = [*self._held, *filter(None, map(self._sample, self._samples.new()))]
    points = [self._row(row) for row in self._rows.new()]
    points += [sample for sample in samples if sample.time <= until]
    self._held = [sample for sample in samples if sample.time > until]
    return sorted(points, key=lambda point: point.time)

  @property
  def holds_back(self) -> bool:
    """Whether there are samples that are kept for the next time."""
    return bool(self._held)

  def rest(self) -> list[Point]:
    """What `new` has not told because it might have grown; warns of what cannot be read."""
    points = self._rest_of_table() if self._inode is None else []
    for tail, make in ((self._rows, self._row), (self._samples, self._sample)):
      left, torn = tail.rest()
      if torn:
        self._warn(f'{self.name}: left out the torn last line of {tail.path.name}')
      if tail.unread_lines:
        self._warn(
          f'{self.name}: left out {tail.unread_lines} unreadable lines of {tail.path.name}'
        )
      point = None if left is None else make(left)
      points += [] if point is None else [point]
    if self._inode is None and self._table is None:
      self._warn(f'{self.name}: no evaluation was recorded')
    return points

  def _row(self, row: Mapping[str, Any]) -> Point:
    row = restore_floats(row)
    values = _numbers(row)
    time = values.get('recorded_at')
    if time is None:  # recorded before there was such a column
      time = values.get('global_start_time', 0) + values.get('total_duration', 0)
    return Point(True, int(values.get('global_step', 0)), float(time), values)

  def _sample(self, line: Mapping[str, Any]) -> Point | None:
    if self._period is None or line.get('kind') != 'sample' or 'time' not in line:
      return None
    time = float(line['time'])
    if self._first_sample is None:
      self._first_sample = time
    if time - self._last_sample < 0.99 * self._period:  # a hair early counts as on time
      return None
    self._last_sample = time
    since = time - self._first_sample
    found = _numbers(restore_floats(line))
    values = {f'{TELEMETRY}{n}': value for n, value in found.items() if n not in _NOT_MEASURED}
    return Point(False, round(since * 1000), time, {f'{TELEMETRY}seconds': since, **values})

  def _rest_of_table(self) -> list[Point]:
    """The rows of a CSV file; where nobody recorded the times, the file's own tells the last."""
    if self._table is None or self._table_is_read:
      return []
    self._table_is_read = True
    rows: list[dict[str, Any]] = []
    try:
      text = self._table.read_text(encoding='utf-8', errors='replace')
      for row in csv.DictReader(text.splitlines(keepends=True)):
        if None in row or None in row.values():
          self._warn(f'{self.name}: left out a torn or broken row of {self._table.name}')
        else:
          rows.append({name: _number(cell) for name, cell in row.items()})
      written = self._table.stat().st_mtime
    except (OSError, csv.Error) as error:
      self._warn(f'{self.name}: {self._table.name} cannot be read ({error})')
      return []
    end = max((row['total_duration'] for row in rows if _is_number(row.get('total_duration'))),
              default=0.0)  # fmt: skip
    points: list[Point] = []
    for row in rows:
      point = self._row(row)
      if 'global_start_time' not in point.values and 'recorded_at' not in point.values:
        point = point._replace(time=written - end + point.values.get('total_duration', 0.0))
      points.append(point)
    return points

  def _first_line(self) -> str:
    for path in (self._folder.metrics_jsonl, self._table):
      try:
        if path is not None:
          return '\n'.join(path.read_text(encoding='utf-8', errors='replace').split('\n')[:2])
      except OSError:
        continue
    return ''

  def _object(self, path: Path | None) -> dict[str, Any]:
    try:
      found: object = json.loads(path.read_text(encoding='utf-8')) if path is not None else {}
    except FileNotFoundError:
      return {}
    except (OSError, ValueError) as error:
      self._warn(f'{self.name}: {path and path.name} cannot be read ({error})')
      return {}
    return cast(dict[str, Any], found) if isinstance(found, dict) else {}


def _is_algoperf(trial: Path) -> bool:
  return trial.name.startswith('trial_')


def _numbers(row: Mapping[str, Any]) -> dict[str, Number]:
  return {
    name: int(value) if isinstance(value, bool) else value
    for name, value in row.items()
    if isinstance(value, int | float)
  }


def _number(cell: str) -> Any:
  """A CSV file's cell as the number it was."""
  if cell in _TRUTH:
    return _TRUTH[cell]
  try:
    return int(cell) if re.fullmatch(r'[+-]?\d+', cell) else float(cell)
  except ValueError:
    return cell


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and math.isfinite(value)


def _first_there(*paths: Path) -> Path | None:
  return next((path for path in paths if path.exists()), None)


def _inode(path: Path) -> int | None:
  try:
    return path.stat().st_ino
  except OSError:
    return None


def _natural(path: Path) -> list[tuple[int, str]]:
  pieces: Iterator[str] = (piece for piece in re.split(r'(\d+)', str(path)))
  return [(int(piece), '') if piece.isdigit() else (0, piece) for piece in pieces]
