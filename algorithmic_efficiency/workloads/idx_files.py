"""Reads arrays of unsigned bytes from files in the IDX format, compressed by gzip or not.

An IDX file is: two zero bytes, the element type, the number of dimensions, each dimension as a
big-endian 32-bit number, and the elements, last dimension fastest.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from algorithmic_efficiency.errors import UsageError

_UNSIGNED_BYTE = 0x08


def read(path: Path, num_dimensions: int, remedy: str) -> np.ndarray:
  """The array in `path`: uint8, writable, with `num_dimensions` dimensions.

  Args:
    path: the file; it is taken to be compressed where its name ends in '.gz'.
    num_dimensions: how many the file must have.
    remedy: what a user should do about a broken file; it ends the sentence of the error.

  Raises:
    UsageError: the file cannot be read, or is not an IDX file of that kind.
  """
  try:
    return _parse(_read_bytes(path), num_dimensions)
  except (OSError, ValueError) as error:
    raise UsageError(f'{str(path)!r} cannot be used: {error}; {remedy}.') from error


def _read_bytes(path: Path) -> bytes:
  """What is in `path`, decompressed."""
  content = path.read_bytes()
  if path.suffix != '.gz':
    return content
  try:
    return gzip.decompress(content)
  except gzip.BadGzipFile as error:
    raise ValueError(f'it is named .gz but is not a sound gzip file ({error})') from error
  except EOFError as error:
    raise ValueError(f'it is cut short after {len(content):,} bytes') from error
  except (zlib.error, struct.error) as error:
    raise ValueError(f'its compressed content is damaged ({error})') from error


def _parse(content: bytes, num_dimensions: int) -> np.ndarray:
  """The array that the bytes of an IDX file describe."""
  if len(content) < 4 or content[:2] != b'\0\0':
    raise ValueError(f'an IDX file begins with two zero bytes, this one with {content[:4]!r}')
  if content[2] != _UNSIGNED_BYTE:
    raise ValueError(
      f'its IDX element type is 0x{content[2]:02x} and must be 0x{_UNSIGNED_BYTE:02x} (bytes)'
    )
  if content[3] != num_dimensions:
    raise ValueError(f'it has {content[3]} dimensions and must have {num_dimensions}')
  start = 4 + 4 * num_dimensions
  if len(content) < start:
    raise ValueError(f'it is cut short after {len(content)} bytes, inside its header')
  shape = struct.unpack_from(f'>{num_dimensions}I', content, 4)
  expected, found = math.prod(shape), len(content) - start
  if found != expected:
    raise ValueError(f'its header promises {expected:,} bytes of shape {shape}, it has {found:,}')
  return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
