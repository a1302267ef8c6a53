"""This file writes and reads a trace: one file of JSON lines, appended as the process runs.

`MEMORY.md` describes every line. Numbers that come in thousands are little-endian int64, packed by
zlib and base64, so that any language with those two reads them.
"""

import base64
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace.backends import Extent, Touched
from algorithmic_efficiency.memory_trace.mappings import Mapping
from algorithmic_efficiency.records.appended_file import AppendedFile, to_line

FORMAT = 1
_LEVEL = 1  # of zlib; 6 takes four times as long for a tenth less


class Window(NamedTuple):
  """When a window was, and what it cost.

  Attributes:
    number: from 0, the same for all processes of a trace.
    begin_ns, end_ns: monotonic clock: let go on, and stopped again.
    paused_ns: from its end to when the process was let go on.
    step: training steps made by its end; None where nobody tells.
  """

  number: int
  begin_ns: int
  end_ns: int
  paused_ns: int
  step: int | None = None


class Writer:
  """Appends to a trace. What the disk refuses raises MeasurementError; lines before are kept."""

  def __init__(self, path: Path, header: dict[str, Any]) -> None:
    self._file = AppendedFile(path)
    self._known: dict[int, dict[Mapping, int]] = {}  # ids of the mappings of the last window
    self._next_id = 0
    self.line('header', format=FORMAT, **header)

  def line(self, kind: str, **content: Any) -> None:
    """Appends a line."""
    self._file.append(to_line({'kind': kind, **content}))

  def sample(self, pid: int, window: Window, touched: Touched) -> None:
    """Appends what a process touched in a window."""
    rows = np.array(
      [
        (number, extent.resident, extent.touched)
        for number, extent in zip(self._ids(pid, touched.extents), touched.extents, strict=True)
      ],
      np.int64,
    )
    content = {
      **window._asdict(),
      'pid': pid,
      'virtual': touched.virtual,
      'resident': touched.resident,
      'touched': touched.touched,
      'unplaced': touched.unplaced,
      'huge': touched.huge,
      'mappings': pack(rows.reshape(-1, 3).T),
      'units': None if touched.units is None else pack(gaps(touched.units).T),
    }
    self.line('sample', **content)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _ids(self, pid: int, extents: list[Extent]) -> list[int]:
    """Numbers of mappings; one that is new, or comes back, gets a new one and a line."""
    before, now = self._known.get(pid, {}), {}
    for extent in extents:
      mapping = extent.mapping
      number = before.get(mapping)
      if number is None:
        number = self._next_id
        self._next_id += 1
        self.line('mapping', id=number, pid=pid, **mapping._asdict(), region=mapping.region)
      now[mapping] = number
    self._known[pid] = now
    return [now[extent.mapping] for extent in extents]


class Sample(NamedTuple):
  """A process in a window, as read from a trace."""

  pid: int
  window: Window
  touched: Touched


class Trace:
  """A trace that was written, wholly or as far as it came.

  Args:
    path: of the file. A last line that a kill has cut is left out.

  Raises UsageError where it is none.

  Attributes:
    header: of the trace; `unit_bytes`, `backend`, `granularity`, …
    end: the last line's content, or None where the tracer was killed.
  """

  def __init__(self, path: Path) -> None:
    self.path = path
    self.end: dict[str, Any] | None = None
    try:
      with path.open('rb') as file:
        self.header = _parsed(file.readline())
    except OSError as error:
      raise UsageError(f'{str(path)!r} cannot be read ({error.strerror}).') from error
    form = self.header.get('format')
    if self.header.get('kind') != 'header' or not isinstance(form, int):
      raise UsageError(f'{str(path)!r} is no memory trace; give one that trace_memory.py wrote.')
    if form > FORMAT:
      raise UsageError(
        f'{str(path)!r} is of format {form}, this program reads up to {FORMAT}; '
        'install a newer one.'
      )

  def lines(self, *kinds: str) -> Iterator[dict[str, Any]]:
    """Its lines of these kinds, in order."""
    wanted = [f'{{"kind": "{kind}"'.encode() for kind in kinds]
    with self.path.open('rb') as file:
      for raw in file:
        if any(raw.startswith(start) for start in wanted):
          content = _parsed(raw)
          if content:
            yield content

  def samples(self) -> Iterator[Sample]:
    """Every process in every window, in the order of time; one is held in memory at a time."""
    known: dict[int, Mapping] = {}
    for line in self.lines('mapping', 'sample', 'end'):
      if line['kind'] == 'mapping':
        known[line['id']] = Mapping(*(line[name] for name in Mapping._fields))
      elif line['kind'] == 'end':
        self.end = line
      else:
        yield _sample(line, known)


def pack(values: np.ndarray) -> str:
  """Integers as text; rows of the same kind beside each other pack better."""
  return base64.b64encode(zlib.compress(values.astype('<i8').tobytes(), _LEVEL)).decode()


def unpack(text: str) -> np.ndarray:
  """The integers, flat."""
  return np.frombuffer(zlib.decompress(base64.b64decode(text)), '<i8')


def gaps(runs: np.ndarray) -> np.ndarray:
  """Runs (first, how many) as (units left out since the last run's end, how many)."""
  ends = runs[:, 0] + runs[:, 1]
  return np.column_stack([runs[:, 0] - np.concatenate([[0], ends[:-1]]), runs[:, 1]])


def ungapped(pairs: np.ndarray) -> np.ndarray:
  """The runs again."""
  return np.column_stack([np.cumsum(pairs.sum(1)) - pairs[:, 1], pairs[:, 1]])


def _sample(line: dict[str, Any], known: dict[int, Mapping]) -> Sample:
  window = Window(*(line[name] for name in Window._fields))
  extents = [
    Extent(known[number], resident, touched)
    for number, resident, touched in unpack(line['mappings']).reshape(3, -1).T.tolist()
  ]
  units = None if line['units'] is None else ungapped(unpack(line['units']).reshape(2, -1).T)
  touched = Touched(
    extents, line['virtual'], line['resident'], units, line['unplaced'], line['huge']
  )
  return Sample(line['pid'], window, touched)


def _parsed(raw: bytes) -> dict[str, Any]:
  """The line's content; nothing of a line that is cut or is none of ours."""
  try:
    content = json.loads(raw)
  except ValueError:
    return {}
  return content if isinstance(content, dict) else {}
