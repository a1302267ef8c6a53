"""This file says what every backend can be asked, and which there are.

A backend tells which memory a process touched in a window. The loop (`sampling.py`) stops the
process, calls `collect`, then `reset`, and lets it go on; `decode` comes after, outside the pause.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.mappings import Mapping
from algorithmic_efficiency.memory_trace.processes import Process

NAMES = ('refs', 'refs_split', 'page_idle', 'uffd_wp', 'damon')
PAGE, CHUNK, MAPPING, REGION = 'page', 'chunk', 'mapping', 'region'
NO_UNITS = np.empty((0, 2), np.int64)


class Capabilities(NamedTuple):
  """What a backend can tell, and what it takes.

  Attributes:
    granularity: PAGE, CHUNK (of some pages), MAPPING (bytes of each, not which), or REGION
      (found by sampling: sizes are estimates).
    reads, writes: whether a page that is only read, or only written, is seen.
    root: whether only root may.
    pauses: whether the process is stopped for each sample.
    agent: whether code of ours must run within the process, which is then one that we start.
    perturbs: what tracing changes in the process, for the record; '' for its pauses alone.
  """

  granularity: str
  reads: bool
  writes: bool
  root: bool
  pauses: bool
  agent: bool = False
  perturbs: str = ''


class Extent(NamedTuple):
  """A mapping in a window: bytes that are resident, and bytes that were touched."""

  mapping: Mapping
  resident: int
  touched: int


@dataclass
class Touched:
  """What a process touched in a window.

  Attributes:
    extents: its mappings, in the order of their addresses; those that the filter keeps.
    virtual, resident: bytes of all mappings, whatever the filter keeps.
    units: (n, 2) int64, runs (first unit, how many) in ascending order that do not overlap; a unit
      is `unit_bytes` of address space, the first one begins at address 0. None where the backend
      does not tell which.
    unplaced: bytes that were touched and are in no unit, since it is not known which they are.
    huge: resident bytes in huge pages, of which a single touch marks all.
  """

  extents: list[Extent] = field(default_factory=list[Extent])
  virtual: int = 0
  resident: int = 0
  units: np.ndarray | None = None
  unplaced: int = 0
  huge: int = 0

  @property
  def touched(self) -> int:
    """Bytes that were touched: the working set of this window."""
    return sum(extent.touched for extent in self.extents)


class Watch(Protocol):
  """A backend at work on one process. What it raises: ProcessLookupError if it has ended."""

  def reset(self) -> None:
    """Forgets what was touched: a window begins. The process is stopped."""
    ...

  def collect(self) -> Any:
    """Reads, as fast as it can, what was touched since. The process is stopped."""
    ...

  def decode(self, raw: Any) -> Touched:
    """Makes sense of what was collected; the process runs."""
    ...

  def close(self) -> None:
    """Leaves the process as it was."""
    ...


class Backend(Protocol):
  """A way to see what is touched.

  Attributes:
    unit_bytes: of address space, or None where `Touched.units` is None.
  """

  CAPABILITIES: Capabilities
  unit_bytes: int | None

  def probe(self) -> str:
    """Why it cannot be used here, with what would enable it; '' if it can."""
    ...

  def watch(self, process: Process, keeps: Sequence[Filter]) -> Watch:
    """Begins to watch a process; `keeps` are what a mapping must satisfy."""
    ...


# What each must be told.
_OPTIONS = {'refs_split': ('chunk_bytes', 'agents'), 'uffd_wp': ('agents',),
            'damon': ('sample_sec',)}  # fmt: skip


def load(name: str, **options: Any) -> Backend:
  """A backend by its name.

  Args:
    name: of NAMES.
    options: chunk_bytes of a unit, the agents that help, sample_sec of a window; each backend
      takes those that it must be told.
  """
  module = importlib.import_module(f'{__package__}.{name}')
  told = {key: options[key] for key in _OPTIONS.get(name, ()) if key in options}
  return module.Backend(**told)
