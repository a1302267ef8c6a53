"""This file asks every source of this machine for a row's hardware columns.

A source has a `NAME`, `probe() -> (available, reason)` and `read() -> dict` of columns. It never
raises: what it cannot read is left out of the row.
"""

import logging
import time
from collections.abc import Mapping
from typing import Any, Protocol

from algorithmic_efficiency.telemetry.host import Host
from algorithmic_efficiency.telemetry.nvidia import Nvidia

_log = logging.getLogger(__name__)

# A source slower than this, twice in a row, is dropped: reading the clocks of 256 CPUs can take
# five seconds (psutil issue 1933), and no measurement may cost more than what it measures.
BUDGET_SEC = 0.25


class Source(Protocol):
  """One way to read hardware."""

  NAME: str

  def probe(self) -> tuple[bool, str]:
    """Whether it can be read here, and if not, why."""
    ...

  def read(self) -> dict[str, Any]:
    """Columns and their values now; units as in records/columns.py."""
    ...


class Telemetry:
  """The sources that this machine has."""

  def __init__(self, sources: list[Source] | None = None) -> None:
    self._slow: dict[str, int] = {}
    self._sources: list[Source] = []
    for source in sources if sources is not None else [*Host.parts(), Nvidia()]:
      available, reason = source.probe()
      if available:
        self._sources.append(source)
      else:
        _log.debug('No %s columns: %s.', source.NAME, reason)

  def read(self) -> dict[str, Any]:
    """The hardware columns of a row, now."""
    columns: dict[str, Any] = {}
    for source in list(self._sources):
      start = time.perf_counter()
      columns.update(source.read())
      self._account(source, time.perf_counter() - start)
    return columns

  def describe(self) -> Mapping[str, Any]:
    """Facts for metadata.json: gpu_model_name, gpu_count, gpu_driver where there is a GPU."""
    for source in self._sources:
      if isinstance(source, Nvidia):
        return source.describe()
    return {}

  def _account(self, source: Source, seconds: float) -> None:
    self._slow[source.NAME] = self._slow.get(source.NAME, 0) + 1 if seconds > BUDGET_SEC else 0
    if self._slow[source.NAME] == 2:
      self._sources.remove(source)
      _log.warning('Reading %s took %.2f s; its columns end here.', source.NAME, seconds)
