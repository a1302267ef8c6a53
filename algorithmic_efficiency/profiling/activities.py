"""This file is what every reader of traces gives: activities of a device or of its host."""

import enum
from collections.abc import Iterator
from typing import NamedTuple, Protocol


class TraceError(Exception):
  """A trace cannot be read; the message says why, for its line in the manifest."""

  status = 'corrupt'


class Empty(TraceError):
  """There is nothing in it."""

  status = 'empty'


class NotATrace(TraceError):
  """It is something else."""

  status = 'not a trace'


class Kind(enum.StrEnum):
  """What ran: a kernel, a copy or fill of a device's memory, or an operator on the host."""

  KERNEL = 'kernel'
  MEMORY = 'memory'
  HOST = 'host'


class Launch(NamedTuple):
  """How a kernel was launched: registers a thread, bytes a block, dimensions, occupancy in %.

  What a trace does not tell is 0, as in the tables that users know; block and grid are then
  '1,1,1', and the occupancy is None.
  """

  registers_per_thread: int = 0
  shmem_bytes: int = 0
  block_dim: str = '1,1,1'
  grid_dim: str = '1,1,1'
  occupancy_pct: float | None = None


NO_LAUNCH = Launch()


class Activity(NamedTuple):
  """One thing that ran once.

  Attributes:
    kind: what ran.
    device: as the trace names it, such as '/device:GPU:0'.
    name: of the kernel, copy or host operator.
    op_name: the operator of the program it was run for; '' where the trace does not tell.
    op_type: the operator's type where the trace tells it ('Conv2D'), else ''.
    hlo_op: the instruction of XLA's compiled program, else ''.
    launch: of a kernel.
    phase, layer: where the reader knows them better than the operator's name tells.
    step: it belongs to; None outside of all.
    begin_ps, end_ps: picoseconds on the device's clock in this trace.
    duration_ps: of a host operator its own, without that of operators within.
  """

  kind: Kind
  device: str
  name: str
  op_name: str
  op_type: str
  hlo_op: str
  launch: Launch
  phase: str
  layer: str
  step: int | None
  begin_ps: int
  end_ps: int
  duration_ps: int


class Step(NamedTuple):
  """A step as the host marked it; picoseconds on the host's clock in this trace."""

  step: int
  begin_ps: int
  end_ps: int


class Reader(Protocol):
  """A trace that is open for reading; what it gives may be asked for once."""

  def has(self, kind: Kind) -> bool:
    """Whether there are activities of this kind."""
    ...

  def activities(self, kinds: frozenset[Kind]) -> Iterator[Activity]:
    """All activities of these kinds. Raises TraceError where the file is broken."""
    ...

  def steps(self) -> list[Step]:
    """The marked steps in their order; known before and after `activities`."""
    ...
