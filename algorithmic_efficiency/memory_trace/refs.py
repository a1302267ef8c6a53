"""This file sees what is touched by clear_refs and smaps: bytes of each mapping, without root.

Writing 1 to /proc/PID/clear_refs clears the bit that the processor sets in a page's entry when it
is touched; smaps adds up the pages that have it ('Referenced'; proc(5)). The processor remembers
entries it has seen in its TLB, and sets no bit again for those, so the TLB must be flushed: the
kernel does that for a 4, which is written after the 1.
"""

from collections.abc import Sequence

from algorithmic_efficiency.memory_trace import filters
from algorithmic_efficiency.memory_trace.backends import MAPPING, Capabilities, Extent, Touched
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.smaps import Smaps, parse_columns

FLUSHES = (
  'accessed bits are cleared and the TLB is flushed at every sample; so are soft-dirty bits, where '
  'the kernel has them'
)


class Backend:
  """By mapping."""

  CAPABILITIES = Capabilities(
    MAPPING, reads=True, writes=True, root=False, pauses=True, perturbs=FLUSHES
  )
  unit_bytes = None

  def probe(self) -> str:
    """Why it cannot be used here; '' if it can."""
    return why_not()

  def watch(self, process: Process, keeps: Sequence[Filter]) -> 'Watch':
    """Begins to watch a process."""
    return Watch(process, keeps)


class Watch:
  """It at work on a process."""

  def __init__(self, process: Process, keeps: Sequence[Filter]) -> None:
    self._process, self._keeps = process, keeps

  def reset(self) -> None:
    """Clears the bits, and flushes the TLB."""
    forget(self._process)

  def collect(self) -> bytes:
    """The content of smaps."""
    return self._process.read('smaps')

  def decode(self, raw: bytes) -> Touched:
    """Bytes of each mapping."""
    return by_mapping(parse_columns(raw), self._keeps)

  def close(self) -> None:
    """There is nothing to undo."""


def why_not() -> str:
  """Why clear_refs and smaps cannot be used here; '' if they can."""
  try:
    with open('/proc/self/clear_refs', 'wb', buffering=0) as file:  # noqa: PTH123 - unbuffered
      file.write(b'1')
    with open('/proc/self/smaps', 'rb') as file:  # noqa: PTH123
      told = b'Referenced:' in file.read(1 << 16)
  except OSError as error:
    return f'{error.filename or "clear_refs"} cannot be used here ({error.strerror}); it needs ' \
      'Linux with CONFIG_PROC_PAGE_MONITOR'  # fmt: skip
  return '' if told else 'smaps tells no Referenced here; it needs CONFIG_PROC_PAGE_MONITOR'


def forget(process: Process) -> None:
  """Clears the accessed bits of a process and flushes the TLB, in this order."""
  process.write('clear_refs', b'1')
  process.write('clear_refs', b'4')


def by_mapping(told: Smaps, keeps: Sequence[Filter]) -> Touched:
  """The mappings that the filters keep, and the sums of all."""
  columns = zip(told.mappings, told.resident.tolist(), told.referenced.tolist(), strict=True)
  touched = of_all(told)
  touched.extents = [Extent(*column) for column in columns if filters.keeps(keeps, column[0])]
  return touched


def of_all(told: Smaps) -> Touched:
  """The sums of all mappings: virtual, resident, and in huge pages."""
  begins, ends = told.bounds
  return Touched(
    virtual=int((ends - begins).sum()),
    resident=int(told.resident.sum()),
    huge=int(told.huge.sum()),
  )
