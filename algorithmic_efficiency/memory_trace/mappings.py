"""This file reads a process's mappings as Linux lists them in maps and smaps (proc(5))."""

import functools
import re
from typing import NamedTuple

PAGE_BYTES = 4096
HEAP, STACK, LIBRARY, FILE, ANONYMOUS, KERNEL = (
  'heap', 'stack', 'library', 'file', 'anonymous', 'kernel',
)  # fmt: skip
REGIONS = (HEAP, ANONYMOUS, LIBRARY, FILE, STACK, KERNEL)
_KIB = 1024
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


def parse_smaps(content: bytes) -> list[Usage]:
  """The mappings in the content of /proc/PID/smaps."""
  if not content:  # it has just ended
    return []
  lines = content.split(b'\n')
  every = next((n for n, line in enumerate(lines[1:], 1) if _HEADER.match(line)), len(lines) - 1)
  names = [line.partition(b':')[0] for line in lines[1:every]]
  places = {name: names.index(name) + 1 for name in (*_SIZES, _FLAGS) if name in names}
  sizes = [_numbers(lines, places.get(name), every, name) for name in _SIZES]
  flags = (
    [line.decode() for line in lines[places[_FLAGS]::every]] if _FLAGS in places
    else [''] * len(sizes[0])
  )  # fmt: skip
  headers = lines[:-1:every]
  return [
    Usage(_mapping(header), *told) for header, *told in zip(headers, *sizes, flags, strict=True)
  ]


def _numbers(lines: list[bytes], place: int | None, every: int, name: bytes) -> list[int]:
  """The bytes in a line of each entry; all entries of a kernel have the same lines."""
  if place is None:  # a kernel may leave it out
    return [0] * ((len(lines) - 1) // every)
  begin = len(name) + 1
  found = lines[place::every]
  if not all(line.startswith(name) for line in found):
    raise ValueError(f'smaps has entries of different lines: no {name.decode()!r} in one')
  return [int(line[begin:-3]) * _KIB for line in found]


@functools.lru_cache(1 << 16)  # from one sample to the next nearly all are the same
def _mapping(header: bytes) -> Mapping:
  """From '7f00-7f01 rw-p 00000000 00:00 0   /path with blanks', as maps and smaps have it."""
  words = header.split(None, 5)
  begin, _, end = words[0].partition(b'-')
  path = words[5].decode(errors='backslashreplace') if len(words) > 5 else ''
  return Mapping(int(begin, 16), int(end, 16), words[1].decode(), int(words[2], 16), path)
