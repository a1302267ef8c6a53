"""This file reads a process's mappings as Linux lists them in maps and smaps (proc(5))."""

import re
from typing import NamedTuple

PAGE_BYTES = 4096
HEAP, STACK, LIBRARY, FILE, ANONYMOUS, KERNEL = (
  'heap', 'stack', 'library', 'file', 'anonymous', 'kernel',
)  # fmt: skip
REGIONS = (HEAP, ANONYMOUS, LIBRARY, FILE, STACK, KERNEL)
_KIB = 1024
_LINE = rb'^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) \S+ \d+ *(.*)$'
_HEADER = re.compile(_LINE, re.MULTILINE)
_FIELD = re.compile(
  rb'^(?:([0-9a-f]+-[0-9a-f]+ .*)|Rss: +(\d+)|Referenced: +(\d+)|AnonHugePages: +(\d+)'
  rb'|VmFlags:(.*))',
  re.MULTILINE,
)


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
    flags: VmFlags, such as ('rd', 'wr', 'dd').
  """

  mapping: Mapping
  resident: int
  referenced: int
  huge: int
  flags: tuple[str, ...]


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
  return [_mapping(match.groups()) for match in _HEADER.finditer(content)]


def parse_smaps(content: bytes) -> list[Usage]:
  """The mappings in the content of /proc/PID/smaps."""
  found: list[Usage] = []
  header, flags, numbers = b'', b'', [0, 0, 0]
  for match in _FIELD.finditer(content):
    place, text = match.lastindex, match[match.lastindex or 0]
    if place == 1:
      if header:
        found.append(_usage(header, numbers, flags))
      header, flags, numbers = text, b'', [0, 0, 0]  # a kernel may leave fields out
    elif place == 5:
      flags = text
    elif place is not None:
      numbers[place - 2] = int(text) * _KIB
  if header:
    found.append(_usage(header, numbers, flags))
  return found


def _usage(header: bytes, numbers: list[int], flags: bytes) -> Usage:
  match = _HEADER.match(header)
  assert match is not None
  resident, referenced, huge = numbers
  named = tuple(flags.decode().split())
  return Usage(_mapping(match.groups()), resident, referenced, huge, named)


def _mapping(fields: tuple[bytes, ...]) -> Mapping:
  begin, end, permissions, offset, path = fields
  name = path.decode(errors='backslashreplace')
  return Mapping(int(begin, 16), int(end, 16), permissions.decode(), int(offset, 16), name)
