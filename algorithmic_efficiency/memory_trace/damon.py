"""This file sees which regions a process touches, by Linux's DAMON, without stopping it; root only.

Source: the kernel's mm/damon/design and admin-guide/mm/damon/usage. DAMON looks at one page of each
region every 5 ms, and splits and joins regions so that each is touched evenly; a region is found
after some windows, and its size is an estimate. It runs in the kernel as one thread for one use:
where anybody else has one this backend refuses, and it takes away only what it has made.

If the tracer is killed by SIGKILL, the kernel's thread ends with the traced process, and what is
left is an entry without a thread, which root takes away by writing `off` to
/sys/kernel/mm/damon/admin/kdamonds/0/state and then 0 to .../kdamonds/nr_kdamonds.
"""

import atexit
import errno
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace.backends import (
  NO_UNITS,
  REGION,
  Capabilities,
  Extent,
  Touched,
)
from algorithmic_efficiency.memory_trace.filters import Filter, keeps
from algorithmic_efficiency.memory_trace.mappings import PAGE_BYTES
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.smaps import parse_smaps

_SAMPLING_US = 5000
_REGIONS = (10, 1000)  # fewest, most: the kernel's own
_MODULES = ('damon_reclaim', 'damon_lru_sort', 'damon_stat')  # other users, within the kernel
_ALL = 2**64 - 1
_ALL_INT = 2**32 - 1
_BUSY_TRIES, _BUSY_SEC = 50, 0.02
# A request is answered at the end of the aggregation that runs, after the kernel has looked at it,
# which it does every 100 ms; twice that if no region was touched.
_SPARE_SEC = 5.0


class Backend:
  """DAMON. `sample_sec` is the length of a window, `root` where sysfs is.

  Raises UsageError if the window is shorter than two of DAMON's looks at a page.
  """

  CAPABILITIES = Capabilities(
    granularity=REGION,
    reads=True,
    writes=True,
    root=True,
    pauses=False,
    perturbs='the accessed bits of some of its pages are cleared every 5 ms',
  )
  unit_bytes = PAGE_BYTES

  def __init__(self, sample_sec: float = 0.2, root: Path = Path('/sys')) -> None:
    if sample_sec * 1e6 < 2 * _SAMPLING_US:
      raise UsageError(
        f'DAMON looks at a page every {_SAMPLING_US / 1000:g} ms, so a window of {sample_sec:g} s '
        f'is too short; take {2 * _SAMPLING_US / 1e6:g} s at least.'
      )
    self._sample_sec = sample_sec
    self._root = root
    self._admin = root / 'kernel/mm/damon/admin/kdamonds'
    self._watch: Watch | None = None

  def probe(self) -> str:
    """Why it cannot be used here, with what would enable it; '' if it can."""
    number = self._admin / 'nr_kdamonds'
    try:
      count = int(_read(number))
    except FileNotFoundError:
      return (
        f'this kernel has no {number} since it is built without CONFIG_DAMON_SYSFS; run one that '
        "has it, such as Debian 13's, or take another backend"
      )
    except PermissionError:
      return f'{number} is open to root only; trace as root'
    if count > 0:
      return self._in_use(count)
    for module in _MODULES:
      if self._is_enabled(module):
        return (
          f'DAMON is in use by the kernel module {module}; it would have to be ended by writing N '
          f'to /sys/module/{module}/parameters/enabled'
        )
    if not os.access(number, os.W_OK):
      return f'{number} may be written by root only; trace as root'
    return ''

  def watch(self, process: Process, keeps: Sequence[Filter]) -> 'Watch':
    """Begins to watch a process, one at a time. Raises UsageError where it cannot be used."""
    if self._watch is not None and not self._watch.is_closed:
      raise UsageError(
        f'damon watches one process at a time, so process {process.pid} cannot be added; trace '
        'without its children, or by another backend.'
      )
    if reason := self.probe():
      raise UsageError(f'damon is not available: {reason}.')
    self._watch = Watch(process, keeps, self._admin, self._sample_sec)
    return self._watch

  def _in_use(self, count: int) -> str:
    try:
      states = [_read(self._admin / str(each) / 'state') for each in range(count)]
    except OSError:  # they change as we look
      states = ['on']
    running = 'on' in states
    hint = '' if running else f', none of which runs: root may write 0 to {self._admin}/nr_kdamonds'
    return f'DAMON is in use by somebody else ({count} kdamonds{hint})'

  def _is_enabled(self, module: str) -> bool:
    try:
      return _read(self._root / 'module' / module / 'parameters/enabled') in ('Y', '1')
    except OSError:  # not built, or not ours to read
      return False


class Regions(NamedTuple):
  """What DAMON told of one aggregation interval.

  Attributes:
    number: from 1; 0 before the first.
    rows: (regions, 2) int64, (begin, end) of those that were touched; addresses, ascending.
  """

  number: int
  rows: np.ndarray


class Raw(NamedTuple):
  """What was collected: regions that were touched, and /proc/PID/smaps."""

  regions: Regions
  smaps: bytes


class Watch:
  """DAMON at work on one process; a thread asks it for what it saw, interval after interval.

  Attributes:
    is_closed: whether DAMON is free again, or soon.
  """

  def __init__(
    self, process: Process, keeps: Sequence[Filter], admin: Path, sample_sec: float
  ) -> None:
    self._process = process
    self._keeps = keeps
    self._admin = admin
    self._kdamond = admin / '0'
    self._sample_sec = sample_sec
    self._changed = threading.Condition()
    self._newest = Regions(0, np.empty((0, 2), np.int64))
    self._collected = 0
    self._fault: OSError | None = None
    self.is_closed = False
    is_ours = False
    try:
      _write(admin / 'nr_kdamonds', 1)
      is_ours = True
      self._set_up()
      _write(self._kdamond / 'state', 'on')
    except OSError as error:
      self.is_closed = True
      if is_ours:
        self._take_away()
      raise MeasurementError(
        f'DAMON refuses process {process.pid} ({error.strerror}, {error.filename}).'
      ) from error
    atexit.register(self.close)
    self._thread = threading.Thread(target=self._ask, name='damon', daemon=True)
    self._thread.start()

  def reset(self) -> None:
    """Nothing: DAMON begins its next interval by itself."""

  def collect(self) -> Raw:
    """The regions of the last whole interval that ended since the last call; waits for one.

    The process must run. Raises MeasurementError if DAMON has stopped.
    """
    limit = 2 * self._sample_sec + _SPARE_SEC
    with self._changed:
      self._changed.wait_for(lambda: self._newest.number > self._collected or self._fault, limit)
      regions = self._newest
    if self._process.has_ended():
      raise ProcessLookupError(self._process.pid)
    if regions.number == self._collected:
      reason = f' ({self._fault.strerror})' if self._fault else ''
      raise MeasurementError(
        f'DAMON told nothing of process {self._process.pid} for {limit:g} s{reason}; look whether '
        'somebody else has stopped it.'
      )
    self._collected = regions.number
    return Raw(regions, self._process.read('smaps'))

  def decode(self, raw: Raw) -> Touched:
    """Makes sense of what was collected: sizes of regions are estimates."""
    usages = parse_smaps(raw.smaps)
    extents: list[Extent] = []
    units: list[tuple[int, int]] = []
    huge = 0
    for usage in usages:
      mapping = usage.mapping
      if not keeps(self._keeps, mapping):
        continue
      begins = np.maximum(raw.regions.rows[:, 0], mapping.begin)
      ends = np.minimum(raw.regions.rows[:, 1], mapping.end)
      within = ends > begins
      pairs = zip(begins[within].tolist(), ends[within].tolist(), strict=True)
      runs = [(begin // PAGE_BYTES, (end - begin) // PAGE_BYTES) for begin, end in pairs]
      units += runs
      touched = sum(count for _, count in runs) * PAGE_BYTES
      extents.append(Extent(mapping, usage.resident, touched))
      huge += usage.huge
    return Touched(
      extents,
      virtual=sum(usage.mapping.size for usage in usages),
      resident=sum(usage.resident for usage in usages),
      units=np.array(units, np.int64) if units else NO_UNITS,
      huge=huge,
    )

  def close(self) -> None:
    """Stops DAMON, and takes away what was made."""
    if self.is_closed:
      return
    self.is_closed = True
    atexit.unregister(self.close)
    self._thread.join()
    self._take_away()

  def _set_up(self) -> None:
    context = self._kdamond / 'contexts/0'
    interval_us = round(self._sample_sec * 1e6)
    _write(self._kdamond / 'contexts/nr_contexts', 1)
    _write(context / 'operations', 'vaddr')
    intervals = context / 'monitoring_attrs/intervals'
    _write(intervals / 'sample_us', _SAMPLING_US)
    _write(intervals / 'aggr_us', interval_us)
    _write(intervals / 'update_us', interval_us)  # looks for new mappings
    for name, value in zip(('min', 'max'), _REGIONS, strict=True):
      _write(context / f'monitoring_attrs/nr_regions/{name}', value)
    _write(context / 'targets/nr_targets', 1)
    _write(context / 'targets/0/pid_target', self._process.pid)
    _write(context / 'schemes/nr_schemes', 1)
    scheme = context / 'schemes/0'
    _write(scheme / 'action', 'stat')  # tells, and does nothing
    # Of any size, age, and number of accesses: those without tell that DAMON did look.
    for name, most in (('sz', _ALL), ('nr_accesses', _ALL_INT), ('age', _ALL_INT)):
      _write(scheme / 'access_pattern' / name / 'max', most)

  def _ask(self) -> None:
    """Asks for the regions of one interval after the other, until it is closed or DAMON ends."""
    folder = self._kdamond / 'contexts/0/schemes/0/tried_regions'
    while not self.is_closed:
      try:
        _write(self._kdamond / 'state', 'update_schemes_tried_regions')
        found = [path for path in folder.iterdir() if path.is_dir()]
        if not found:
          continue  # the kernel gave up before the interval had ended, as it does when it is busy
        touched = [path for path in found if int(_read(path / 'nr_accesses')) > 0]
        rows = [[int(_read(path / name)) for name in ('start', 'end')] for path in touched]
      except OSError as error:
        with self._changed:
          self._fault = error
          self._changed.notify_all()
        return
      rows.sort()
      regions = Regions(self._newest.number + 1, np.array(rows, np.int64).reshape(-1, 2))
      with self._changed:
        self._newest = regions
        self._changed.notify_all()

  def _take_away(self) -> None:
    """Leaves no kdamond of ours; what is another's by now is left alone."""
    state = self._kdamond / 'state'
    try:
      target = self._kdamond / 'contexts/0/targets/0/pid_target'
      if target.exists() and int(_read(target)) not in (0, self._process.pid):
        return
      if _read(state) == 'on':
        _write(state, 'off')
      _write(self._admin / 'nr_kdamonds', 0)
    except FileNotFoundError:
      return  # somebody has taken it away
    except OSError as error:
      raise MeasurementError(
        f'DAMON does not end ({error.strerror}, {error.filename}); as root write off to {state} '
        f'and then 0 to {self._admin}/nr_kdamonds.'
      ) from error


def _read(path: Path) -> str:
  return path.read_text().strip()


def _write(path: Path, value: int | str) -> None:
  """Writes a value in one call. While DAMON is busy with something else, again for a second."""
  for tries in range(_BUSY_TRIES):
    try:
      fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
      try:
        os.write(fd, f'{value}\n'.encode())
      finally:
        os.close(fd)
      return
    except OSError as error:
      if error.errno != errno.EBUSY or tries == _BUSY_TRIES - 1:
        raise OSError(error.errno, error.strerror, str(path)) from error
    time.sleep(_BUSY_SEC)
