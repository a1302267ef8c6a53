"""This file reads the events of a JSON trace one by one, so that its size does not matter."""

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from algorithmic_efficiency.profiling.activities import Empty, NotATrace, TraceError

_CHUNK_CHARS = 1 << 20
_EVENTS = '"traceEvents"'
_LONGEST_EVENT_CHARS = 64 << 20
_HEAD_CHARS = 1 << 20  # what comes before the events is a few lines


class Events:
  """The events of `{…, "traceEvents": [{…}, …], …}`, plain or gzipped, or of a bare list.

  Attributes:
    head: what was written before the events, such as 'schemaVersion'.

  Making one raises TraceError where the file is none, OSError.
  """

  def __init__(self, path: Path) -> None:
    self._path = path
    self._file: IO[str] = self._open()
    try:
      self._text = self._more()
      if not self._text.strip():
        raise Empty('the file is empty')
      self.head: dict[str, Any] = self._read_head()
    except BaseException:
      self._file.close()
      raise

  def __iter__(self) -> Iterator[dict[str, Any]]:
    """The events in order, once. Raises TraceError where the file is cut or no JSON."""
    decode = json.JSONDecoder().raw_decode
    at, text = 0, self._text
    while True:
      at = _skip(text, at)
      if at < len(text) and text[at] == ']':
        return
      try:
        event, at = decode(text, at)
      except ValueError as error:
        more = self._more()
        if not more:
          raise TraceError('it ends in the middle of its events') from error
        text, at = text[at:] + more, 0
        if len(text) > _LONGEST_EVENT_CHARS:
          raise TraceError('it is no JSON from some event on') from error
        continue
      if isinstance(event, dict):
        yield cast(dict[str, Any], event)

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _open(self) -> IO[str]:
    with self._path.open('rb') as file:
      zipped = file.read(2) == b'\x1f\x8b'
    if zipped:
      return gzip.open(self._path, 'rt', encoding='utf-8', errors='replace')
    return self._path.open(encoding='utf-8', errors='replace')

  def _more(self) -> str:
    try:
      return self._file.read(_CHUNK_CHARS)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
      raise TraceError(f'the compressed file is cut or damaged ({error})') from error

  def _read_head(self) -> dict[str, Any]:
    """Reads up to the first event."""
    start = self._text.lstrip()
    if start.startswith('['):
      self._text = start[1:]
      return {}
    if not start.startswith('{'):
      raise NotATrace('it is no JSON trace')
    while (place := self._text.find(_EVENTS)) < 0:
      more = self._more() if len(self._text) < _HEAD_CHARS else ''
      if not more:
        raise NotATrace('it is JSON without "traceEvents"')
      self._text += more
    head = self._text[:place].rstrip().rstrip(',') + '}'
    while (begin := self._text.find('[', place)) < 0:
      more = self._more()
      if not more:
        raise TraceError('it ends in the middle, before its first event')
      self._text += more
    self._text = self._text[begin + 1 :]
    try:
      return json.loads(head)
    except ValueError:
      return {}  # the head is for people; events are read without it


def _skip(text: str, at: int) -> int:
  """Behind the white space and the commas between two events."""
  while at < len(text) and text[at] in ' \t\r\n,':
    at += 1
  return at
