"""This file reads a process's mappings as Linux lists them in maps and smaps (proc(5))."""

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

PAGE_BYTES = 4096
HEAP, STACK, LIBRARY, FILE, ANONYMOUS, KERNEL = (
  'heap', 'stack', 'library', 'file', 'anonymous', 'kernel',
)  # fmt: skip
REGIONS = (HEAP, ANONYMOUS, LIBRARY, FILE, STACK, KERNEL)
_KIB = 1024
_DIGITS = 8  # at least; blanks before the number
_SIZES = (b'Rss', b'Referenced', b'AnonHugePages')
_FLAGS = b'VmFlags'
_HEADER = re.compile(rb'[0-9a-f]+-[0-9a-f]+ \S{4} ')


class Mapping(NamedTuple):
  """A mapping of a process.

  Attributes:
    begin, end: addresses in bytes, the end not included.
    permissions: such as 'rw-p'.
    offset: in its file, bytes.
    path: of its file, the kernel's name for it such as '[heap]', or ''.
  """

  begin: int
  end: int
  permissions: str
  offset: int
  path: str

  @property
  def size(self) -> int:
    """Bytes."""
    return self.end - self.begin

  @property
  def region(self) -> str:
    """One of REGIONS."""
    return region(self.permissions, self.path)


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


def region(permissions: str, path: str) -> str:
  """What a mapping is, by its name: one of REGIONS."""
  if path == '[heap]':
    return HEAP
  if path.startswith('[stack'):
    return STACK
  if path.startswith('[') and not path.startswith('[anon'):
    return KERNEL  # [vdso], [vvar], [vsyscall]
  if not path or path.startswith(('[anon', '/dev/zero', '/memfd:', 'anon_inode:')):
    return ANONYMOUS
  return LIBRARY if 'x' in permissions or '.so' in path.rpartition('/')[2] else FILE


def parse_maps(content: bytes) -> list[Mapping]:
  """The mappings in the content of /proc/PID/maps."""
  return [_mapping(line) for line in content.splitlines()]


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
  mappings = [_mapping(header) for header in headers]
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
  if set(map(len, found)) - {width}:  # a number of more than eight digits
    return np.array([int(line.split()[1]) * _KIB for line in found], np.int64)
  letters = np.frombuffer(b''.join(found), np.uint8).reshape(count, width)
  if count and letters[:, : len(name)].tobytes() != name * count:
    raise ValueError(f'smaps has entries of different lines: no {name.decode()!r} in one')
  digits = letters[:, -3 - _DIGITS : -3].astype(np.int64) - ord('0')  # 'Rss:      1234 kB'
  return np.maximum(digits, 0) @ (10 ** np.arange(_DIGITS)[::-1]) * _KIB


@functools.lru_cache(1 << 16)  # from one sample to the next nearly all are the same
def _mapping(header: bytes) -> Mapping:
  """From '7f00-7f01 rw-p 00000000 00:00 0   /path with blanks', as maps and smaps have it."""
  words = header.split(None, 5)
  begin, _, end = words[0].partition(b'-')
  path = words[5].decode(errors='backslashreplace') if len(words) > 5 else ''
  return Mapping(int(begin, 16), int(end, 16), words[1].decode(), int(words[2], 16), path)
