"""Reads the original files of CIFAR-10: pickled batches for Python, and batches of plain bytes.

A pickled batch is a dictionary that Python 2 wrote, with the keys b'data', an array of bytes
[n, 3072], and b'labels', a list. A pickle is a program; this one is looked through first, and run
by an unpickler that knows no function at all but stand-ins for the three names of numpy that such
an array is made of.

A plain batch is one record of 3073 bytes after the other: the label, then the pixels. Both keep
an image as its red, its green and its blue values, each row by row.
"""

import io
import pickle
import pickletools
import re
import struct
from typing import Any

import numpy as np

IMAGE_SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3

# The instructions that make constants, plain containers, and what is asked of _Unpickler.
_INSTRUCTIONS = re.compile(
  r'PROTO|FRAME|STOP|MARK|MEMOIZE|(LONG_)?(BIN)?(PUT|GET)|NONE|NEW(TRUE|FALSE)|(BIN)?INT[12]?|'
  r'LONG1?|(SHORT_)?(BIN)?(STRING|BYTES|UNICODE)|(EMPTY_)?(TUPLE|LIST|DICT)|TUPLE[123]|APPENDS?|'
  r'SETITEMS?|(STACK_)?GLOBAL|INST|REDUCE|BUILD'
)

# What a damaged or hostile program can end in, all of it about the program.
_FAILURES = (
  pickle.UnpicklingError,
  ArithmeticError,
  AttributeError,
  EOFError,
  ImportError,
  LookupError,
  MemoryError,
  RecursionError,
  TypeError,
  ValueError,
  struct.error,
)


def parse_pickled(content: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Images, uint8 [n, 32, 32, 3], and labels, int64 [n], of a pickled batch; no code is run.

  Raises:
    ValueError: it is damaged, or asks for more than arrays and plain containers.
  """
  try:
    _check_instructions(content)
    batch = _Unpickler(io.BytesIO(content), encoding='bytes').load()
  except _Refusal as refusal:
    raise ValueError(str(refusal)) from refusal
  except _FAILURES as error:
    reason = ' '.join(str(error).split()) or type(error).__name__
    raise ValueError(f'it is not a sound pickle ({reason})') from error
  if not isinstance(batch, dict):
    raise ValueError(f'it holds a {type(batch).__name__} and must hold a dictionary')
  data, labels = batch.get(b'data'), batch.get(b'labels')
  if not isinstance(data, _Array):
    raise ValueError("its b'data' must be a numpy array")
  if not isinstance(labels, list) or not all(type(label) is int for label in labels):
    raise ValueError("its b'labels' must be a list of whole numbers")
  pixels = data.to_bytes_matrix()
  if len(pixels) != len(labels):
    raise ValueError(f'it has {len(pixels):,} images and {len(labels):,} labels')
  # Clipped, so that a number of any size stays one; what is out of range is told by the caller.
  return _images(pixels), np.array([max(-1, min(label, 1 << 30)) for label in labels], np.int64)


def parse_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
  """Images, uint8 [n, 32, 32, 3], and labels, int64 [n], of a batch of plain bytes.

  Raises:
    ValueError: its size is not a whole number of records.
  """
  count, rest = divmod(len(content), 1 + _PIXELS)
  if rest:
    raise ValueError(
      f'it has {len(content):,} bytes, which is no multiple of the {1 + _PIXELS:,} of an image'
    )
  records = np.frombuffer(content, np.uint8).reshape(count, 1 + _PIXELS)
  return _images(records[:, 1:]), records[:, 0].astype(np.int64)


def _check_instructions(content: bytes) -> None:
  """Raises ValueError where a pickle could ask for more memory than its own size justifies."""
  for instruction, argument, _ in pickletools.genops(content):
    name = instruction.name
    if not _INSTRUCTIONS.fullmatch(name):
      raise ValueError(f'a batch of CIFAR-10 has no use for the instruction {name}')
    if name in ('PUT', 'BINPUT', 'LONG_BINPUT') and not 0 <= (argument or 0) <= len(content):
      raise ValueError(f'{name} {argument} is beyond its size')


def _images(pixels: np.ndarray) -> np.ndarray:
  """Channels last, from [n, 3072] with the channels one after the other."""
  return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _Refusal(Exception):
  """The pickle asks for a name it has no business with; none of _FAILURES, to be told as it is."""


class _Array:
  """Stands in for numpy's _reconstruct: keeps what describes an array, and does nothing."""

  __slots__ = ('state',)

  def __init__(self, *_: Any) -> None:
    self.state: Any = None

  def __setstate__(self, state: Any) -> None:
    self.state = state

  def to_bytes_matrix(self) -> np.ndarray:
    """The array, uint8 [n, 3072]. Raises ValueError where it is described otherwise."""
    match self.state:
      case (_, (int(count), 3072), _Type(code=b'u1' | b'|u1' | 'u1' | '|u1'), False | 0, raw):
        if isinstance(raw, bytes) and len(raw) == count * _PIXELS:
          return np.frombuffer(raw, np.uint8).reshape(count, _PIXELS)
    raise ValueError(f"its b'data' must be an array of bytes, n x {_PIXELS} of them")


class _Type:
  """Stands in for numpy.dtype."""

  __slots__ = ('code',)

  def __init__(self, code: Any, *_: Any) -> None:
    self.code = code

  def __setstate__(self, state: Any) -> None:
    """The byte order, which single bytes have none of."""


class _ArrayClass:
  """Stands in for numpy.ndarray, which is only named."""

  __slots__ = ()

  def __setstate__(self, state: Any) -> None:
    raise pickle.UnpicklingError('it makes an array in a way of its own')


_KNOWN = {
  ('numpy.core.multiarray', '_reconstruct'): _Array,
  ('numpy._core.multiarray', '_reconstruct'): _Array,  # as numpy 2 writes it
  ('numpy', 'ndarray'): _ArrayClass,
  ('numpy', 'dtype'): _Type,
}


class _Unpickler(pickle.Unpickler):
  """Knows the names in _KNOWN and no others."""

  def find_class(self, module_name: str, global_name: str, /) -> Any:
    found = _KNOWN.get((module_name, global_name))
    if found is None:
      raise _Refusal(
        f'it asks for {f"{module_name}.{global_name}"!r}, and a batch of CIFAR-10 is made of '
        'numpy arrays and plain containers'
      )
    return found
