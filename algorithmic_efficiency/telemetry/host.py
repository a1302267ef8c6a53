"""This file reads the host by psutil: processor, memory, disks, network, temperatures.

Each reader is a source of its own, so that a slow or absent one costs only its own columns.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

Reading = dict[str, Any]

SECTOR_BYTES = 512  # of /proc/diskstats, whatever the disk's own sectors are


class Reader:
  """A function of psutil as a source; what the machine does not have is left out."""

  def __init__(self, name: str, read: Callable[[], Reading], every_sec: float = 0.0) -> None:
    self.NAME = name
    self.EVERY_SEC = every_sec
    self._read = read

  def probe(self) -> tuple[bool, str]:
    """Whether psutil can read it here."""
    try:
      return bool(self._read()), 'psutil reports nothing'
    except (OSError, RuntimeError, AttributeError, ValueError, psutil.Error) as error:
      return False, f'psutil: {error}'

  def read(self) -> Reading:
    """The columns; empty if the sensor has gone."""
    try:
      return self._read()
    except (OSError, RuntimeError, AttributeError, ValueError, psutil.Error):
      return {}  # a sensor that vanished; the columns stay empty in this row


class Seldom:
  """A reading that is slow to get and slow to change: taken again only after a while.

  On a machine with hundreds of CPUs their clocks alone can take longer than a small network's
  evaluation (psutil issues 1933 and 1936).
  """

  def __init__(self, read: Callable[[], Reading], every_sec: float = 1.0) -> None:
    self._read = read
    self._every_sec = every_sec
    self._last: Reading = {}
    self._due = 0.0

  def __call__(self) -> Reading:
    now = time.monotonic()
    if now >= self._due:
      self._last = self._read()
      self._due = now + self._every_sec
    return self._last


class Host:
  """The readers of the host."""

  @staticmethod
  def parts() -> list[Reader]:
    """One source per kind of reading."""
    return [
      Reader('cpu utilisation', CpuUtilisation(), 1.0),
      Reader('cpu clock', Seldom(_cpu_clock), 10.0),
      Reader('temperatures', Seldom(_temperatures), 10.0),
      Reader('memory', _memory, 1.0),
      Reader('disks', _disks, 1.0),
      Reader('network', _network, 1.0),
    ]


class CpuUtilisation:
  """Busy share since the last reading, from its own baseline.

  psutil.cpu_percent keeps one baseline per process, which any other caller would reset.
  """

  def __init__(self) -> None:
    self._last = psutil.cpu_times()

  def __call__(self) -> Reading:
    now, last = psutil.cpu_times(), self._last
    self._last = now
    # Guest time is part of user time already; counting it twice would exceed 100 %.
    parts = [name for name in now._fields if not name.startswith('guest')]
    spent = {name: max(0.0, getattr(now, name) - getattr(last, name)) for name in parts}
    total = sum(spent.values())
    idle = spent['idle'] + spent.get('iowait', 0.0)
    busy = 100.0 * (total - idle) / total if total else 0.0
    return {'cpu.util.avg_percent_since_last': round(busy, 2)}


def fresh_cpu_clock() -> Reader:
  """The clock of the processors at the very moment, however long that takes."""
  return Reader('cpu clock', _cpu_clock)


def _cpu_clock() -> Reading:
  clock = psutil.cpu_freq()
  return {'cpu.freq.current': clock.current} if clock else {}


def _temperatures() -> Reading:
  chips = psutil.sensors_temperatures()
  return {f'temp.{chip}.current': max(s.current for s in c) for chip, c in chips.items() if c}


def _memory() -> Reading:
  memory = psutil.virtual_memory()
  return {
    'mem.total': memory.total,
    'mem.available': memory.available,
    'mem.used': memory.used,
    'mem.percent_used': memory.percent,
  }


def _disks() -> Reading:
  """As psutil.disk_io_counters sums them, in half its time where /proc can be read."""
  try:
    lines = Path('/proc/diskstats').read_text(encoding='ascii').splitlines()
    # Names alone; partitions are counted with their disk.
    whole = set(os.listdir('/sys/block'))  # noqa: PTH208 - iterdir takes four times as long
  except OSError:
    disks = psutil.disk_io_counters(nowrap=False)
    if disks is None:  # a container or VM without disk statistics
      return {}
    return _disk_columns(disks.read_bytes, disks.write_bytes)
  fields = [line.split() for line in lines]
  disks = [f for f in fields if f[2].replace('/', '!') in whole]
  if not disks:
    return {}
  read, written = (sum(int(f[place]) for f in disks) for place in (5, 9))
  return _disk_columns(read * SECTOR_BYTES, written * SECTOR_BYTES)


def _disk_columns(read_bytes: int, written_bytes: int) -> Reading:
  return {
    'mem.read_bytes_since_boot': read_bytes,
    'mem.write_bytes_since_boot': written_bytes,
  }


def _network() -> Reading:
  net = psutil.net_io_counters(nowrap=False)
  if net is None:
    return {}
  return {
    'net.bytes_sent_since_boot': net.bytes_sent,
    'net.bytes_recv_since_boot': net.bytes_recv,
  }
