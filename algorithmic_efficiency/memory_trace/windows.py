"""This file goes through a trace window by window, all its processes together.

One window is held in memory at a time. What a filter drops is dropped here, so that every analysis
sees the same.
"""

import dataclasses
import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import unit_runs
from algorithmic_efficiency.memory_trace.backends import Touched
from algorithmic_efficiency.memory_trace.filters import Filter, keeps
from algorithmic_efficiency.memory_trace.trace_file import Sample, Trace

PROCESS_BITS = 45  # a unit's number has fewer: addresses of user space have 56 bits, a page 12
_DAMAGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, zlib.error)


@dataclass
class JointWindow:
  """What all processes touched in a window.

  Attributes:
    index: windows of the trace before this one.
    samples: one of every process that was there.
    runs: all units that were touched, as runs; to each unit its process's place in
      `Windows.pids` is added, times 2**PROCESS_BITS, so that the same address in two processes is
      two units, even if both share the memory. None where the trace tells no units.
  """

  index: int
  samples: list[Sample]
  runs: np.ndarray | None


class Windows:
  """Goes through the windows of a trace, as often as asked.

  Args:
    trace: from it.
    filters: what a mapping must satisfy; a process's units in other mappings are dropped.

  Attributes:
    pids: of the processes, in the order in which they came; so far.
  """

  def __init__(self, trace: Trace, filters: Sequence[Filter] = ()) -> None:
    self.trace = trace
    self.filters = filters
    self.pids: list[int] = []

  def __iter__(self) -> Iterator[JointWindow]:
    """The windows in order. Raises UsageError where the file is damaged."""
    samples = self._samples()
    grouped = itertools.groupby(samples, key=lambda sample: sample.window.number)
    for index, (_, group) in enumerate(grouped):
      window = [sample._replace(touched=self._restricted(sample)) for sample in group]
      yield JointWindow(index, window, self._joined(window))

  @property
  def unit_bytes(self) -> int:
    """Bytes of address space that a unit is. Raises UsageError where the trace does not tell."""
    size = self.trace.header.get('unit_bytes')
    if not isinstance(size, int) or size < 1:
      raise UsageError(
        f'{str(self.trace.path)!r} does not tell the size of its units (unit_bytes in its first '
        'line); it was damaged or written by something else, trace again.'
      )
    return size

  def _samples(self) -> Iterator[Sample]:
    samples = self.trace.samples()
    before: Sample | None = None
    while True:
      try:
        sample = next(samples, None)
      except _DAMAGED as error:
        after = 'its header' if before is None else f'window {before.window.number}'
        raise UsageError(
          f'{str(self.trace.path)!r} is damaged after {after} ({type(error).__name__}: {error}); '
          'cut the file there to read what is before.'
        ) from error
      if sample is None:
        return
      units = sample.touched.units
      if units is not None and not unit_runs.are_sound(units):
        raise UsageError(
          f'{str(self.trace.path)!r} is damaged in window {sample.window.number}: its units do not '
          'ascend; cut the file there to read what is before.'
        )
      before = sample
      yield sample

  def _restricted(self, sample: Sample) -> Touched:
    if not self.filters:
      return sample.touched
    size = None if sample.touched.units is None else self.unit_bytes
    return restricted(sample.touched, self.filters, size)

  def _joined(self, samples: list[Sample]) -> np.ndarray | None:
    parts: list[np.ndarray] = []
    for sample in sorted(samples, key=self._place):
      if sample.touched.units is None:
        return None
      process = np.array([[self._place(sample) << PROCESS_BITS, 0]])
      parts.append(sample.touched.units + process)
    return np.concatenate(parts)

  def _place(self, sample: Sample) -> int:
    if sample.pid not in self.pids:
      self.pids.append(sample.pid)
    return self.pids.index(sample.pid)


def restricted(touched: Touched, filters: Sequence[Filter], unit_bytes: int | None) -> Touched:
  """What a process touched in the mappings that satisfy the filters.

  `virtual`, `resident` and `huge` stay those of the whole process. A unit of which only a part lies
  in a kept mapping is kept. `unplaced` becomes what the kept mappings tell beyond the kept units.
  """
  extents = [extent for extent in touched.extents if keeps(filters, extent.mapping)]
  units, bytes_kept = touched.units, sum(extent.touched for extent in extents)
  unplaced = min(touched.unplaced, bytes_kept)
  if units is not None and unit_bytes is not None:
    ranges = unit_runs.of_mappings((extent.mapping for extent in extents), unit_bytes)
    units = unit_runs.intersected(units, ranges)
    unplaced = min(unplaced, max(bytes_kept - int(units[:, 1].sum()) * unit_bytes, 0))
  return dataclasses.replace(touched, extents=extents, units=units, unplaced=unplaced)
