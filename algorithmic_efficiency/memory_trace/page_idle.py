"""This file sees reads and writes page by page, by Linux's idle page tracking; root only.

Source: the kernel's admin-guide/mm/idle_page_tracking and admin-guide/mm/pagemap. A page is found
in /proc/PID/pagemap by its number in physical memory, marked idle in the bitmap, and after the
window it is idle still unless it was touched.

What it cannot know: pages that are on no list of the kernel's reclaim (some tens that were
allocated just before and wait on a processor's own list, and hugetlbfs) cannot be marked, so they
read as touched; and of a huge page it is known only that it was touched somewhere.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace.backends import (
  NO_UNITS,
  PAGE,
  Capabilities,
  Extent,
  Touched,
)
from algorithmic_efficiency.memory_trace.filters import Filter, keeps
from algorithmic_efficiency.memory_trace.mappings import PAGE_BYTES, Mapping, parse_maps
from algorithmic_efficiency.memory_trace.processes import Process

_ENTRY_BYTES = 8  # of pagemap, of kpageflags, and of the bitmap's words
_WORD_PAGES = 64
_MOST_PAGES = 1 << 40  # 4 PiB: more than any machine's physical memory
# Words between two runs that are rather read too: a call costs more than what they hold.
_GAP_WORDS = 4
_PRESENT = np.uint64(1 << 63)
_FRAME = np.uint64((1 << 55) - 1)
# Bits of kpageflags (include/uapi/linux/kernel-page-flags.h).
_HEAD, _TAIL, _NO_PAGE, _ZERO_PAGE = (np.uint64(1 << bit) for bit in (15, 16, 20, 24))
_FOLDED_PAGES = 512  # a huge page of the processor: larger ones are hugetlbfs's, never idle
_FLUSH = b'4'  # of clear_refs: the soft-dirty bits, and the TLB


class Backend:
  """Idle page tracking. `root` and `proc` are where sysfs and procfs are."""

  CAPABILITIES = Capabilities(
    granularity=PAGE,
    reads=True,
    writes=True,
    root=True,
    pauses=True,
    perturbs=(
      "its pages' accessed bits are cleared and its TLB is flushed each window; where the kernel "
      'has CONFIG_MEM_SOFT_DIRTY also its soft-dirty bits, so that the next write to a page faults'
    ),
  )
  unit_bytes = PAGE_BYTES

  def __init__(self, root: Path = Path('/sys'), proc: Path = Path('/proc')) -> None:
    self._bitmap = root / 'kernel/mm/page_idle/bitmap'
    self._flags = proc / 'kpageflags'
    self._own_pages = proc / 'self/pagemap'

  def probe(self) -> str:
    """Why it cannot be used here, with what would enable it; '' if it can."""
    if not self._bitmap.exists():
      return (
        f'this kernel has no {self._bitmap} since it is built without CONFIG_IDLE_PAGE_TRACKING, '
        "as Debian's are; run a kernel that has it, or take another backend"
      )
    for path, flags in ((self._bitmap, os.O_RDWR), (self._flags, os.O_RDONLY)):
      try:
        os.close(os.open(path, flags))
      except PermissionError:
        return f'{path} is open to root only; trace as root'
      except OSError as error:
        return f'{path} cannot be opened ({error.strerror}); build the kernel with CONFIG_PROC_FS'
    if not self._tells_frames():
      return (
        f'{self._own_pages} hides where pages are; trace as root that has CAP_SYS_ADMIN '
        '(a container needs it too)'
      )
    return ''

  def watch(self, process: Process, keeps: Sequence[Filter]) -> 'Watch':
    """Begins to watch a process. Raises UsageError where it cannot be used."""
    if reason := self.probe():
      raise UsageError(f'page_idle is not available: {reason}.')
    return Watch(process, keeps, self._bitmap, self._flags)

  def _tells_frames(self) -> bool:
    """Whether pagemap tells the place of a page that is certainly present: our own."""
    page = np.ones(1)
    address = page.__array_interface__['data'][0]
    with self._own_pages.open('rb', buffering=0) as file:
      file.seek(address // PAGE_BYTES * _ENTRY_BYTES)
      entry = np.frombuffer(file.read(_ENTRY_BYTES), np.uint64)
    return bool(entry.size and entry[0] & _FRAME)


class _Words(NamedTuple):
  """Runs of the bitmap's words.

  Attributes:
    first, count: (runs,) int64, of words.
    place: (highest word + 1,) int64, where a word is among those of all runs; else undefined.
  """

  first: np.ndarray
  count: np.ndarray
  place: np.ndarray


class _Pages(NamedTuple):
  """What pagemap tells of a process: bytes for each mapping, as they were read."""

  mappings: list[Mapping]
  kept: list[Mapping]
  entries: list[bytes]
  resident: int


class Raw(NamedTuple):
  """What was read at the end of a window: pages at its begin and end, and the idle bits."""

  before: _Pages
  after: _Pages
  words: _Words
  bits: bytes


class Watch:
  """Idle page tracking at work on one process."""

  def __init__(self, process: Process, keeps: Sequence[Filter], bitmap: Path, flags: Path) -> None:
    self._process = process
    self._keeps = keeps
    self._bitmap = self._flags = -1
    try:
      self._bitmap = os.open(bitmap, os.O_RDWR | os.O_CLOEXEC)
      self._flags = os.open(flags, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
      self.close()
      raise MeasurementError(f'{error.filename} cannot be opened ({error.strerror}).') from error
    self._limit = _words_there(self._bitmap) * _WORD_PAGES
    self._before: _Pages | None = None
    self._words = _words_of(np.empty(0, np.int64))
    self._read: _Pages | None = None  # by collect, for the reset that follows in the same pause

  def reset(self) -> None:
    """Marks all of its pages idle; a window begins. The process is stopped."""
    pages, self._read = self._read or self._pages(), None
    frames = [_frames(entries) for entries in pages.entries]
    marked = np.concatenate([frame[frame > 0] for frame in frames] or [np.empty(0, np.int64)])
    marked = marked[marked < self._limit]
    self._words = _words_of(marked)
    bits = _bits_of(marked, self._words)
    begin = 0
    for first, count in zip(self._words.first.tolist(), self._words.count.tolist(), strict=True):
      end = begin + count * _ENTRY_BYTES
      _write_all(self._bitmap, bits[begin:end], first * _ENTRY_BYTES)
      begin = end
    # Marking clears the accessed bits but leaves the TLB, in which a page that is touched often
    # stays: the processor would not set its bit again.
    self._write_clear_refs()
    self._before = pages

  def collect(self) -> Raw:
    """Reads the idle bits, and where its pages are now. The process is stopped."""
    if self._before is None:
      raise MeasurementError('no window has begun: reset comes before collect.')
    words = self._words
    bits = [
      _read_all(self._bitmap, count * _ENTRY_BYTES, first * _ENTRY_BYTES)
      for first, count in zip(words.first.tolist(), words.count.tolist(), strict=True)
    ]
    self._read = self._pages()
    return Raw(self._before, self._read, words, b''.join(bits))

  def decode(self, raw: Raw) -> Touched:
    """Makes sense of what was collected; the process runs."""
    idle = np.unpackbits(np.frombuffer(raw.bits, np.uint8), bitorder='little').view(bool)
    pages, frames = _concatenated(raw.after)
    frames[frames >= self._limit] = 0  # memory of a device
    touched = (frames > 0) & ~self._stayed_idle(raw, pages, frames, idle)
    huge = self._fold(frames, touched, raw.words, idle)
    owner = np.repeat(
      np.arange(len(raw.after.kept)), [len(entry) // _ENTRY_BYTES for entry in raw.after.entries]
    )
    count = len(raw.after.kept)
    resident = np.bincount(owner[frames > 0], minlength=count) * PAGE_BYTES
    hit = np.bincount(owner[touched], minlength=count) * PAGE_BYTES
    extents = [
      Extent(mapping, int(there), int(here))
      for mapping, there, here in zip(raw.after.kept, resident, hit, strict=True)
    ]
    return Touched(
      extents,
      virtual=sum(mapping.size for mapping in raw.after.mappings),
      resident=max(raw.after.resident, int(resident.sum())),
      units=_runs(pages[touched]),
      huge=huge * PAGE_BYTES,
    )

  def close(self) -> None:
    """Lets go of the files. Marks that stay are no harm: the next touch takes them away."""
    for fd in (self._bitmap, self._flags):
      if fd >= 0:
        os.close(fd)
    self._bitmap = self._flags = -1

  def _pages(self) -> _Pages:
    mappings = parse_maps(self._process.read('maps'))
    if not mappings:
      raise ProcessLookupError(self._process.pid)
    kept = [mapping for mapping in mappings if keeps(self._keeps, mapping)]
    fd = self._open('pagemap', os.O_RDONLY)
    try:
      entries = [_entries(fd, mapping) for mapping in kept]
    finally:
      os.close(fd)
    resident = int(self._process.read('statm').split()[1]) * PAGE_BYTES
    return _Pages(mappings, kept, entries, resident)

  def _write_clear_refs(self) -> None:
    fd = self._open('clear_refs', os.O_WRONLY)
    try:
      os.write(fd, _FLUSH)
    finally:
      os.close(fd)

  def _open(self, name: str, flags: int) -> int:
    try:
      return self._process.open(name, flags)
    except FileNotFoundError as error:
      raise ProcessLookupError(*error.args) from error

  def _stayed_idle(
    self, raw: Raw, pages: np.ndarray, frames: np.ndarray, idle: np.ndarray
  ) -> np.ndarray:
    """Whether each page is where it was when it was marked, and has its mark."""
    stayed = np.zeros(len(pages), bool)
    old_pages, old_frames = _concatenated(raw.before)
    if not old_pages.size or not pages.size or not idle.size:
      return stayed
    found = np.searchsorted(old_pages, pages)
    found[found == old_pages.size] = 0
    same = (old_pages[found] == pages) & (old_frames[found] == frames) & (frames > 0)
    stayed[same] = idle[_bit_places(frames[same], raw.words)]
    return stayed

  def _fold(self, frames: np.ndarray, touched: np.ndarray, words: _Words, idle: np.ndarray) -> int:
    """Gives pages within huge ones the bit of the huge one; the number of pages in huge ones.

    Only a huge page's head can be marked, so its tails all read as touched; which pages these are
    is asked of the touched ones only. What is no memory of the process (the page of zeros that
    stands for memory never written, device memory) is taken out of both arrays.
    """
    places = np.flatnonzero(touched)
    flags = self._flags_of(frames[places])
    none = (flags & (_ZERO_PAGE | _NO_PAGE)) != 0
    frames[places[none]] = 0
    touched[places[none]] = False
    tails = places[((flags & _TAIL) != 0) & ~none]
    if not tails.size:
      return int(np.count_nonzero(flags & _HEAD))
    heads = self._heads_of(frames[tails])
    known = _are_among(heads, words)
    stayed = np.zeros(len(tails), bool)
    stayed[known] = idle[_bit_places(heads[known], words)]
    touched[tails[stayed]] = False
    return len(tails) + int(np.isin(frames, np.unique(heads)).sum())

  def _flags_of(self, frames: np.ndarray) -> np.ndarray:
    """The flags of each page."""
    if not frames.size:
      return np.empty(0, np.uint64)
    words = _words_of(frames)
    content = b''.join(
      _read_all(self._flags, count * _WORD_PAGES * _ENTRY_BYTES, first * _WORD_PAGES * _ENTRY_BYTES)
      for first, count in zip(words.first.tolist(), words.count.tolist(), strict=True)
    )
    return np.frombuffer(content, np.uint64)[_bit_places(frames, words)]

  def _heads_of(self, tails: np.ndarray) -> np.ndarray:
    """The head of each tail: the last head before it in its block, or itself if there is none."""
    blocks = np.unique(tails // _FOLDED_PAGES)
    members = blocks[:, None] * _FOLDED_PAGES + np.arange(_FOLDED_PAGES)
    flags = self._flags_of(members.ravel()).reshape(members.shape)
    last = np.maximum.accumulate(np.where((flags & _HEAD) != 0, members, -1), axis=1)
    heads = last[np.searchsorted(blocks, tails // _FOLDED_PAGES), tails % _FOLDED_PAGES]
    return np.where(heads < 0, tails, heads)


def _entries(fd: int, mapping: Mapping) -> bytes:
  """What pagemap tells of a mapping; nothing of one that may be neither read nor written."""
  if mapping.permissions[:2] == '--' or mapping.path == '[vsyscall]':
    return b''  # libraries reserve terabytes so, and pagemap would be read for all of them
  begin, count = mapping.begin // PAGE_BYTES, mapping.size // PAGE_BYTES
  return _read_all(fd, count * _ENTRY_BYTES, begin * _ENTRY_BYTES)


def _read_all(fd: int, count: int, offset: int) -> bytes:
  """Bytes of a file; zeros from where it ends."""
  content = os.pread(fd, count, offset)
  while len(content) < count:
    piece = os.pread(fd, count - len(content), offset + len(content))
    if not piece:
      return content.ljust(count, b'\0')
    content += piece
  return content


def _write_all(fd: int, content: bytes, offset: int) -> None:
  while content:
    written = os.pwrite(fd, content, offset)
    content, offset = content[written:], offset + written


def _frames(entries: bytes) -> np.ndarray:
  """Where each page is in physical memory, in pages; 0 if it is not there."""
  numbers = np.frombuffer(entries, np.uint64)
  return np.where((numbers & _PRESENT) != 0, numbers & _FRAME, np.uint64(0)).astype(np.int64)


def _concatenated(pages: _Pages) -> tuple[np.ndarray, np.ndarray]:
  """The numbers of the pages of all kept mappings, and where they are."""
  if not pages.kept:
    return np.empty(0, np.int64), np.empty(0, np.int64)
  numbers = [
    mapping.begin // PAGE_BYTES + np.arange(len(entries) // _ENTRY_BYTES)
    for mapping, entries in zip(pages.kept, pages.entries, strict=True)
  ]
  return np.concatenate(numbers), _frames(b''.join(pages.entries))


def _words_of(frames: np.ndarray) -> _Words:
  """The words that hold these pages' bits, in runs."""
  if not frames.size:
    return _Words(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))
  held = np.zeros(int(frames.max()) // _WORD_PAGES + 1, bool)
  held[frames // _WORD_PAGES] = True
  words = np.flatnonzero(held)
  begins = np.flatnonzero(np.diff(words, prepend=-_GAP_WORDS - 2) > _GAP_WORDS + 1)
  ends = np.append(begins[1:], len(words)) - 1
  first, count = words[begins], words[ends] - words[begins] + 1
  offsets = np.cumsum(count) - count  # of each run among the words of all
  run_of = np.searchsorted(first, words, side='right') - 1
  place = np.full(len(held), -1, np.int64)
  place[words] = offsets[run_of] + words - first[run_of]
  return _Words(first, count, place)


def _are_among(frames: np.ndarray, words: _Words) -> np.ndarray:
  """Whether each page's word was asked for."""
  within = frames // _WORD_PAGES < len(words.place)
  within[within] = words.place[frames[within] // _WORD_PAGES] >= 0
  return within


def _bit_places(frames: np.ndarray, words: _Words) -> np.ndarray:
  """Where each page's bit is among those of the words of all runs."""
  return words.place[frames // _WORD_PAGES] * _WORD_PAGES + frames % _WORD_PAGES


def _bits_of(frames: np.ndarray, words: _Words) -> bytes:
  """The words of all runs, with these pages' bits set and no other."""
  bits = np.zeros(int(words.count.sum()) * _WORD_PAGES, bool)
  bits[_bit_places(frames, words)] = True
  return np.packbits(bits, bitorder='little').tobytes()


def _words_there(bitmap: int) -> int:
  """How many words the bitmap has, whose size the file system does not tell."""
  low, high = 0, _MOST_PAGES // _WORD_PAGES
  while low < high:
    middle = (low + high) // 2
    if os.pread(bitmap, _ENTRY_BYTES, middle * _ENTRY_BYTES):
      low = middle + 1
    else:
      high = middle
  return low


def _runs(pages: np.ndarray) -> np.ndarray:
  """Ascending page numbers as (first, how many)."""
  if not pages.size:
    return NO_UNITS
  begins = np.flatnonzero(np.diff(pages, prepend=-2) != 1)
  counts = np.diff(np.append(begins, len(pages)))
  return np.stack([pages[begins], counts], axis=1).astype(np.int64)
