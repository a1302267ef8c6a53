"""This file sees which chunks are touched on any kernel: smaps again, of mappings cut into chunks.

smaps adds up by mapping, so the smaller the mappings the finer it tells. Every other chunk is given
an advice that changes nothing but a crash's core file (MADV_DONTDUMP), and the kernel must then
keep it as a mapping of its own. That takes code within the process (`agent.py`), costs memory and
time in the kernel by the number of mappings, and forbids huge pages where chunks are below 2 MiB:
the record says so.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import agent, filters, refs
from algorithmic_efficiency.memory_trace.agents import Agents
from algorithmic_efficiency.memory_trace.backends import (
  CHUNK,
  NO_UNITS,
  Capabilities,
  Extent,
  Touched,
)
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.mappings import KERNEL, STACK, Mapping
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.smaps import Smaps, parse_columns

CHUNK_BYTES = 64 << 10
_SHARE_OF_MAPPINGS = 0.75  # of those that the kernel lets a process have; the rest is its own
_MOST_MAPPINGS = Path('/proc/sys/vm/max_map_count')


class Backend:
  """By chunk.

  Args:
    chunk_bytes: of a unit; a power of two, of at least a page.
    agents: within the processes.
  """

  CAPABILITIES = Capabilities(
    CHUNK, reads=True, writes=True, root=False, pauses=True, agent=True,
    perturbs=f'{refs.FLUSHES}; mappings are cut into chunks, which are never huge pages',
  )  # fmt: skip

  def __init__(self, chunk_bytes: int, agents: Agents) -> None:
    if chunk_bytes < 4096 or chunk_bytes & (chunk_bytes - 1):
      raise UsageError(f'chunks of {chunk_bytes} bytes: give a power of two from 4096 on.')
    self.unit_bytes, self._agents = chunk_bytes, agents

  def probe(self) -> str:
    """Why it cannot be used here; '' if it can."""
    return refs.why_not()

  def watch(self, process: Process, keeps: Sequence[Filter]) -> 'Watch':
    """Begins to watch a process; one without an agent has nothing in units."""
    return Watch(process, keeps, self.unit_bytes, self._agents)


class Watch:
  """It at work on a process."""

  def __init__(
    self, process: Process, keeps: Sequence[Filter], chunk_bytes: int, agents: Agents
  ) -> None:
    self._process, self._keeps, self._agents = process, keeps, agents
    self._chunk = chunk_bytes
    self._most = int(int(_MOST_MAPPINGS.read_text()) * _SHARE_OF_MAPPINGS)
    self._cut(parse_columns(process.read('smaps')))

  def reset(self) -> None:
    """Clears the bits, and flushes the TLB."""
    refs.forget(self._process)

  def collect(self) -> bytes:
    """The content of smaps."""
    return self._process.read('smaps')

  def decode(self, raw: bytes) -> Touched:
    """Bytes of each mapping as it was before it was cut, and the chunks."""
    told = parse_columns(raw)
    self._cut(told)
    touched = refs.of_all(told)
    places = _places(told)
    wholes = _wholes(told, places)
    kept = np.array([filters.keeps(self._keeps, mapping) for mapping, _, _ in wholes], bool)
    touched.extents = [whole for whole, keep in zip(wholes, kept, strict=True) if keep]
    touched.units, touched.unplaced = units_of(told, kept[places], self._chunk)
    return touched

  def close(self) -> None:
    """Joins what was cut."""
    told = parse_columns(self._process.read('smaps'))
    parts = [m[:2] for m, flags in zip(told.mappings, told.flags, strict=True) if b' dd' in flags]
    self._agents.ask(self._process.pid, agent.UNDO, parts)

  def _cut(self, told: Smaps) -> None:
    """Asks for cuts where a mapping crosses from one chunk into the next."""
    begins, ends = told.bounds
    crossing = np.flatnonzero(begins // self._chunk != (ends - 1) // self._chunk)
    room = self._most - len(told.mappings)
    ranges: list[tuple[int, int]] = []
    for mapping in (told.mappings[place] for place in crossing):
      # One that is too large stays whole, and what is touched in it is in no unit.
      if _may_be_cut(mapping) and len(ranges) * 2 + mapping.size // self._chunk <= room:
        ranges += odd_chunks(mapping, self._chunk)
    if ranges:
      self._agents.ask(self._process.pid, agent.SPLIT, ranges)


def odd_chunks(mapping: Mapping, chunk: int) -> Iterable[tuple[int, int]]:
  """(begin, end) of the mapping's part in every other chunk."""
  first = mapping.begin // chunk | 1
  for number in range(first, (mapping.end - 1) // chunk + 1, 2):
    yield max(number * chunk, mapping.begin), min((number + 1) * chunk, mapping.end)


def units_of(told: Smaps, kept: np.ndarray, chunk: int) -> tuple[np.ndarray, int]:
  """(runs of touched units of the kept, touched bytes of which it is not known where they are)."""
  begins, ends = told.bounds
  first, last = begins // chunk, (ends - 1) // chunk
  touched = kept & (told.referenced > 0)
  placed = (first == last) | (told.referenced == ends - begins)
  unplaced = int(told.referenced[touched & ~placed].sum())
  known = touched & placed
  return runs(first[known], last[known] + 1), unplaced


def runs(begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
  """(n, 2) runs (first, how many) of ascending ranges that may touch or overlap."""
  if not len(begins):
    return NO_UNITS
  ends = np.maximum.accumulate(ends)
  starts = np.concatenate([[True], begins[1:] > ends[:-1]])
  lasts = np.concatenate([starts[1:], [True]])
  return np.column_stack([begins[starts], ends[lasts] - begins[starts]])


def _may_be_cut(mapping: Mapping) -> bool:
  """The kernel's own mappings cannot be cut, and the stack grows."""
  return mapping.permissions[:2] != '--' and mapping.region not in (KERNEL, STACK)


def _places(told: Smaps) -> np.ndarray:
  """(n): which mapping, counted from 0, each piece was a part of before it was cut.

  Pieces are of one mapping if they are alike, of one file or none, with nothing between them.
  """
  begins, ends = told.bounds
  numbers: dict[tuple[str, str], int] = {}
  kinds = [numbers.setdefault((m.permissions, m.path), len(numbers)) for m in told.mappings]
  kind = np.array(kinds, np.int64)
  is_file = np.array([path.startswith('/') for _, path in numbers], bool)[kind]
  offsets = np.array([m.offset for m in told.mappings], np.int64)
  goes_on = (kind[1:] == kind[:-1]) & (begins[1:] == ends[:-1])
  goes_on &= ~is_file[1:] | (np.diff(offsets) == (ends - begins)[:-1])
  return np.concatenate([np.zeros(min(len(kind), 1), np.int64), np.cumsum(~goes_on)])


def _wholes(told: Smaps, places: np.ndarray) -> list[Extent]:
  """Mappings as they were before they were cut."""
  if not told.mappings:
    return []
  first = np.flatnonzero(np.diff(places, prepend=-1))
  last = np.concatenate([first[1:], [len(places)]]) - 1
  sums = (np.add.reduceat(column, first).tolist() for column in (told.resident, told.referenced))
  return [
    Extent(told.mappings[begin]._replace(end=told.mappings[end].end), resident, touched)
    for begin, end, resident, touched in zip(first.tolist(), last.tolist(), *sums, strict=True)
  ]
