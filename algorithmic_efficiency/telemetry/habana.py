"""This file reads Gaudi accelerators by HLML (package habana-pyhlml, module `pyhlml`)."""

import contextlib
import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.telemetry.devices import Device, habana_visible

MIB = 1024 * 1024
LIBRARY = Path('/usr/lib/habanalabs/libhlml.so')  # where habana-pyhlml looks for it

# Gaudi 1's driver computes utilisation from the power (kernel change cd5def802063): the share of
# the way from 60 W to 350 W. It says nothing that the power does not say.
_GAUDI_1 = ('HL-200', 'HL-205')


class Habana:
  """All Gaudis the driver knows; their columns carry the module id, which a reboot keeps.

  Args:
    only: names of the devices to read, such as 'hpu.3'; all by default.
    environ: where HABANA_VISIBLE_MODULES is looked up.
    library: libhlml.
  """

  NAME = 'Habana Gaudi'
  EVERY_SEC = 0.0

  def __init__(
    self,
    only: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    library: Path = LIBRARY,
  ) -> None:
    self._only = only
    self._environ = environ
    self._library = library
    self._hlml: Any = None
    self._error: type[Exception] = Exception
    self._handles: dict[int, Any] = {}  # by module id

  def probe(self) -> tuple[bool, str]:
    """Whether HLML can be had and sees a device."""
    if importlib.util.find_spec('pyhlml') is None:
      return False, 'habana-pyhlml is not installed'
    if not self._library.exists():
      return False, f'there is no {self._library}'
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
      warnings.simplefilter('ignore', DeprecationWarning)  # of its own import
      from pyhlml import hlml_error, main  # pyright: ignore[reportMissingImports]

      self._hlml, self._error = main, hlml_error.HLMLError
      try:
        main.hlmlInit()
        count = main.hlmlDeviceGetCount()
      except self._error as error:
        return False, f'HLML: {error}'
    for index in range(count):
      handle = self._ask(main.hlmlDeviceGetHandleByIndex, index)
      module = None if handle is None else self._ask(main.hlmlDeviceGetModuleID, handle)
      if handle is not None:
        self._handles[index if module is None else module] = handle
    return bool(self._handles), 'HLML sees no device'

  def read(self) -> dict[str, Any]:
    """hpu.count and the columns of each device."""
    columns: dict[str, Any] = {'hpu.count': len(self._handles)}
    for device, handle in self._chosen():
      for name, value in self._read_one(handle).items():
        columns[f'{device}.{name}'] = value
    return columns

  def devices(self) -> list[Device]:
    """Every Gaudi; those of HABANA_VISIBLE_MODULES are the job's."""
    visible = habana_visible(list(self._handles), self._environ)
    found: list[Device] = []
    for place, (module, handle) in enumerate(self._handles.items()):
      model = _text(self._ask(self._hlml.hlmlDeviceGetName, handle))
      uuid = _text(self._ask(self._hlml.hlmlDeviceGetUUID, handle))
      facts: dict[str, Any] = {'module_id': module}
      if model.startswith(_GAUDI_1):
        facts['compute_util_source'] = 'derived from power'
      found.append(Device(f'hpu.{module}', uuid, model, place in visible, facts))
    return found

  def counters(self) -> dict[str, float]:
    """Joules since the driver was loaded, by device."""
    query = self._hlml.hlmlDeviceGetTotalEnergyConsumption
    joules = {device: self._ask(query, handle) for device, handle in self._chosen()}
    return {name: value / 1000 for name, value in joules.items() if value is not None}

  def describe(self) -> dict[str, Any]:
    """Facts for metadata.json."""
    first = next(iter(self._handles.values()))
    facts = {
      'hpu_model_name': _text(self._ask(self._hlml.hlmlDeviceGetName, first)) or None,
      'hpu_count': len(self._handles),
      'hpu_driver': _text(self._ask(self._hlml.hlmlGetDriverVersion)) or None,
    }
    return {key: value for key, value in facts.items() if value is not None}

  def _chosen(self) -> list[tuple[str, Any]]:
    named = [(f'hpu.{module}', handle) for module, handle in self._handles.items()]
    return [pair for pair in named if self._only is None or pair[0] in self._only]

  def _read_one(self, handle: Any) -> dict[str, float]:
    hlml, reading = self._hlml, dict[str, float]()
    rates = self._ask(hlml.hlmlDeviceGetUtilizationRates, handle)
    memory = self._ask(hlml.hlmlDeviceGetMemoryInfo, handle)
    milliwatts = self._ask(hlml.hlmlDeviceGetPowerUsage, handle)
    millijoules = self._ask(hlml.hlmlDeviceGetTotalEnergyConsumption, handle)
    celsius = self._ask(hlml.hlmlDeviceGetTemperature, handle, 0)  # on the chip
    megahertz = self._ask(hlml.hlmlDeviceGetClockInfo, handle, 0)  # of the whole chip
    if rates is not None:
      reading['compute.util'] = rates.aip / 100
    if memory is not None and memory.total:
      reading['mem.util'] = memory.used / memory.total
      reading['mem.total'] = memory.total / MIB
      reading['mem.used'] = memory.used / MIB
      reading['mem.free'] = memory.free / MIB
    if celsius is not None:
      reading['temp.current'] = float(celsius)
    if megahertz is not None:
      reading['clock.soc'] = megahertz
    if milliwatts is not None:
      reading['power.watts'] = milliwatts / 1000
    if millijoules is not None:
      reading['energy.joules_since_load'] = millijoules / 1000
    return reading

  def _ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this device or this version of the library gives none."""
    try:
      return query(*arguments)
    except self._error:
      return None


def _text(value: Any) -> str:
  return value.decode(errors='replace') if isinstance(value, bytes) else str(value or '')
