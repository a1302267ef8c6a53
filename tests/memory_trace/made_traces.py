"""Traces that are made, for the tests of the analysis and for a look at its pictures."""

from pathlib import Path

import numpy as np

from algorithmic_efficiency.memory_trace import unit_runs
from algorithmic_efficiency.memory_trace.backends import Extent, Touched
from algorithmic_efficiency.memory_trace.mappings import Mapping
from algorithmic_efficiency.memory_trace.trace_file import Window, Writer

PAGE = 4096
SEC = 10**9
HEADER = {'backend': 'page_idle', 'granularity': 'page', 'unit_bytes': PAGE, 'sample_sec': 0.2}


def mapping(first: int, pages: int, permissions: str = 'rw-p', path: str = '') -> Mapping:
  """A mapping by its first page and how many."""
  return Mapping(first * PAGE, (first + pages) * PAGE, permissions, 0, path)


def window(number: int, step: int | None = None) -> Window:
  """Of 0.2 s, with a pause of 10 ms after it."""
  begin = 7 * SEC + number * 210 * 10**6
  return Window(number, begin, begin + SEC // 5, SEC // 100, step)


def touched(mappings: list[Mapping], pages: np.ndarray, **more) -> Touched:
  """What a process touched: ascending pages that lie in the mappings."""
  ends = np.searchsorted(pages, [[m.begin // PAGE, m.end // PAGE] for m in mappings])
  counts = np.diff(ends).ravel() * PAGE
  extents = [Extent(m, m.size, int(n)) for m, n in zip(mappings, counts, strict=True)]
  sizes = sum(m.size for m in mappings)
  return Touched(extents, 2 * sizes, sizes, **{'units': unit_runs.of_units(pages), **more})


def write(path: Path, windows, end: bool = True, **header) -> Path:
  """A trace of `windows`: an iterable of lists of (pid, Window, Touched)."""
  writer = Writer(path, {**HEADER, **header})
  for samples in windows:
    for sample in samples:
      writer.sample(*sample)
  if end:
    writer.line('end', why='ended')
  writer.close()
  return path


def realistic(path: Path, windows: int = 300, seed: int = 0) -> Path:
  """25,000 hot pages of 280,000, that drift, after a start-up that touches a lot once."""
  generator = np.random.default_rng(seed)
  base = 0x7F0000000
  heap = mapping(0x555000, 60_000, path='[heap]')
  arena, data = mapping(base, 140_000), mapping(base + 150_000, 60_000)
  model = mapping(base + 220_000, 12_000, 'r--p', '/data/weights.bin')
  library = mapping(base + 240_000, 20_000, 'r-xp', '/usr/lib/libjaxlib.so')
  small, stack = mapping(base + 270_000, 2), mapping(base + 300_000, 33, path='[stack]')
  mappings = [heap, arena, data, model, library, small, stack]

  def some(of: Mapping, first: int, count: int, part: float = 1.0) -> np.ndarray:
    first = of.begin // PAGE + np.arange(max(first, 0), min(first + count, of.size // PAGE))
    return first[generator.random(len(first)) < part]

  def pages(number: int) -> np.ndarray:
    share = number / windows
    if number < windows // 12:  # loading
      place = 12 * number * 60_000 // windows
      parts = [some(data, place, 6_000), some(library, 0, 20_000, 0.5), some(heap, place, 4_000)]
      return np.concatenate([*parts, some(arena, 2 * place, 20_000, 0.9)])
    parts = [
      some(heap, int(3_000 * share), 4_000, 0.9),
      some(arena, int(30_000 * share), 14_000),
      some(arena, 90_000 + 3_000 * (number % 4), 3_000, 0.95),
      some(data, (number * 450) % 60_000, 450),
      some(model, 0, 12_000, 0.1),
      some(library, 0, 20_000, 0.06),
      some(small, 0, 1),
      some(stack, 25, 8),
    ]
    return np.concatenate(parts)

  def samples():
    for number in range(windows):
      own = window(number, max(0, number - windows // 12) * 3)
      yield [(41, own, touched(mappings, np.unique(pages(number))))]

  return write(path, samples(), command='python train.py')
