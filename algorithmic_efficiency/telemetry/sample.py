"""This file asks every source of this machine for its columns, each as often as it bears.

A source has a `NAME`, `probe() -> (available, reason)` and `read() -> dict` of columns. It never
raises: what it cannot read is left out. Sources of power also list `devices()` and the joules their
`counters()` have counted.
"""

import importlib.util
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from algorithmic_efficiency.telemetry.cgroup import Cgroup
from algorithmic_efficiency.telemetry.devices import Device
from algorithmic_efficiency.telemetry.habana import Habana
from algorithmic_efficiency.telemetry.host import Host, fresh_cpu_clock
from algorithmic_efficiency.telemetry.nvidia import Nvidia, NvidiaClocks
from algorithmic_efficiency.telemetry.nvidia_smi import NvidiaSmi
from algorithmic_efficiency.telemetry.process_tree import ProcessTree
from algorithmic_efficiency.telemetry.rapl import Rapl

_log = logging.getLogger(__name__)

# A source slower than this, twice in a row, is dropped: reading the clocks of 256 CPUs can take
# five seconds (psutil issue 1933), and no measurement may cost more than what it measures.
BUDGET_SEC = 0.25

_DERIVED = ('.mem.util', '.mem.free')  # from used and total; samples are many, and leave them out


class Source(Protocol):
  """One way to read hardware; `EVERY_SEC`, where it has one, is how often a sampler reads it."""

  @property
  def NAME(self) -> str:  # noqa: N802 - a constant of every source
    """What messages call it."""
    ...

  def probe(self) -> tuple[bool, str]:
    """Whether it can be read here, and if not, why."""
    ...

  def read(self) -> dict[str, Any]:
    """Columns and their values now; units as in records/columns.py."""
    ...


def sources(
  pid: int | None = None, only: Sequence[str] | None = None, without: Sequence[int] = ()
) -> list[Source]:
  """Every source there may be, the accelerators' first.

  Args:
    pid: of the job's first process; this one by default.
    only: names of the devices to read; all by default.
    without: pids of processes below it that are not the job's.
  """
  gpus = Nvidia(only)
  return [
    gpus,
    NvidiaClocks(gpus),
    _Instead(NvidiaSmi(only), gpus),
    Habana(only),
    Rapl(),
    *Host.parts(),
    Cgroup(pid),
    ProcessTree(pid, tuple(without)),
  ]


def clocks() -> 'Telemetry':
  """The sources of clocks alone, which are read anew each time and disturb no other reader."""
  found: list[Source] = [fresh_cpu_clock()]
  if importlib.util.find_spec('pynvml') is not None:  # that it is missing is told elsewhere
    gpus = Nvidia()
    found += [gpus, NvidiaClocks(gpus)]
  return Telemetry([*found, Habana()])


class Telemetry:
  """The sources that this machine has.

  Args:
    given: sources in place of all.
    now: a monotonic clock, in seconds.

  Attributes:
    absent: name of a source that is not there, to the reason.
    costs: name of a source, to (readings, seconds they took).
    dropped: names of sources that were too slow.
    left_out: pids of processes that are not the job's, though it started them.
  """

  def __init__(
    self, given: Sequence[Source] | None = None, now: Callable[[], float] = time.monotonic
  ) -> None:
    self._now = now
    self._slow: dict[str, int] = {}
    self._sources: list[Source] = []
    self._due: dict[str, float] = {}
    self.absent: dict[str, str] = {}
    self.costs: dict[str, tuple[int, float]] = {}
    self.dropped: list[str] = []
    self.left_out: list[int] = []
    for source in given if given is not None else sources():
      available, reason = source.probe()
      if available:
        self._sources.append(source)
      else:
        self.absent[source.NAME] = reason
        _log.debug('No %s columns: %s.', source.NAME, reason)

  def read(self) -> dict[str, Any]:
    """The columns of all sources, now."""
    columns: dict[str, Any] = {}
    for source in list(self._sources):
      columns.update(self._read(source))
    return columns

  def read_due(self) -> dict[str, Any]:
    """The columns of the sources whose turn it is."""
    columns: dict[str, Any] = {}
    for source in list(self._sources):
      now = self._now()
      if now >= self._due.get(source.NAME, 0.0):
        # A hair early counts as on time, or a source of one second is read every second tick.
        self._due[source.NAME] = now + 0.9 * getattr(source, 'EVERY_SEC', 0.0)
        found = self._read(source)
        columns.update({n: v for n, v in found.items() if not n.endswith(_DERIVED)})
    return columns

  def leave_out(self, pid: int) -> None:
    """Counts a process and its children no longer as the job's."""
    self.left_out.append(pid)
    for source in self._sources:
      if isinstance(source, ProcessTree):
        source.leave_out(pid)

  def devices(self) -> list[Device]:
    """Everything that tells its power or energy."""
    meters = [s for s in self._sources if hasattr(s, 'devices')]
    return [device for meter in meters for device in meter.devices()]  # type: ignore[attr-defined]

  def counters(self) -> dict[str, float]:
    """Joules counted by each device that counts, from any beginning."""
    found: dict[str, float] = {}
    for source in self._sources:
      if hasattr(source, 'counters'):
        found.update(source.counters())  # type: ignore[attr-defined]
    return found

  def describe(self) -> Mapping[str, Any]:
    """Facts for metadata.json: gpu_model_name, gpu_count, gpu_driver where there is a GPU."""
    facts: dict[str, Any] = {}
    for source in self._sources:
      if hasattr(source, 'describe'):
        facts.update(source.describe())  # type: ignore[attr-defined]
    return facts

  def _read(self, source: Source) -> dict[str, Any]:
    start = time.perf_counter()
    columns = source.read()
    seconds = time.perf_counter() - start
    count, spent = self.costs.get(source.NAME, (0, 0.0))
    self.costs[source.NAME] = count + 1, spent + seconds
    self._slow[source.NAME] = self._slow.get(source.NAME, 0) + 1 if seconds > BUDGET_SEC else 0
    if self._slow[source.NAME] == 2:
      self._sources.remove(source)
      self.dropped.append(source.NAME)
      _log.warning('Reading %s took %.2f s; its columns end here.', source.NAME, seconds)
    return columns


class _Instead:
  """A source that is used only where another is not there; that one is probed before."""

  def __init__(self, source: NvidiaSmi, other: Nvidia) -> None:
    self._source, self._other = source, other
    self.NAME, self.EVERY_SEC = source.NAME, source.EVERY_SEC
    self.read, self.describe = source.read, source.describe
    self.devices, self.counters = source.devices, source.counters

  def probe(self) -> tuple[bool, str]:
    if self._other.chosen():
      return False, f'{self._other.NAME} is read another way'
    return self._source.probe()


def boot_id() -> str:
  """This boot of the machine: two monotonic clocks of one boot agree. Empty where not known."""
  try:
    return Path('/proc/sys/kernel/random/boot_id').read_text(encoding='ascii').strip()
  except OSError:
    return ''


def clock_pair() -> dict[str, float]:
  """The same moment by the monotonic clock and by the system's."""
  return {'monotonic_sec': time.monotonic(), 'time': time.time()}
