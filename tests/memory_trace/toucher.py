"""This file is a process with a known answer: it touches a known part of its memory, endlessly.

It prints one line of JSON, `{"pid", "base", "bytes", "hot", "hot_bytes", "pages", "stride"}`
(addresses and bytes; how many pages are touched, and every which one), then `ready` after it has
touched all of the hot pages once. Then it touches them in turn until it is killed, or until the
process that started it has ended.

Nothing but the standard library, so that the process is small (Linux, Python 3.11 and later).
"""

import argparse
import ctypes
import json
import mmap
import os
import random
import time
from collections.abc import Callable

PAGE_BYTES = 4096
MIB = 1 << 20
_STRIDE = 2  # pages, of the order 'strided': every other page
_HUGE_BYTES = 2 * MIB
_THP_DISABLE = 41  # prctl(2)
_BURST_SEC = 0.02


def main() -> None:
  options, parent = _options(), os.getppid()
  if options.no_thp:
    ctypes.CDLL(None).prctl(_THP_DISABLE, 1, 0, 0, 0)
  size, hot_size = options.total_mib * MIB, int(options.hot_mib * MIB)
  area, base = _area(size, huge=options.huge)
  begin = options.hot_at_mib * MIB
  hot = area[begin : begin + hot_size]
  stride = _STRIDE if options.order == 'strided' else 1
  touch = _touch(hot, options.access, options.order, stride)
  if options.flush:
    touch = _and_flush(touch)
  pages = len(hot) // PAGE_BYTES // stride
  told = {'pid': os.getpid(), 'base': base, 'bytes': size, 'hot': base + begin}
  told |= {'hot_bytes': hot_size, 'pages': pages, 'stride': stride}
  print(json.dumps(told), flush=True)
  touch()
  print('ready', flush=True)
  _touch_on(touch, options.period_sec, parent, options.duration_sec)


def _options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--total_mib', type=int, default=64, help='of memory that is resident')
  parser.add_argument('--hot_mib', type=float, default=8, help='of which are touched on and on')
  parser.add_argument('--hot_at_mib', type=int, default=16, help='where the hot part begins')
  parser.add_argument('--access', choices=('read', 'write', 'mixed'), default='mixed')
  parser.add_argument('--order', choices=('sequential', 'random', 'strided'), default='sequential')
  parser.add_argument('--period_sec', type=float, default=0.0, help='rest after each whole turn')
  parser.add_argument('--duration_sec', type=float, default=float('inf'), help='then it ends')
  parser.add_argument('--huge', action='store_true', help='ask for transparent huge pages')
  parser.add_argument('--no_thp', action='store_true', help='forbid them, as a tracer would')
  parser.add_argument(
    '--flush', action='store_true', help="empty the processor's TLB after each whole turn"
  )
  options = parser.parse_args()
  if options.hot_at_mib + options.hot_mib > options.total_mib:
    parser.error('the hot part must lie within the memory: raise --total_mib')
  return options


def _area(size: int, *, huge: bool) -> tuple[memoryview, int]:
  """Private anonymous memory of which every page is resident, and its address."""
  spare = _HUGE_BYTES if huge else 0  # so that it can begin where a huge page may; not touched
  area = mmap.mmap(-1, size + spare, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
  area.madvise(mmap.MADV_HUGEPAGE if huge else mmap.MADV_NOHUGEPAGE)
  address = ctypes.addressof(ctypes.c_char.from_buffer(area))
  skipped = -address % _HUGE_BYTES if huge else 0
  view = memoryview(area)[skipped : skipped + size]
  view[::PAGE_BYTES] = bytes(range(256)) * (size // MIB)  # a page each, MIB // PAGE_BYTES of them
  return view, address + skipped


def _touch(hot: memoryview, access: str, order: str, stride: int) -> Callable[[], None]:
  """A function that touches each hot page once."""
  if order == 'random':
    return _touch_at_random(hot, access)
  step = stride * PAGE_BYTES
  ones, twos = (bytes([value]) * (len(hot) // step) for value in (1, 2))

  def read() -> None:
    bytes(hot[::step])

  def write() -> None:
    hot[::step] = ones

  def mixed() -> None:
    """Reads the first half of the pages, and writes the second."""
    half = len(hot) // 2
    bytes(hot[:half:step])
    hot[half::step] = twos[: len(hot[half::step])]

  return {'read': read, 'write': write, 'mixed': mixed}[access]


def _touch_at_random(hot: memoryview, access: str) -> Callable[[], None]:
  places = list(range(0, len(hot), PAGE_BYTES))
  random.Random(0).shuffle(places)
  read = places if access == 'read' else [] if access == 'write' else places[::2]
  written = places if access == 'write' else [] if access == 'read' else places[1::2]

  def touch() -> None:
    for place in read:
      hot[place]
    for place in written:
      hot[place] = 3

  return touch


def _and_flush(touch: Callable[[], None]) -> Callable[[], None]:
  """Touches, and then makes the processor forget where pages are, as one with a small TLB would.

  Linux empties all of a process's TLB when more than 33 pages change their protection.
  """
  area = mmap.mmap(-1, 64 * PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
  memoryview(area)[::PAGE_BYTES] = bytes([1]) * 64
  address = ctypes.addressof(ctypes.c_char.from_buffer(area))
  protect = ctypes.CDLL(None, use_errno=True).mprotect

  def both() -> None:
    touch()
    for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
      if protect(ctypes.c_void_p(address), ctypes.c_size_t(len(area)), protection):
        raise OSError(ctypes.get_errno(), 'mprotect')

  return both


def _touch_on(
  touch: Callable[[], None], period_sec: float, parent: int, duration_sec: float
) -> None:
  """Touches until the parent has ended, or its time is over."""
  last = time.monotonic() + duration_sec
  while os.getppid() == parent and time.monotonic() < last:
    end = time.monotonic() + _BURST_SEC
    while True:
      touch()
      if period_sec:
        time.sleep(period_sec)
      if time.monotonic() >= end:
        break


if __name__ == '__main__':
  main()
