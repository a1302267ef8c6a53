"""This file opens an XSpace: its planes, their lines and events, found without decoding the rest.

An XSpace (`<host>.xplane.pb`) holds planes (a device, a host), a plane lines (a stream, a thread),
a line events; names and statistics of events are interned in the plane.
"""

import functools
import itertools
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from algorithmic_efficiency.profiling import schema, wire
from algorithmic_efficiency.profiling.activities import Empty, NotATrace, TraceError

_PLANES, _LAST_FIELD_OF_SPACE = 1, 4
_NAME, _LINES, _LAST_FIELD_OF_PLANE = 2, 3, 6
_PIECE_BYTES = 16 << 20  # of a line are decoded at once


class Plane:
  """A plane; its head is decoded when it is asked for, its lines one after another.

  Attributes:
    name: such as '/device:GPU:0' or '/host:CPU'.
  """

  def __init__(self, buffer: wire.Buffer, begin: int, end: int) -> None:
    self._buffer, self._begin, self._end = buffer, begin, end
    self.name = ''
    for field, _, first, behind in wire.fields(buffer, begin, end):
      if field == _NAME:
        self.name = bytes(buffer[first:behind]).decode(errors='replace')
        break
      if field > _LAST_FIELD_OF_PLANE:
        raise NotATrace('it is a protobuf file, but no XSpace')

  def mentions(self, text: bytes) -> bool:
    """Whether the bytes of the plane contain this text; far quicker than decoding it."""
    if isinstance(self._buffer, mmap.mmap):
      return self._buffer.find(text, self._begin, self._end) >= 0
    return text in bytes(self._buffer[self._begin : self._end])

  def check(self) -> None:
    """Walks over all fields. Raises TraceError where the plane is cut or no plane."""
    for field, _, _, _ in wire.fields(self._buffer, self._begin, self._end):
      if field > _LAST_FIELD_OF_PLANE:
        raise NotATrace('it is a protobuf file, but no XSpace')

  @functools.cached_property
  def _parts(self) -> tuple[Any, list[tuple[int, int]]]:
    """(the head, where the lines are)."""
    head: list[bytes] = []
    lines: list[tuple[int, int]] = []
    last = self._begin
    for field, _, first, behind in wire.fields(self._buffer, self._begin, self._end):
      if field == _LINES:
        lines.append((first, behind))
      else:
        head.append(bytes(self._buffer[last:behind]))
      last = behind
    return _parse('PlaneHead', b''.join(head)), lines

  @functools.cached_property
  def event_names(self) -> dict[int, str]:
    """Names of events by number."""
    return {e.key: e.value.name.decode(errors='replace') for e in self._parts[0].event_metadata}

  @functools.cached_property
  def event_stats(self) -> dict[int, Any]:
    """Statistics that all events of a name share, by the name's number."""
    return {e.key: e.value.stats for e in self._parts[0].event_metadata if e.value.stats}

  @functools.cached_property
  def stat_names(self) -> dict[int, str]:
    """Names of statistics, and texts that statistics refer to, by number."""
    return {e.key: e.value.name.decode(errors='replace') for e in self._parts[0].stat_metadata}

  def stat_ids(self, *names: str) -> dict[int, str]:
    """The numbers of those statistics that the plane knows, with their names."""
    return {number: name for number, name in self.stat_names.items() if name in names}

  def lines(self) -> Iterator[tuple[str, int, Iterator[Any]]]:
    """(name, begin in picoseconds, events) of each line; take the events before the next line.

    Events are messages as they were decoded, since most of them are looked at and passed over:
    `metadata_id`, `offset_ps` from the line's begin, `duration_ps`, `stats`.
    """
    for begin, end in self._parts[1]:
      pieces = wire.pieces(self._buffer, begin, end, _PIECE_BYTES)
      line = _parse('Line', next(pieces, b''))
      name = (line.name or line.display_name).decode(errors='replace')
      others = (_parse('Line', piece).events for piece in pieces)
      events = itertools.chain(line.events, itertools.chain.from_iterable(others))
      yield name, line.timestamp_ns * 1000, events

  def text(self, stat: Any) -> str:
    """A statistic's value as text."""
    if stat.str_value:
      return stat.str_value.decode(errors='replace')
    if stat.ref_value:
      return self.stat_names.get(stat.ref_value, '')
    if stat.double_value:
      return repr(stat.double_value)
    return str(stat.int64_value or stat.uint64_value or '')


def number(stat: Any) -> int:
  """A statistic's value as an integer; 0 where it is none."""
  if stat.str_value:
    return int(stat.str_value) if stat.str_value.isdigit() else 0
  return stat.int64_value or stat.uint64_value or int(stat.double_value)


def open_space(path: Path) -> list[Plane]:
  """The planes of a file. Raises TraceError where it is none or broken, OSError."""
  with path.open('rb') as file:
    if path.stat().st_size == 0:
      raise Empty('the file is empty')
    buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  planes: list[Plane] = []
  for field, _, begin, end in wire.fields(buffer, 0, len(buffer)):
    if field > _LAST_FIELD_OF_SPACE:
      raise NotATrace('it is a protobuf file, but no XSpace')
    if field == _PLANES:
      planes.append(Plane(buffer, begin, end))
  if not any(plane.name for plane in planes):
    raise Empty('there is no plane in it')
  return planes


def _parse(name: str, content: bytes) -> Any:
  from google.protobuf.message import DecodeError

  try:
    return schema.parse(name, content)
  except DecodeError as error:
    raise TraceError(f'a {name} in it cannot be decoded ({error})') from error
