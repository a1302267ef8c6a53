"""This file adds up what a process and its descendants use."""

from typing import Any

import psutil

Reading = dict[str, Any]


class ProcessTree:
  """A process and all that it started, by psutil.

  Args:
    pid: of the process; this one's by default.
    without: pids that are not the job's, such as the sampler's own.
  """

  NAME = 'processes of the job'
  EVERY_SEC = 1.0

  def __init__(self, pid: int | None = None, without: tuple[int, ...] = ()) -> None:
    self._pid = pid
    self._without = frozenset(without)
    self._gone_cpu_sec = 0.0
    self._cpu_sec: dict[tuple[int, float], float] = {}

  def probe(self) -> tuple[bool, str]:
    """Whether it can be read here."""
    return bool(self.read()), 'its processes cannot be read'

  def read(self) -> Reading:
    """Sums over the tree; processes that end while they are read count as far as they came."""
    try:
      root = psutil.Process(self._pid)
      tree = [root, *root.children(recursive=True)]
    except (psutil.Error, OSError):
      return {}
    reading: Reading = {'proc.count': 0, 'proc.rss_bytes': 0, 'proc.threads': 0}
    disk: list[tuple[int, int]] = []
    seen: dict[tuple[int, float], float] = {}
    for process in tree:
      if process.pid in self._without:
        continue
      try:
        with process.oneshot():
          key = process.pid, process.create_time()  # a pid may be given again
          spent = process.cpu_times()
          seen[key] = spent.user + spent.system
          reading['proc.rss_bytes'] += process.memory_info().rss
          reading['proc.threads'] += process.num_threads()
        reading['proc.count'] += 1
        counters = process.io_counters()
        disk.append((counters.read_bytes, counters.write_bytes))
      except (psutil.Error, OSError, AttributeError):
        continue  # it has ended, belongs to somebody else, or this system has no such counter
    gone = self._cpu_sec.keys() - seen.keys()
    self._gone_cpu_sec += sum(self._cpu_sec[key] for key in gone)
    self._cpu_sec = seen
    reading['proc.cpu.sec'] = round(sum(seen.values()) + self._gone_cpu_sec, 3)
    if disk:
      reading['proc.disk.read_bytes'] = sum(pair[0] for pair in disk)
      reading['proc.disk.write_bytes'] = sum(pair[1] for pair in disk)
    return reading
