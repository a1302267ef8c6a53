"""This file reads the energy of processors: RAPL, as Linux's powercap shows it.

Since CVE-2020-8694 only root may read it; virtual machines have none. The counters wrap around at
`max_energy_range_uj`, within minutes on a busy server.
"""

from pathlib import Path
from typing import Any

from algorithmic_efficiency.telemetry.devices import Device

Reading = dict[str, Any]


class Rapl:
  """The packages of this machine; one device each.

  A package's subdomains (cores, memory on some processors) are parts of it or beside it, depending
  on the processor; only 'dram', which is beside it, is a device of its own.
  """

  NAME = 'RAPL'
  EVERY_SEC = 0.0

  def __init__(self, root: Path = Path('/sys/class/powercap')) -> None:
    self._root = root
    self._files: dict[str, tuple[Path, int]] = {}
    self._raw: dict[str, int] = {}
    self._wrapped: dict[str, int] = {}

  def probe(self) -> tuple[bool, str]:
    """Whether there are packages whose counters may be read."""
    if not self._root.is_dir():
      return False, f'there is no {self._root}'
    problem = 'no package there'
    for folder in sorted(self._root.glob('intel-rapl:*')):
      try:
        domain = (folder / 'name').read_text(encoding='ascii').strip()
        name = _column(domain, folder.name)
        if name is None:
          continue
        limit = int((folder / 'max_energy_range_uj').read_text(encoding='ascii'))
        int((folder / 'energy_uj').read_text(encoding='ascii'))
      except (OSError, ValueError) as error:
        problem = f'{error}'
        continue
      self._files[name] = folder / 'energy_uj', limit
    return bool(self._files), problem

  def devices(self) -> list[Device]:
    """One a package, and one for its memory where that is counted apart."""
    return [Device(name, model='RAPL') for name in self._files]

  def counters(self) -> dict[str, float]:
    """Joules by device; ever growing, from any beginning."""
    found: dict[str, float] = {}
    for name, (path, limit) in self._files.items():
      try:
        raw = int(path.read_text(encoding='ascii'))
      except (OSError, ValueError):
        continue  # hidden meanwhile, or its processor is offline
      if raw < self._raw.get(name, 0):
        self._wrapped[name] = self._wrapped.get(name, 0) + limit
      self._raw[name] = raw
      found[name] = (raw + self._wrapped.get(name, 0)) / 1e6
    return found

  def read(self) -> Reading:
    """The counters as columns."""
    return {f'{name}.energy.joules_since_load': value for name, value in self.counters().items()}


def _column(domain: str, folder: str) -> str | None:
  """'cpu.package.0' of 'package-0'; the folder intel-rapl:1:0 is a part of package 1."""
  package = folder.split(':')[1]
  if domain.startswith('package'):
    return f'cpu.package.{domain.rpartition("-")[2] or package}'
  return f'cpu.dram.{package}' if domain == 'dram' else None
