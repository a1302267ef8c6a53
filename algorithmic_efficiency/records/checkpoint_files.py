"""This file writes and checks the folders that checkpoints are.

Such a folder appears under its name when all of it is on the disk. `checkpoint.json` in it names
every other file with its size and CRC-32, and has a CRC-32 of itself.
"""

import contextlib
import io
import json
import os
import shutil
import zlib
from collections.abc import Generator, Mapping
from concurrent import futures
from pathlib import Path
from typing import IO, Any, cast

CONTENT = 'checkpoint.json'
FORMAT = 1  # of the folder; another is refused
_BLOCK = 1 << 22  # bytes read at a time
_LARGE = 1 << 16  # bytes worth another thread


class CountedFile:
  """A file written from its beginning to its end, with its size and CRC-32.

  It offers no seek, so that nothing is changed after it was counted.
  """

  def __init__(self, file: IO[bytes], beside: futures.Executor) -> None:
    self._file = file
    self._beside = beside
    self.size = 0
    self.checksum = 0

  def write(self, data: Any) -> int:
    """Writes all of the data."""
    block = memoryview(data)
    if not block.nbytes:
      return 0
    block = block.cast('B')
    self.size += len(block)
    if len(block) < _LARGE:
      self.checksum = zlib.crc32(block, self.checksum)
      return self._file.write(block)
    # Both take as long, and neither needs the interpreter.
    checksum = self._beside.submit(zlib.crc32, block, self.checksum)
    written = self._file.write(block)
    self.checksum = checksum.result()
    return written

  def read(self, size: int = -1) -> bytes:
    """Cannot be: numpy asks whether a file has this."""
    raise io.UnsupportedOperation('read')

  def flush(self) -> None:
    """Hands what was written to the operating system."""
    self._file.flush()


@contextlib.contextmanager
def written(path: Path) -> Generator[CountedFile, None, None]:
  """A new file, on the disk when this ends."""
  with path.open('wb') as file, futures.ThreadPoolExecutor(1) as beside:
    yield CountedFile(file, beside)
    file.flush()
    os.fsync(file.fileno())


def make_empty(temporary: Path) -> None:
  """An empty folder, in place of what a killed run may have left there."""
  if temporary.exists():
    shutil.rmtree(temporary)
  temporary.mkdir(parents=True)


def seal(
  temporary: Path, path: Path, content: Mapping[str, Any], files: Mapping[str, tuple[int, int]]
) -> None:
  """Makes a checkpoint of a folder: describes the files in it and gives it its name.

  Args:
    temporary: the folder.
    path: its name from now on.
    content: plain data.
    files: (size in bytes, CRC-32) by file name.
  """
  whole = {'format': FORMAT, **content, 'files': files}
  text = json.dumps(whole, sort_keys=True)
  with written(temporary / CONTENT) as file:
    file.write(json.dumps({'crc32': zlib.crc32(text.encode()), 'checkpoint': whole}).encode())
  _sync(temporary)
  temporary.rename(path)
  _sync(path.parent)


def read(path: Path) -> dict[str, Any]:
  """What `seal` was given. Raises ValueError or OSError if anything in the folder is damaged."""
  try:
    found = json.loads((path / CONTENT).read_bytes())
    whole = cast(dict[str, Any], found['checkpoint'])
    text = json.dumps(whole, sort_keys=True)
    damaged = zlib.crc32(text.encode()) != found['crc32']
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f'{CONTENT} is not whole') from error
  if damaged:
    raise ValueError(f'{CONTENT} has another checksum than it was written with')
  for name, (size, checksum) in cast(dict[str, tuple[int, int]], whole['files']).items():
    found_size = (path / name).stat().st_size
    if found_size != size:
      raise ValueError(f'{name} has {found_size:,} bytes where {size:,} were written')
    if _checksum(path / name) != checksum:
      raise ValueError(f'{name} has another checksum than it was written with')
  return whole


def put_aside(path: Path) -> Path:
  """Renames a damaged checkpoint so that it is not found again; returns its new path."""
  number = 1
  while (aside := path.with_name(f'{path.name}.damaged_{number}')).exists():
    number += 1
  return path.rename(aside)


def remove(path: Path) -> None:
  """Removes a checkpoint; a kill on the way leaves nothing that looks like one."""
  shutil.rmtree(path.rename(path.with_name(f'.{path.name}.tmp')))


def _checksum(path: Path) -> int:
  checksum = 0
  with path.open('rb') as file:
    while block := file.read(_BLOCK):
      checksum = zlib.crc32(block, checksum)
  return checksum


def _sync(folder: Path) -> None:
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)
