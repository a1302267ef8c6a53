"""This file adds up what a process and its descendants use.

On Linux from /proc itself: psutil looks at every process of the machine to find the children of
one, which on a busy server takes longer than all other sources together.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil

Reading = dict[str, Any]


class Usage(NamedTuple):
  """What one process uses; bytes and seconds."""

  started: float  # a pid may be given again
  cpu_sec: float
  rss_bytes: int
  threads: int
  disk_bytes: tuple[int, int] | None


class ProcessTree:
  """A process and all that it started.

  Args:
    pid: of the process; this one's by default.
    without: pids that are not the job's, such as the sampler's own.
  """

  NAME = 'processes of the job'
  EVERY_SEC = 1.0

  def __init__(self, pid: int | None = None, without: tuple[int, ...] = ()) -> None:
    self._pid = os.getpid() if pid is None else pid
    self._without = frozenset(without)
    self._gone_cpu_sec = 0.0
    self._cpu_sec: dict[tuple[int, float], float] = {}
    linux = Path(f'/proc/{self._pid}/task/{self._pid}/children').exists()
    self._usage: Callable[[int], Usage | None] = _usage_by_proc if linux else _usage_by_psutil
    self._children: Callable[[int], list[int]] = _children_by_proc if linux else _children_by_psutil

  def leave_out(self, pid: int) -> None:
    """Counts a process and its children no longer."""
    self._without |= {pid}

  def probe(self) -> tuple[bool, str]:
    """Whether it can be read here."""
    return bool(self.read()), 'its processes cannot be read'

  def read(self) -> Reading:
    """Sums over the tree; processes that end while they are read count as far as they came."""
    seen: dict[tuple[int, float], float] = {}
    found: list[Usage] = []
    waiting = [self._pid]
    while waiting:
      pid = waiting.pop()
      usage = None if pid in self._without else self._usage(pid)
      if usage is None:
        continue
      found.append(usage)
      seen[pid, usage.started] = usage.cpu_sec
      waiting += self._children(pid)
    if not found:
      return {}
    gone = self._cpu_sec.keys() - seen.keys()
    self._gone_cpu_sec += sum(self._cpu_sec[key] for key in gone)
    self._cpu_sec = seen
    disk = [usage.disk_bytes for usage in found if usage.disk_bytes is not None]
    reading: Reading = {
      'proc.count': len(found),
      'proc.rss_bytes': sum(usage.rss_bytes for usage in found),
      'proc.threads': sum(usage.threads for usage in found),
      'proc.cpu.sec': round(sum(seen.values()) + self._gone_cpu_sec, 3),
    }
    if disk:
      reading['proc.disk.read_bytes'] = sum(pair[0] for pair in disk)
      reading['proc.disk.write_bytes'] = sum(pair[1] for pair in disk)
    return reading


_TICK_SEC = 1 / os.sysconf('SC_CLK_TCK')
_PAGE_BYTES = os.sysconf('SC_PAGE_SIZE')


def _usage_by_proc(pid: int) -> Usage | None:
  """From /proc/<pid>/stat and io (proc(5)); None if it has ended."""
  try:
    with open(f'/proc/{pid}/stat', 'rb', buffering=0) as file:  # noqa: PTH123 - twice as fast
      fields = file.read().rpartition(b')')[2].split()
  except OSError:
    return None
  disk = None
  try:
    with open(f'/proc/{pid}/io', 'rb', buffering=0) as file:  # noqa: PTH123
      counts = dict(line.split(b': ') for line in file.read().splitlines())
    disk = int(counts[b'read_bytes']), int(counts[b'write_bytes'])
  except (OSError, KeyError, ValueError):
    pass  # of somebody else, or a kernel without these counts
  # Field 3 of the manual, the state, is fields[0].
  cpu = (int(fields[11]) + int(fields[12])) * _TICK_SEC
  return Usage(float(fields[19]), cpu, int(fields[21]) * _PAGE_BYTES, int(fields[17]), disk)


def _children_by_proc(pid: int) -> list[int]:
  children: list[int] = []
  try:
    for task in os.listdir(f'/proc/{pid}/task'):  # noqa: PTH208 - names alone
      with open(f'/proc/{pid}/task/{task}/children', 'rb', buffering=0) as file:  # noqa: PTH123
        children += map(int, file.read().split())
  except OSError:
    pass  # a thread or the process has ended; its children have another parent now
  return children


def _usage_by_psutil(pid: int) -> Usage | None:
  try:
    process = psutil.Process(pid)
    with process.oneshot():
      spent = process.cpu_times()
      disk = None
      try:
        counters = process.io_counters()
        disk = counters.read_bytes, counters.write_bytes
      except (psutil.Error, AttributeError):
        pass  # this system has no such counter
      rss: int = process.memory_info().rss
      cpu = spent.user + spent.system
      return Usage(process.create_time(), cpu, rss, process.num_threads(), disk)
  except (psutil.Error, OSError):
    return None


def _children_by_psutil(pid: int) -> list[int]:
  try:
    return [child.pid for child in psutil.Process(pid).children()]
  except (psutil.Error, OSError):
    return []
