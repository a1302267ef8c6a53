"""This file reads what a container may use and what it does use: Linux control groups, 1 and 2.

The limits of every group from the process's own up to the mount's root count, the tightest wins
(Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst of the kernel).
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Reading = dict[str, Any]

_LIMITS_EVERY_SEC = 30.0  # they change seldom, and reading them all takes a millisecond
_NO_LIMIT = 1 << 60  # version 1 writes a huge number where there is none


class _Group(NamedTuple):
  """A controller's folder for this process, where it is mounted, and what the kernel calls it."""

  path: Path
  mount: Path
  version: int
  name: str

  def upwards(self) -> list[Path]:
    """The group and those it lies in, as far as they are seen."""
    above = [p for p in self.path.parents if p == self.mount or self.mount in p.parents]
    return [self.path, *above] if self.path != self.mount else [self.path]


class Cgroup:
  """The control group of a process.

  Args:
    pid: whose; this process's by default.
    root: where /proc is found, for tests.
  """

  NAME = 'control group'
  EVERY_SEC = 1.0

  def __init__(self, pid: int | None = None, root: Path = Path('/')) -> None:
    self._pid = 'self' if pid is None else str(pid)
    self._root = root
    self._groups: dict[str, _Group] = {}
    self._limits: Reading = {}
    self._memory_files: tuple[Path, str, Path] | None = None
    self._due = 0.0
    self._last_cpu: tuple[float, float] | None = None

  def probe(self) -> tuple[bool, str]:
    """Whether the process is in a control group whose files can be read."""
    try:
      self._groups = self._find()
    except (OSError, ValueError) as error:
      return False, f'no control groups: {error}'
    return bool(self.read()), 'its control group has neither limits nor accounts'

  def read(self) -> Reading:
    """Limits and use; what a kernel does not count is left out."""
    now = time.monotonic()
    if now >= self._due:
      self._limits, self._due = self._read_limits(), now + _LIMITS_EVERY_SEC
      self._memory_files = self._find_memory_files()
    return {**self._limits, **self._memory(), **self._cpu(now)}

  def _find(self) -> dict[str, _Group]:
    mounts = self._mounts()
    groups: dict[str, _Group] = {}
    text = (self._root / 'proc' / self._pid / 'cgroup').read_text(encoding='utf-8')
    for line in text.splitlines():
      _, names, path = line.split(':', 2)
      for name in names.split(',') if names else ['']:
        if name in mounts and name in ('', 'memory', 'cpu', 'cpuacct'):
          inside, mount = mounts[name]
          # In a container the mount may show a part of the tree only.
          below = os.path.relpath(path, inside) if _is_in(path, inside) else '.'
          groups[name] = _Group((mount / below).resolve(), mount.resolve(), 1 if name else 2, path)
    return groups

  def _mounts(self) -> dict[str, tuple[str, Path]]:
    """Controller ('' for version 2) to (the group mounted, where)."""
    found: dict[str, tuple[str, Path]] = {}
    text = (self._root / 'proc' / self._pid / 'mountinfo').read_text(encoding='utf-8')
    for line in text.splitlines():
      left, _, right = line.partition(' - ')
      fields, (kind, _, options) = left.split(), right.split(maxsplit=2)
      place = (fields[3], self._root / fields[4].lstrip('/'))
      if kind == 'cgroup2':
        found.setdefault('', place)
      elif kind == 'cgroup':
        for option in options.split(','):
          found.setdefault(option, place)
    return found

  def _group(self, controller: str, file: str) -> _Group | None:
    """The group that has the controller's file; on mixed systems version 1 may be the one."""
    for name in ('', controller):
      group = self._groups.get(name)
      if group is not None and any((path / file).exists() for path in group.upwards()):
        return group
    return None

  def _read_limits(self) -> Reading:
    limits: Reading = {}
    for file in ('memory.max', 'memory.limit_in_bytes'):
      group = self._group('memory', file)
      values = _each(group, file, _bytes_limit)
      if values:
        limits['cgroup.mem.limit_bytes'] = int(min(values))
        break
    group = self._group('cpu', 'cpu.max')
    shares = _each(group, 'cpu.max', _cores_of_version_2)
    group = self._groups.get('cpu')
    if group is not None:
      shares += [cores for path in group.upwards() if (cores := _cores_of_version_1(path))]
    if shares:
      limits['cgroup.cpu.limit_cores'] = min(shares)
    return limits

  def _find_memory_files(self) -> tuple[Path, str, Path] | None:
    """(use, name of the inactive cache in memory.stat, kills); None where memory is not counted."""
    for used, inactive, kills in (
      ('memory.current', 'inactive_file', 'memory.events'),
      ('memory.usage_in_bytes', 'total_inactive_file', 'memory.oom_control'),
    ):
      group = self._group('memory', used)
      if group is not None and (group.path / used).exists():
        return group.path / used, inactive, group.path / kills
    return None

  def _memory(self) -> Reading:
    if self._memory_files is None:
      return {}
    used, inactive, kills = self._memory_files
    reading: Reading = {}
    number = _number(used)
    if number is not None:
      reading['cgroup.mem.used_bytes'] = int(number)
      idle = _keyed(used.with_name('memory.stat')).get(inactive)
      if idle is not None:  # what is left when the kernel has dropped what it can from its cache
        reading['cgroup.mem.working_set_bytes'] = max(0, int(number - idle))
    killed = _keyed(kills).get('oom_kill')
    if killed is not None:
      reading['cgroup.mem.oom_kills'] = int(killed)
    return reading

  def _cpu(self, now: float) -> Reading:
    spent, throttled = self._cpu_seconds()
    if spent is None:
      return {}
    reading: Reading = {'cgroup.cpu.sec': spent}
    if throttled is not None:
      reading['cgroup.cpu.throttled_sec'] = throttled
    if self._last_cpu is not None and now > self._last_cpu[0]:
      share = (spent - self._last_cpu[1]) / (now - self._last_cpu[0])
      reading['cgroup.cpu.cores_used_since_last'] = round(share, 4)
    self._last_cpu = now, spent
    return reading

  def _cpu_seconds(self) -> tuple[float | None, float | None]:
    group = self._groups.get('')
    stat = _keyed(group.path / 'cpu.stat') if group is not None else {}
    if 'usage_usec' in stat:
      throttled = stat.get('throttled_usec')
      return stat['usage_usec'] / 1e6, None if throttled is None else throttled / 1e6
    accounts, quota = self._groups.get('cpuacct'), self._groups.get('cpu')
    others = [self._groups[name] for name in ('cpu', 'memory') if name in self._groups]
    if accounts is not None and any(group.name != accounts.name for group in others):
      accounts = None  # its processor time is counted with that of others
    spent = None if accounts is None else _number(accounts.path / 'cpuacct.usage')
    waited = None if quota is None else _keyed(quota.path / 'cpu.stat').get('throttled_time')
    return None if spent is None else spent / 1e9, None if waited is None else waited / 1e9


def _is_in(path: str, folder: str) -> bool:
  return path == folder or path.startswith(folder.rstrip('/') + '/')


def _each(group: _Group | None, file: str, parse: Callable[[str], float | None]) -> list[float]:
  if group is None:
    return []
  texts = [_text(path / file) for path in group.upwards()]
  return [value for text in texts if text and (value := parse(text)) is not None]


def _bytes_limit(text: str) -> float | None:
  return float(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def _cores_of_version_2(text: str) -> float | None:
  quota, _, period = text.partition(' ')
  return None if quota == 'max' else int(quota) / int(period or 100_000)


def _cores_of_version_1(path: Path) -> float | None:
  quota, period = _number(path / 'cpu.cfs_quota_us'), _number(path / 'cpu.cfs_period_us')
  return quota / period if quota is not None and quota > 0 and period else None


def _text(path: Path) -> str:
  try:
    return path.read_text(encoding='ascii').strip()
  except OSError:
    return ''  # not counted here, or the group has gone


def _number(path: Path) -> float | None:
  text = _text(path)
  return float(text) if text.lstrip('-').isdigit() else None


def _keyed(path: Path) -> dict[str, float]:
  pairs = (line.split() for line in _text(path).splitlines())
  return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
