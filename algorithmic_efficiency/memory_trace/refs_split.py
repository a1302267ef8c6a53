"""This file sees which chunks are touched on any kernel: smaps again, of mappings cut into chunks.

smaps adds up by mapping, so the smaller the mappings the finer it tells. Every other chunk is given
an advice that changes nothing but a crash's core file (MADV_DONTDUMP), and the kernel must then
keep it as a mapping of its own. That takes code within the process (`agent.py`), costs memory and
time in the kernel by the number of mappings, and forbids huge pages where chunks are below 2 MiB:
the record says so.
"""

import itertools
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
from algorithmic_efficiency.memory_trace.mappings import KERNEL, STACK, Mapping, Usage, parse_smaps
from algorithmic_efficiency.memory_trace.processes import Process

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
    self._cut(parse_smaps(process.read('smaps')))

  def reset(self) -> None:
    """Clears the bits, and flushes the TLB."""
    refs.forget(self._process)

  def collect(self) -> bytes:
    """The content of smaps."""
    return self._process.read('smaps')

  def decode(self, raw: bytes) -> Touched:
    """Bytes of each mapping as it was before it was cut, and the chunks."""
    usages = parse_smaps(raw)
    self._cut(usages)
    touched = refs.by_mapping(usages, self._keeps)
    kept = [u for u in usages if filters.keeps(self._keeps, u.mapping)]
    touched.extents = list(_joined(kept))
    touched.units, touched.unplaced = units_of(kept, self._chunk)
    return touched

  def close(self) -> None:
    """Joins what was cut."""
    parts = [u for u in parse_smaps(self._process.read('smaps')) if 'dd' in u.flags]
    self._agents.ask(self._process.pid, agent.UNDO, [(u.mapping.begin, u.mapping.end)
                                                     for u in parts])  # fmt: skip

  def _cut(self, usages: Sequence[Usage]) -> None:
    """Asks for cuts where a mapping crosses from one chunk into the next."""
    crossing = [u.mapping for u in usages if _may_be_cut(u) and self._crosses(u.mapping)]
    room = self._most - len(usages)
    ranges: list[tuple[int, int]] = []
    for mapping in crossing:
      if len(ranges) * 2 + mapping.size // self._chunk > room:
        continue  # it stays whole, and what is touched in it is in no unit
      ranges += odd_chunks(mapping, self._chunk)
    if ranges:
      self._agents.ask(self._process.pid, agent.SPLIT, ranges)

  def _crosses(self, mapping: Mapping) -> bool:
    return mapping.begin // self._chunk != (mapping.end - 1) // self._chunk


def odd_chunks(mapping: Mapping, chunk: int) -> Iterable[tuple[int, int]]:
  """(begin, end) of the mapping's part in every other chunk."""
  first = mapping.begin // chunk | 1
  for number in range(first, (mapping.end - 1) // chunk + 1, 2):
    yield max(number * chunk, mapping.begin), min((number + 1) * chunk, mapping.end)


def units_of(usages: Sequence[Usage], chunk: int) -> tuple[np.ndarray, int]:
  """(runs of touched units, touched bytes of mappings in which it is not known where)."""
  found: list[tuple[int, int]] = []
  unplaced = 0
  for usage in usages:
    if usage.referenced:
      first, last = usage.mapping.begin // chunk, (usage.mapping.end - 1) // chunk
      if first == last or usage.referenced == usage.mapping.size:
        found.append((first, last + 1))
      else:
        unplaced += usage.referenced
  return runs(found), unplaced


def runs(ranges: Sequence[tuple[int, int]]) -> np.ndarray:
  """(n, 2) runs (first, how many) of ascending ranges (first, end) that may touch or overlap."""
  if not ranges:
    return NO_UNITS
  begins, ends = np.array(ranges, np.int64).T
  ends = np.maximum.accumulate(ends)
  starts = np.concatenate([[True], begins[1:] > ends[:-1]])
  lasts = np.concatenate([starts[1:], [True]])
  return np.column_stack([begins[starts], ends[lasts] - begins[starts]])


def _may_be_cut(usage: Usage) -> bool:
  """The kernel's own mappings cannot be cut, and the stack grows."""
  return usage.mapping.permissions[:2] != '--' and usage.mapping.region not in (KERNEL, STACK)


def _joined(usages: Sequence[Usage]) -> Iterable[Extent]:
  """Mappings as they were: of one file, or none, and alike, with nothing between."""
  place = 0
  numbers: list[int] = []
  for before, now in itertools.pairwise([None, *usages]):
    assert now is not None
    place += before is not None and not _continues(before.mapping, now.mapping)
    numbers.append(place)
  for _, group in itertools.groupby(zip(numbers, usages, strict=True), key=lambda pair: pair[0]):
    parts = [usage for _, usage in group]
    whole = parts[0].mapping._replace(end=parts[-1].mapping.end)
    yield Extent(whole, sum(p.resident for p in parts), sum(p.referenced for p in parts))


def _continues(before: Mapping, now: Mapping) -> bool:
  alike = before.end == now.begin and before[2::2] == now[2::2]
  return alike and (not now.path.startswith('/') or now.offset - before.offset == before.size)
