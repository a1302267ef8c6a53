"""This file reads a process's mappings as Linux lists them in maps (proc(5))."""

import functools
from typing import NamedTuple

PAGE_BYTES = 4096
HEAP, STACK, LIBRARY, FILE, ANONYMOUS, KERNEL = (
  'heap', 'stack', 'library', 'file', 'anonymous', 'kernel',
)  # fmt: skip
REGIONS = (HEAP, ANONYMOUS, LIBRARY, FILE, STACK, KERNEL)


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
  return [parse_header(line) for line in content.splitlines()]


@functools.lru_cache(1 << 16)  # from one sample to the next nearly all are the same
def parse_header(header: bytes) -> Mapping:
  """From '7f00-7f01 rw-p 00000000 00:00 0   /path with blanks', as maps and smaps have it."""
  words = header.split(None, 5)
  begin, _, end = words[0].partition(b'-')
  path = words[5].decode(errors='backslashreplace') if len(words) > 5 else ''
  return Mapping(int(begin, 16), int(end, 16), words[1].decode(), int(words[2], 16), path)
