"""This file appends whole lines to files: what is written is there, whatever happens next."""

import contextlib
import json
import math
import os
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, cast

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records.whole_files import write_whole


def to_json(value: Any) -> Any:
  """The value as strict JSON can hold it: not-finite numbers as protobuf's JSON writes them.

  All the way down.
  """
  if isinstance(value, float) and not math.isfinite(value):
    return 'NaN' if math.isnan(value) else ('Infinity' if value > 0 else '-Infinity')
  if isinstance(value, Mapping):
    return {str(k): to_json(v) for k, v in cast(Mapping[Any, Any], value).items()}
  if isinstance(value, tuple | list):
    return [to_json(v) for v in cast(list[Any], value)]
  return value


def to_line(row: Mapping[str, Any]) -> str:
  """The row as one line of strict JSON."""
  try:
    return json.dumps(row, allow_nan=False) + '\n'
  except ValueError:  # a number that is not finite; rare enough to look for only now
    return json.dumps(to_json(row), allow_nan=False) + '\n'


def end_last_line(path: Path) -> None:
  """Ends a line that a kill has cut, so that the next is a line of its own."""
  with path.open('rb+') as file:
    if file.seek(0, os.SEEK_END):
      file.seek(-1, os.SEEK_END)
      if file.read(1) != b'\n':
        file.write(b'\n')


class AppendedFile:
  """A file that grows by whole lines; a line that does not fit on the disk leaves no trace."""

  def __init__(self, path: Path) -> None:
    self.path = path
    with self._explained():
      self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

  def append(self, line: str, durable: bool = False) -> None:
    """Writes a line; `durable` also waits until the disk has it. Raises MeasurementError."""
    data = line.encode(errors='backslashreplace')  # a name that is not UTF-8 ends no run
    size = os.fstat(self._fd).st_size
    with self._explained():
      try:
        written = os.write(self._fd, data)
        while written < len(data):  # a nearly full disk takes a part before it refuses
          written += os.write(self._fd, data[written:])
        if durable:
          os.fdatasync(self._fd)
      except OSError:
        os.ftruncate(self._fd, size)
        raise

  def replace(self, text: str) -> None:
    """Replaces the whole content, or leaves it as it was. Raises MeasurementError."""
    with self._explained():
      write_whole(self.path, text)
      os.close(self._fd)
      self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)

  def close(self) -> None:
    """Closes the file."""
    os.close(self._fd)

  @contextlib.contextmanager
  def _explained(self) -> Generator[None, None, None]:
    try:
      yield
    except OSError as error:
      raise MeasurementError(
        f'{str(self.path)!r} cannot be written ({error.strerror}); the rows before are kept. '
        'Free space or mend the folder, then go on with --resume.'
      ) from error
