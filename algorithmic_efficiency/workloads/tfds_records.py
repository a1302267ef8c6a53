"""Reads labelled images that tensorflow-datasets prepared, without TensorFlow.

A prepared data set is a folder <name>/<version> with a dataset_info.json and, for each split, one
or more shards. Shards in the format `array_record` are read by tensorflow-datasets itself, which
needs no TensorFlow for that; shards in the older format `tfrecord`, for which it would, are read
here: each record is its length as a uint64, a checksum of that, the bytes of a serialised
tf.train.Example, and a checksum of those.
"""

import functools
import importlib
import io
import json
import logging
import re
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import UsageError

_INFO_FILE = 'dataset_info.json'
_REMEDY = (
  'prepare the data set again with tensorflow-datasets, or remove the folder and use another source'
)
_PIP_LINE = 'pip install "algorithmic-efficiency[data]"'
_PROGRESS_PERIOD_SEC = 2
_RECORDS_PER_CHECK = 1024

_logger = logging.getLogger(__name__)


def find_version(data_dir: Path, name: str) -> Path | None:
  """The folder of the data set's newest version in `data_dir`/`name`, or `data_dir` itself."""
  versions = [
    (tuple(int(number) for number in folder.name.split('.')), folder)
    for folder in data_dir.glob(f'{name}/*.*.*')
    if re.fullmatch(r'\d+\.\d+\.\d+', folder.name) and (folder / _INFO_FILE).is_file()
  ]
  if versions:
    return max(versions)[1]
  if (data_dir / _INFO_FILE).is_file():
    found = _read_info(data_dir).get('name')
    if found != name:
      raise UsageError(
        f'{str(data_dir)!r} holds the data set {found!r} instead of {name!r}; name the folder of '
        f'{name}, or the one that has {name}/<version> in it.'
      )
    return data_dir
  return None


def read_file_format(folder: Path) -> str:
  """The format of the shards in `folder`, such as 'array_record'."""
  return str(_read_info(folder).get('fileFormat', 'tfrecord'))


def read_split(
  folder: Path, split: str, image_shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
  """All images and labels of a split, in the order of its files.

  Args:
    folder: the folder of one version, see `find_version`.
    split: its name, such as 'train'.
    image_shape: height and width, which every image must have; and 3 for images in colour.

  Returns:
    Images, uint8 [N, *image_shape], and labels, int64 [N].

  Raises:
    UsageError: a file is missing, damaged or of another kind, or a package is not installed.
  """
  read_png = _require('PIL.Image', "The PNG images of tensorflow-datasets' files")
  file_format = read_file_format(folder)
  if file_format == 'array_record':
    examples = _array_record_examples(folder, split)
  elif file_format == 'tfrecord':
    examples = _tfrecord_examples(folder, split)
  else:
    raise UsageError(
      f'{str(folder)!r} was prepared in the file format {file_format!r}; array_record and tfrecord '
      f'can be read: prepare it again with one of these.'
    )
  images: list[bytes] = []
  labels: list[int] = []
  due = time.monotonic() + _PROGRESS_PERIOD_SEC
  for encoded, label in examples:
    try:
      images.append(_decode_png(read_png, encoded, image_shape))
    except ValueError as error:
      raise _broken(folder, f'image {len(images):,} of the split {split!r}', error) from error
    labels.append(label)
    if time.monotonic() > due:
      due += _PROGRESS_PERIOD_SEC
      _logger.info('Read %d images of the split %s.', len(images), split)
  pixels = np.frombuffer(bytearray().join(images), np.uint8)
  return pixels.reshape(len(labels), *image_shape), np.array(labels, np.int64)


def read_tfrecord(path: Path) -> list[bytes]:
  """The records of one file; all their checksums are verified.

  Raises:
    UsageError: the file cannot be read, is cut short or is damaged.
  """
  try:
    content = path.read_bytes()
    records: list[bytes] = []
    checksums: list[int] = []
    position = 0
    while position < len(content):
      header = content[position : position + 12]
      length, checksum = struct.unpack('<QI', header) if len(header) == 12 else (0, None)
      if checksum is not None and _header_checksum(header[:8]) != checksum:
        raise ValueError(f'the length of record {len(records):,} has a wrong checksum')
      start, position = position + 12, position + 16 + length
      if position > len(content):
        raise ValueError(f'record {len(records):,} is cut short by the end of the file')
      records.append(content[start : start + length])
      checksums.append(int.from_bytes(content[start + length : position], 'little'))
    wrong = np.flatnonzero(_masked(crc32c(records)) != np.array(checksums, np.uint32))
    if wrong.size:
      raise ValueError(f'record {wrong[0]:,} has a wrong checksum')
  except (OSError, ValueError) as error:
    raise _broken(path.parent, path.name, error) from error
  return records


def parse_example(record: bytes) -> dict[str, list[Any]]:
  """The features of a serialised tf.train.Example: lists of bytes, of float or of int.

  Raises:
    ValueError: the bytes are no such message.
  """
  features: dict[str, list[Any]] = {}
  # Example.features = 1; Features.feature = 1, a map whose entries are key = 1, value = 2.
  for content in _submessages(record, 1):
    for entry in _submessages(content, 1):
      key, value = b'', b''
      for number, _, field in _fields(entry):
        if number == 1:
          key = _as_bytes(field)
        elif number == 2:
          value = _as_bytes(field)
      features[key.decode()] = _parse_feature(value)
  return features


def crc32c(records: Sequence[bytes]) -> np.ndarray:
  """The CRC-32C (Castagnoli) of each of `records`: uint32 [len(records)].

  It goes byte by byte, but through a thousand records at once: checking all of MNIST takes a
  fraction of a second, where a loop over single bytes in Python would take several.
  """
  sums = np.empty(len(records), np.uint32)
  table = _crc_table()
  lengths = np.array([len(record) for record in records], np.int64)
  # Longest first, so that at each byte the records that still go on are the first ones.
  order = np.argsort(-lengths, kind='stable')
  for first in range(0, len(records), _RECORDS_PER_CHECK):
    chosen = order[first : first + _RECORDS_PER_CHECK]
    length = lengths[chosen]
    columns = np.zeros((len(chosen), int(length[0])), np.uint8)
    present = np.arange(columns.shape[1]) < length[:, None]
    columns[present] = np.frombuffer(b''.join(records[index] for index in chosen), np.uint8)
    columns = np.ascontiguousarray(columns.T)
    going = present.sum(axis=0)
    crc = np.full(len(chosen), 0xFFFFFFFF, np.uint32)
    for column, count in zip(columns, going, strict=True):
      head = crc[:count]
      crc[:count] = table[(head ^ column[:count]) & 0xFF] ^ (head >> 8)
    sums[chosen] = ~crc
  return sums


def _read_info(folder: Path) -> dict[str, Any]:
  """What dataset_info.json says."""
  path = folder / _INFO_FILE
  try:
    info = json.loads(path.read_bytes())
  except (OSError, ValueError) as error:
    raise _broken(folder, path.name, error) from error
  if not isinstance(info, dict):
    raise _broken(folder, path.name, ValueError('it must hold a JSON object'))
  return info


def _broken(folder: Path, what: str, error: Exception) -> UsageError:
  """The error for something in `folder` that cannot be used."""
  reason = ' '.join(str(error).split()) or type(error).__name__
  return UsageError(f'{what} in {str(folder)!r} cannot be used: {reason}; {_REMEDY}.')


def _require(module: str, reader: str) -> ModuleType:
  """Imports an optional package."""
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise UsageError(
      f'{reader} cannot be read, because {module.partition(".")[0]!r} cannot be imported '
      f'({error}); install what is missing by `{_PIP_LINE}`.'
    ) from error


def _array_record_examples(folder: Path, split: str) -> Iterator[tuple[bytes, int]]:
  """The encoded image and the label of each example, by tensorflow-datasets."""
  reader = "Files of tensorflow-datasets in the format 'array_record'"
  tfds = _require('tensorflow_datasets', reader)
  _require('array_record.python.array_record_module', reader)
  json_format = _require('google.protobuf.json_format', reader)
  # A damaged record is a RuntimeError, a damaged description any of the others.
  damage = (OSError, ValueError, LookupError, TypeError, RuntimeError, json_format.Error)
  try:
    source = tfds.builder_from_directory(folder).as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    )
    for index in range(len(source)):
      example = source[index]
      yield example['image'], int(example['label'])
  except damage as error:
    raise _broken(folder, f'The split {split!r}', error) from error


def _tfrecord_examples(folder: Path, split: str) -> Iterator[tuple[bytes, int]]:
  """The encoded image and the label of each example."""
  for path in _find_shards(folder, split):
    for index, record in enumerate(read_tfrecord(path)):
      try:
        example = parse_example(record)
        image, label = example['image'][0], example['label'][0]
        if not isinstance(image, bytes) or not isinstance(label, int):
          raise ValueError("'image' must be bytes and 'label' a whole number")
      except (ValueError, KeyError, IndexError) as error:
        raise _broken(folder, f'record {index:,} of {path.name}', error) from error
      yield image, label


def _find_shards(folder: Path, split: str) -> list[Path]:
  """The files of `split`, in order.

  Their names end in .tfrecord-00000-of-00001, with the number of the file and how many there are.
  """
  pattern = f'*-{split}.tfrecord-*-of-*'
  shards = sorted(folder.glob(pattern))
  if not shards:
    raise _broken(folder, f'The split {split!r}', ValueError(f'there are no files {pattern}'))
  stem, _, count = shards[0].name.rpartition('-of-')
  stem = stem.rpartition('-')[0]
  if not count.isdecimal():
    raise _broken(folder, shards[0].name, ValueError('its name must end in a number'))
  expected = [folder / f'{stem}-{index:05d}-of-{count}' for index in range(int(count))]
  for path in expected:
    if path not in shards:
      raise _broken(folder, f'The split {split!r}', ValueError(f'the file {path.name} is missing'))
  if len(shards) > len(expected):
    extra = next(path for path in shards if path not in expected)
    raise _broken(folder, extra.name, ValueError(f'it is no part of {stem}-*-of-{count}'))
  return shards


def _decode_png(reader: ModuleType, encoded: bytes, shape: tuple[int, ...]) -> bytes:
  """The pixels of an 8-bit PNG image, row by row, in grey or in three colours."""
  wanted, kind = ('RGB', '8-bit colour') if len(shape) == 3 else ('L', '8-bit greyscale')
  try:
    with reader.open(io.BytesIO(encoded), formats=('PNG',)) as image:
      mode, size, pixels = image.mode, image.size, image.tobytes()
  except (OSError, SyntaxError, EOFError) as error:
    raise ValueError(f'it is not a sound PNG image ({error})') from error
  height, width = shape[:2]
  if mode != wanted or size != (width, height):
    raise ValueError(
      f'it is {size[1]}x{size[0]} pixels of mode {mode!r} and must be {height}x{width} of mode '
      f'{wanted!r} ({kind})'
    )
  return pixels


@functools.cache
def _crc_table() -> np.ndarray:
  """What one byte does to a CRC-32C: uint32 [256], for the reflected polynomial."""
  table = np.arange(256, dtype=np.uint32)
  for _ in range(8):
    table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
  return table


def _masked(crc: np.ndarray) -> np.ndarray:
  """The form in which a tfrecord file keeps a CRC: rotated, and a constant added."""
  return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)


# Most records have one of a few hundred lengths.
@functools.lru_cache(maxsize=4096)
def _header_checksum(header: bytes) -> int:
  """The checksum that belongs to the bytes of a length."""
  return int(_masked(crc32c([header]))[0])


def _varint(message: bytes, position: int) -> tuple[int, int]:
  """The number at `position`, seven bits a byte and the lowest first, and the place after it."""
  end = len(message)
  if position < end and message[position] < 0x80:  # nearly always
    return message[position], position + 1
  number = 0
  for shift in range(0, 70, 7):
    if position >= end:
      raise ValueError('a protocol buffer message is cut short')
    byte = message[position]
    position += 1
    number |= (byte & 0x7F) << shift
    if byte < 0x80:
      return number & 0xFFFFFFFFFFFFFFFF, position
  raise ValueError('a number in a protocol buffer message is longer than 10 bytes')


def _fields(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
  """The number, wire type and value of each field; groups, long deprecated, are not known."""
  position = 0
  while position < len(message):
    key, position = _varint(message, position)
    number, wire_type = key >> 3, key & 7
    if wire_type == 0:
      value, position = _varint(message, position)
    else:
      if wire_type == 2:
        size, position = _varint(message, position)
      elif wire_type in (1, 5):
        size = 8 if wire_type == 1 else 4
      else:
        raise ValueError(f'a protocol buffer field has the unknown wire type {wire_type}')
      value = message[position : position + size]
      position += size
      if position > len(message):
        raise ValueError('a protocol buffer message is cut short')
    yield number, wire_type, value


def _as_bytes(value: int | bytes) -> bytes:
  """The value of a field that has a length."""
  if isinstance(value, int):
    raise ValueError('a protocol buffer field is a number instead of bytes')
  return value


def _submessages(message: bytes, wanted: int) -> Iterable[bytes]:
  """The values of the fields with the number `wanted`, which are bytes or messages."""
  return (_as_bytes(value) for number, _, value in _fields(message) if number == wanted)


def _parse_feature(feature: bytes) -> list[Any]:
  """The list in a tf.train.Feature: bytes_list = 1, float_list = 2 or int64_list = 3."""
  values: list[Any] = []
  for number, _, content in _fields(feature):
    if number == 1:
      values = list(_submessages(_as_bytes(content), 1))
    elif number == 2:
      values = _parse_floats(_as_bytes(content))
    elif number == 3:
      values = _parse_integers(_as_bytes(content))
  return values


def _parse_floats(message: bytes) -> list[float]:
  """The values of a FloatList, packed or one by one."""
  values: list[float] = []
  for packed in _submessages(message, 1):
    if len(packed) % 4:
      raise ValueError('a list of floats is cut short')
    values.extend(np.frombuffer(packed, '<f4').tolist())
  return values


def _parse_integers(message: bytes) -> list[int]:
  """The values of an Int64List, packed or one by one."""
  values: list[int] = []
  for number, _, value in _fields(message):
    if number != 1:
      continue
    if isinstance(value, int):
      values.append(value)
      continue
    position = 0
    while position < len(value):
      integer, position = _varint(value, position)
      values.append(integer)
  # Negative numbers are stored as their two's complement.
  return [value - (1 << 64) if value >= 1 << 63 else value for value in values]
