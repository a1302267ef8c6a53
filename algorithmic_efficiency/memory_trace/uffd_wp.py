"""This file sees which pages are written: userfaultfd's write-protection, looked up by the kernel.

The agent within the process registers its memory (UFFD_FEATURE_WP_ASYNC, Linux 6.7): the kernel
takes a page's protection away at the first write, by itself, and PAGEMAP_SCAN tells which pages
lost it, and protects them again, in one call (Documentation/admin-guide/mm/pagemap.rst). What is
only read is not seen.
"""

import ctypes
import dataclasses
import fcntl
import os
import struct
from collections.abc import Sequence

import numpy as np

from algorithmic_efficiency.memory_trace import agent, refs
from algorithmic_efficiency.memory_trace.agents import Agents
from algorithmic_efficiency.memory_trace.backends import NO_UNITS, PAGE, Capabilities, Touched
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.mappings import KERNEL, PAGE_BYTES, Mapping
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.smaps import Smaps, parse_columns

_PAGEMAP_SCAN = 0xC0606610
_SCAN = struct.Struct('<12Q')  # struct pm_scan_arg
_PROTECT_AGAIN = 1  # PM_SCAN_WP_MATCHING
_CAN_BE_PROTECTED, _WRITTEN = 1 << 0, 1 << 1
_REGIONS = 1 << 16  # a call; each is 24 bytes: begin, end, categories
_NONE = np.empty((0, 3), np.uint64)
_REGISTERED = b' uw'  # VmFlags of a mapping that is


class Backend:
  """By page, writes only.

  Args:
    agents: within the processes.
  """

  CAPABILITIES = Capabilities(
    PAGE, reads=False, writes=True, root=False, pauses=True, agent=True,
    perturbs='memory is registered with userfaultfd; the first write to a page in a window faults',
  )  # fmt: skip
  unit_bytes = PAGE_BYTES

  def __init__(self, agents: Agents) -> None:
    self._agents = agents

  def probe(self) -> str:
    """Why it cannot be used here; '' if it can."""
    fd = os.open('/proc/self/pagemap', os.O_RDONLY)
    try:
      _scan(fd, 0, PAGE_BYTES, np.empty((1, 3), np.uint64))
    except OSError as error:
      return f'the kernel has no PAGEMAP_SCAN ({error.strerror}); it came with Linux 6.7'
    finally:
      os.close(fd)
    return agent.why_no_userfaultfd()

  def watch(self, process: Process, keeps: Sequence[Filter]) -> 'Watch':
    """Begins to watch a process; of one without an agent nothing is seen."""
    return Watch(process, keeps, self._agents)


class Watch:
  """It at work on a process."""

  def __init__(self, process: Process, keeps: Sequence[Filter], agents: Agents) -> None:
    self._process, self._keeps, self._agents = process, keeps, agents
    told = parse_columns(process.read('smaps'))
    self._top = max((mapping.end for mapping in told.mappings), default=0)
    self._register(told)

  def reset(self) -> None:
    """Protects what is not; after `collect` that is nothing."""
    self.collect()

  def collect(self) -> np.ndarray:
    """(n, 3): begin, end, categories of what was written."""
    return scan(self._process, self._top)

  def decode(self, raw: np.ndarray) -> Touched:
    """Pages, and bytes of each mapping as it is now, with what is resident now."""
    told = parse_columns(self._process.read('smaps'))
    self._register(told)
    written = raw[:, :2].astype(np.int64)
    sizes = np.array([_within(written, mapping) for mapping in told.mappings], np.int64)
    touched = refs.by_mapping(dataclasses.replace(told, referenced=sizes), self._keeps)
    touched.units = _clipped(written, [extent.mapping for extent in touched.extents])
    return touched

  def close(self) -> None:
    """It ends with the process."""

  def _register(self, told: Smaps) -> None:
    ranges = [
      mapping[:2] for mapping, flags in zip(told.mappings, told.flags, strict=True)
      if _REGISTERED not in flags and mapping.permissions[1::2] == 'wp'
      and mapping.region != KERNEL
    ]  # fmt: skip
    if ranges:
      self._agents.ask(self._process.pid, agent.NOTE_WRITES, ranges)


def scan(process: Process, top: int) -> np.ndarray:
  """(n, 3) begin, end and categories of what was written below `top`; it is protected again."""
  fd = process.open('pagemap')
  try:
    found: list[np.ndarray] = []
    begin = 0
    while begin < top:
      regions = np.empty((_REGIONS, 3), np.uint64)
      count, begin = _scan(fd, begin, top, regions)
      found.append(regions[:count])
    return np.concatenate([_NONE, *found])
  finally:
    os.close(fd)


def _scan(fd: int, begin: int, end: int, regions: np.ndarray) -> tuple[int, int]:
  """(regions found, where the kernel stopped)."""
  wanted = _CAN_BE_PROTECTED | _WRITTEN
  place = regions.ctypes.data_as(ctypes.c_void_p).value or 0
  arguments = bytearray(_SCAN.pack(
    _SCAN.size, _PROTECT_AGAIN, begin, end, 0, place, len(regions), 0, 0, wanted, 0, wanted
  ))  # fmt: skip
  count = fcntl.ioctl(fd, _PAGEMAP_SCAN, arguments)
  return count, _SCAN.unpack(arguments)[4]


def _within(ranges: np.ndarray, mapping: Mapping) -> int:
  """Bytes of the ranges in a mapping."""
  begins, ends = np.maximum(ranges[:, 0], mapping.begin), np.minimum(ranges[:, 1], mapping.end)
  return int(np.maximum(ends - begins, 0).sum())


def _clipped(ranges: np.ndarray, mappings: Sequence[Mapping]) -> np.ndarray:
  """Runs of pages in the ranges, within the mappings."""
  found = [NO_UNITS]
  for mapping in mappings:
    begins, ends = np.maximum(ranges[:, 0], mapping.begin), np.minimum(ranges[:, 1], mapping.end)
    inside = ends > begins
    found.append(np.column_stack([begins[inside], ends[inside] - begins[inside]]) // PAGE_BYTES)
  return np.concatenate(found)
