"""Idle page tracking against a made-up machine of plain files; guests try it in earnest."""

import os
from pathlib import Path

import numpy as np
import pytest

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace import page_idle

PAGE = 4096
MACHINE_PAGES = 1 << 16
HEAD, TAIL, ZERO_PAGE = 1 << 15, 1 << 16, 1 << 24
PRESENT = 1 << 63


class Machine:
  """Physical memory, and a process in it of which page v is in frame `places[v]`.

  A plain file for the bitmap does what the kernel's does, but for words between runs, which are
  written as zeros: nobody else's marks are there.
  """

  def __init__(self, folder: Path, maps: list[str]) -> None:
    self.pid = 1
    self.root, self.proc = folder / 'sys', folder / 'proc'
    self.bitmap = self.root / 'kernel/mm/page_idle/bitmap'
    self.bitmap.parent.mkdir(parents=True)
    self.bitmap.write_bytes(bytes(MACHINE_PAGES // 8))
    (self.proc / 'self').mkdir(parents=True)
    (self.proc / 'maps').write_text(''.join(f'{line}\n' for line in maps))
    (self.proc / 'clear_refs').write_text('')
    (self.proc / 'statm').write_text('9 3 0 0 0 0 0\n')
    self.flags = np.zeros(MACHINE_PAGES, np.uint64)
    self.places: dict[int, int] = {}
    self.write()

  def write(self) -> None:
    entries = np.zeros(1 << 12, np.uint64)
    for page, frame in self.places.items():
      entries[page] = PRESENT | frame
    (self.proc / 'pagemap').write_bytes(entries.tobytes())
    (self.proc / 'kpageflags').write_bytes(self.flags.tobytes())

  def marks(self) -> np.ndarray:
    bits = np.frombuffer(self.bitmap.read_bytes(), np.uint8)
    return np.unpackbits(bits, bitorder='little')

  def touch(self, *frames: int) -> None:
    marks = self.marks()
    marks[list(frames)] = 0
    self.bitmap.write_bytes(np.packbits(marks, bitorder='little').tobytes())

  def open(self, name: str, flags: int = os.O_RDONLY) -> int:
    return os.open(self.proc / name, flags)

  def read(self, name: str) -> bytes:
    return (self.proc / name).read_bytes()

  def watch(self, keeps=()):
    bitmap, flags = self.bitmap, self.proc / 'kpageflags'
    return page_idle.Watch(self, keeps, bitmap, flags)


MAPS = [
  '00010000-00110000 rw-p 00000000 00:00 0 ',  # pages 16..271
  '00200000-00300000 rw-p 00000000 00:00 0 [heap]',  # pages 512..767
  '00300000-00400000 ---p 00000000 00:00 0 ',
]


def units(touched) -> list[tuple[int, int]]:
  return [tuple(row) for row in touched.units.tolist()]


def test_touched_pages_are_told_with_their_mappings(tmp_path):
  machine = Machine(tmp_path, MAPS)
  random = np.random.default_rng(0)
  frames = random.choice(np.arange(1, MACHINE_PAGES), 512, replace=False).tolist()
  pages = [*range(16, 272), *range(512, 768)]
  machine.places = dict(zip(pages, frames, strict=True))
  machine.write()
  watch = machine.watch()
  watch.reset()
  assert set(np.flatnonzero(machine.marks()).tolist()) == set(frames)
  assert (machine.proc / 'clear_refs').read_bytes() == b'4'
  hot = sorted(random.choice(pages, 90, replace=False).tolist())
  machine.touch(*(machine.places[page] for page in hot))
  touched = watch.decode(watch.collect())
  assert [first + i for first, count in units(touched) for i in range(count)] == hot
  low = sum(page < 512 for page in hot)
  told = [(e.mapping.begin, e.resident, e.touched) for e in touched.extents]
  assert told[0] == (0x10000, 256 * PAGE, low * PAGE)
  assert told[1] == (0x200000, 256 * PAGE, (90 - low) * PAGE)
  assert told[2] == (0x300000, 0, 0)
  assert (touched.virtual, touched.resident, touched.huge) == (3 << 20, 512 * PAGE, 0)
  # The next window begins with all pages idle again.
  watch.reset()
  assert watch.decode(watch.collect()).touched == 0
  watch.close()


def test_pages_that_came_or_moved_were_touched(tmp_path):
  machine = Machine(tmp_path, MAPS)
  machine.places = {16: 1000, 17: 1001, 18: 1002, 19: 1003}
  machine.write()
  watch = machine.watch()
  watch.reset()
  del machine.places[19]  # it went
  machine.places |= {17: 1001 + 64 * 50, 600: 1500, 601: MACHINE_PAGES + 5}  # the last a device's
  machine.write()
  touched = watch.decode(watch.collect())
  assert units(touched) == [(17, 1), (600, 1)]
  assert [extent.resident for extent in touched.extents] == [3 * PAGE, PAGE, 0]


def test_a_huge_page_is_touched_as_one(tmp_path):
  machine = Machine(tmp_path, MAPS)
  idle, hot = 4096, 8192  # heads of two huge pages of 64 pages each
  for page, frame in ((16, idle), (512, hot)):
    for member in range(64):
      machine.places[page + member] = frame + member
      machine.flags[frame + member] = TAIL if member else HEAD
  machine.places |= {200: 77, 201: 78}
  machine.flags[78] = ZERO_PAGE  # what was read and never written; no memory of the process
  machine.write()
  watch = machine.watch()
  watch.reset()
  tails = [first + member for first in (idle, hot) for member in range(1, 64)]
  machine.touch(
    *tails, hot, 78
  )  # the kernel never tells that a tail is idle, nor the page of zeros
  touched = watch.decode(watch.collect())
  assert units(touched) == [(512, 64)]
  assert touched.huge == 128 * PAGE
  assert [extent.resident for extent in touched.extents] == [65 * PAGE, 64 * PAGE, 0]


def test_filters_and_an_empty_process(tmp_path):
  machine = Machine(tmp_path, MAPS)
  machine.places = {16: 5, 512: 6}
  machine.write()
  watch = machine.watch([lambda mapping: mapping.path == '[heap]'])
  with pytest.raises(MeasurementError, match='reset comes before collect'):
    watch.collect()
  watch.reset()
  assert np.flatnonzero(machine.marks()).tolist() == [6]
  machine.touch(6)
  touched = watch.decode(watch.collect())
  assert units(touched) == [(512, 1)]
  assert (len(touched.extents), touched.virtual) == (1, 3 << 20)
  nothing = machine.watch([lambda mapping: False])
  nothing.reset()
  assert units(nothing.decode(nothing.collect())) == []
  (machine.proc / 'maps').write_text('')  # as of a process that has ended
  with pytest.raises(ProcessLookupError):
    watch.reset()
    watch.reset()


def test_probe_says_why(tmp_path):
  machine = Machine(tmp_path, MAPS)
  backend = page_idle.Backend(tmp_path / 'elsewhere', machine.proc)
  assert 'CONFIG_IDLE_PAGE_TRACKING' in backend.probe()
  with pytest.raises(UsageError, match='page_idle is not available: this kernel has no'):
    backend.watch(machine, [])
  (machine.proc / 'self/pagemap').write_bytes(b'')
  reason = page_idle.Backend(machine.root, machine.proc).probe()
  assert 'hides where pages are; trace as root that has CAP_SYS_ADMIN' in reason
