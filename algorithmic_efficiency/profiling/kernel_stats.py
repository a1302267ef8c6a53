"""This file reads `<host>.kernel_stats.pb`, the table that TensorFlow's profiler wrote until 2022.

A KernelStatsDb is a list of reports; fields of a report: 1 kernel's name, 2 registers a thread,
3 static and 4 dynamic shared memory in bytes, 5 block and 6 grid dimensions, 7 total, 8 least and
9 most nanoseconds, 10 uses tensor cores, 11 could use them, 12 operator, 13 occurrences,
14 occupancy in percent (a float).
"""

import struct
from pathlib import Path
from typing import NamedTuple

from algorithmic_efficiency.profiling import wire
from algorithmic_efficiency.profiling.activities import Empty, Launch, NotATrace

_LAST_FIELD = 14
_NUMBERS = {2, 3, 4, 7, 8, 9, 10, 11, 13}


class Report(NamedTuple):
  """One kernel of one operator; nanoseconds."""

  kernel_name: str
  op_name: str
  launch: Launch
  eligible: bool
  uses_tensor_core: bool
  occurrences: int
  total_ns: int
  min_ns: int
  max_ns: int


def read(path: Path) -> list[Report]:
  """The reports of a file in its order. Raises TraceError where it is none or broken, OSError."""
  content = path.read_bytes()
  if not content:
    raise Empty('the file is empty')
  reports: list[Report] = []
  for field, _, begin, end in wire.fields(content, 0, len(content)):
    if field != 1 or begin == end:
      raise NotATrace('it is a protobuf file, but no KernelStatsDb')
    reports.append(_report(content, begin, end))
  return reports


def _report(content: bytes, begin: int, end: int) -> Report:
  numbers = dict.fromkeys(_NUMBERS, 0)
  texts = {1: '', 12: ''}
  dims: dict[int, list[int]] = {5: [], 6: []}
  occupancy = None
  for field, value, first, behind in wire.fields(content, begin, end):
    if field > _LAST_FIELD:
      raise NotATrace('it is a protobuf file, but no KernelStatsDb')
    if field in texts:
      texts[field] = content[first:behind].decode(errors='replace')
    elif field in dims:
      dims[field] += _packed(content, first, behind) if behind > first else [value]
    elif field == _LAST_FIELD:
      occupancy = struct.unpack('<f', content[first:behind])[0]
    elif field in numbers:
      numbers[field] = value
  launch = Launch(
    registers_per_thread=numbers[2],
    shmem_bytes=numbers[3] + numbers[4],
    block_dim=','.join(map(str, dims[5])) or '1,1,1',
    grid_dim=','.join(map(str, dims[6])) or '1,1,1',
    occupancy_pct=occupancy,
  )
  return Report(
    kernel_name=texts[1],
    op_name=texts[12],
    launch=launch,
    eligible=bool(numbers[11]),
    uses_tensor_core=bool(numbers[10]),
    occurrences=numbers[13] or 1,
    total_ns=numbers[7],
    min_ns=numbers[8],
    max_ns=numbers[9],
  )


def _packed(content: bytes, begin: int, end: int) -> list[int]:
  values: list[int] = []
  while begin < end:
    value, begin = wire.varint(content, begin, end)
    values.append(value)
  return values
