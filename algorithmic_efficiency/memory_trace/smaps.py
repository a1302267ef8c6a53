"""This file reads what Linux tells of each mapping in smaps (proc(5)), by columns.

A process may have tens of thousands of mappings, and is sampled several times a second.
"""

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.memory_trace.mappings import Mapping, parse_header

_KIB = 1024
_SIZES = (b'Rss', b'Referenced', b'AnonHugePages')
_FLAGS = b'VmFlags'
_HEADER = re.compile(rb'[0-9a-f]+-[0-9a-f]+ \S{4} ')


class Usage(NamedTuple):
  """A mapping with what smaps tells of it; bytes.

  Attributes:
    resident: in memory.
    referenced: of these, touched since clear_refs.
    huge: of these, in huge pages.
    flags: VmFlags, such as 'rd wr mr mw me dd ac'.
  """

  mapping: Mapping
  resident: int
  referenced: int
  huge: int
  flags: str


@dataclass(frozen=True)
class Smaps:
  """What smaps tells, a place for each mapping; bytes.

  Attributes:
    mappings: in the order of their addresses; without [vsyscall], which is no process's own.
    resident, referenced, huge: (n) int64, as in `Usage`.
    flags: VmFlags.
  """

  mappings: list[Mapping]
  resident: np.ndarray
  referenced: np.ndarray
  huge: np.ndarray
  flags: list[bytes]

  @functools.cached_property
  def bounds(self) -> np.ndarray:
    """(2, n) int64: begins and ends."""
    found = np.fromiter((n for m in self.mappings for n in m[:2]), np.int64, 2 * len(self.mappings))
    return found.reshape(-1, 2).T


def parse_columns(content: bytes) -> Smaps:
  """The content of /proc/PID/smaps, which may have tens of thousands of mappings."""
  lines = content.split(b'\n')
  every = next((n for n, line in enumerate(lines[1:], 1) if _HEADER.match(line)), len(lines) - 1)
  headers = lines[:-1:every] if content else []  # a process that has just ended has none
  if headers and headers[-1].endswith(b'[vsyscall]'):
    headers.pop()
  count = len(headers)
  names = [line.partition(b':')[0] for line in lines[1:every]]
  places = {name: names.index(name) + 1 for name in (*_SIZES, _FLAGS) if name in names}
  resident, referenced, huge = (
    _numbers(lines, places.get(name), every, name, count) for name in _SIZES
  )
  flags = lines[places[_FLAGS] :: every][:count] if _FLAGS in places else [b''] * count
  mappings = [parse_header(header) for header in headers]
  return Smaps(mappings, resident, referenced, huge, flags)


def parse_smaps(content: bytes) -> list[Usage]:
  """The mappings in the content of /proc/PID/smaps, one by one."""
  told = parse_columns(content)
  numbers = (column.tolist() for column in (told.resident, told.referenced, told.huge))
  flags = (line.decode() for line in told.flags)
  return [Usage(*usage) for usage in zip(told.mappings, *numbers, flags, strict=True)]


def _numbers(
  lines: list[bytes], place: int | None, every: int, name: bytes, count: int
) -> np.ndarray:
  """The bytes in a line of each entry; all entries of a kernel have the same lines."""
  if place is None:  # a kernel may leave it out
    return np.zeros(count, np.int64)
  found = lines[place::every][:count]
  width = len(found[0]) if found else 0
  if set(map(len, found)) - {width}:  # a number of more digits than its column has
    return np.array([int(line.split()[1]) * _KIB for line in found], np.int64)
  letters = np.frombuffer(b''.join(found), np.uint8).reshape(count, width)
  if count and letters[:, : len(name)].tobytes() != name * count:
    raise ValueError(f'smaps has entries of different lines: no {name.decode()!r} in one')
  digits = letters[:, len(name) + 1 : -3].astype(np.int64) - ord('0')  # 'Rss:      1234 kB'
  return np.maximum(digits, 0) @ (10 ** np.arange(digits.shape[1])[::-1]) * _KIB
