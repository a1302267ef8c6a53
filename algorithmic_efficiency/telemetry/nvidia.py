"""This file reads NVIDIA GPUs by NVML (package nvidia-ml-py, module `pynvml`).

Only what a record holds is asked for, since every question may wait for the board: no processes,
fans or PCIe counters, which stall other users of the driver.
"""

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.telemetry.devices import Device, cuda_visible

_log = logging.getLogger(__name__)

MIB = 1024 * 1024
_AVERAGED = {  # columns whose mean over the GPUs is a column too
  'compute.util', 'mem.util', 'mem.total', 'mem.used', 'mem.free', 'temp.current', 'power.watts',
}  # fmt: skip


class Nvidia:
  """All GPUs the driver knows, in NVML's order (that of the PCI bus).

  Args:
    only: names of the devices to read, such as 'gpu.0'; all by default.
    environ: where CUDA_VISIBLE_DEVICES is looked up.
    driver_folder: there where a driver is loaded.
  """

  NAME = 'NVIDIA GPU'
  EVERY_SEC = 0.0

  def __init__(
    self,
    only: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    driver_folder: Path = Path('/proc/driver/nvidia'),
  ) -> None:
    self._only = only
    self._environ = environ
    self._driver_folder = driver_folder
    self._nvml: Any = None
    self.handles: list[Any] = []
    self._fields: list[int] = []

  def probe(self) -> tuple[bool, str]:
    """Whether NVML can be had and sees a GPU."""
    if importlib.util.find_spec('pynvml') is None:
      if (self._driver_folder / 'version').exists():
        _log.warning(
          'There is an NVIDIA GPU but no way to read it, so the record has no gpu columns; '
          'pip install "algorithmic-efficiency[telemetry]".'
        )
      return False, 'nvidia-ml-py is not installed'
    import pynvml

    try:
      pynvml.nvmlInit()
      count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
      return False, f'NVML: {error}'
    self._nvml = pynvml
    self._fields = [pynvml.NVML_FI_DEV_POWER_AVERAGE, pynvml.NVML_FI_DEV_POWER_INSTANT]
    # A GPU that has fallen off the bus has no handle; the others are read all the same.
    self.handles = [self.ask(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(count)]
    return any(handle is not None for handle in self.handles), 'NVML sees no GPU'

  def read(self) -> dict[str, Any]:
    """gpu.count, the columns of each GPU, and their means if all GPUs are read."""
    columns: dict[str, Any] = {'gpu.count': len(self.handles)}
    seen: dict[str, list[float]] = {}
    for device, handle in self.chosen():
      for name, value in self._read_one(handle).items():
        columns[f'{device}.{name}'] = value
        if name in _AVERAGED and self._only is None:  # a sampler leaves means to its readers
          seen.setdefault(name, []).append(value)
    for name, values in seen.items():
      columns[f'gpu.avg.{name}'] = sum(values) / len(values)
    return columns

  def devices(self) -> list[Device]:
    """Every GPU; those that CUDA shows to this process are the job's."""
    uuids = [
      str(self.ask(self._nvml.nvmlDeviceGetUUID, h) or '') if h else '' for h in self.handles
    ]
    models = [self._text(self._nvml.nvmlDeviceGetName, h) if h else '' for h in self.handles]
    visible = cuda_visible(uuids, self._environ)
    # By default CUDA counts the fastest GPU first; with one model that is the order of the bus.
    sure = len(set(models)) < 2 or self._environ.get('CUDA_DEVICE_ORDER') == 'PCI_BUS_ID'
    by_index = self._environ.get('CUDA_VISIBLE_DEVICES', '0')[:1].isdigit()
    found: list[Device] = []
    for index, (uuid, model) in enumerate(zip(uuids, models, strict=True)):
      facts: dict[str, Any] = {'cuda_index': visible.index(index) if index in visible else None}
      if not sure and by_index:
        facts['matched'] = 'by index, in the order of the bus; models differ and CUDA may count ' \
          'otherwise (CUDA_DEVICE_ORDER=PCI_BUS_ID makes it sure)'  # fmt: skip
      if self._has_instances(self.handles[index]):
        facts['mig'] = 'its power and energy are those of all its instances'
      found.append(Device(f'gpu.{index}', uuid, model, index in visible, facts))
    return found

  def counters(self) -> dict[str, float]:
    """Joules since the driver was loaded, by device; of Volta and later."""
    ask, query = self.ask, self._nvml.nvmlDeviceGetTotalEnergyConsumption
    joules = {device: ask(query, handle) for device, handle in self.chosen()}
    return {name: value / 1000 for name, value in joules.items() if value is not None}

  def describe(self) -> dict[str, Any]:
    """Facts for metadata.json."""
    first = next(handle for handle in self.handles if handle is not None)
    facts = {
      'gpu_model_name': self._text(self._nvml.nvmlDeviceGetName, first) or None,
      'gpu_count': len(self.handles),
      'gpu_driver': self._text(self._nvml.nvmlSystemGetDriverVersion) or None,
    }
    return {k: v for k, v in facts.items() if v is not None}

  def chosen(self) -> list[tuple[str, Any]]:
    """(name, handle) of the GPUs that are to be read and can be."""
    named = [(f'gpu.{index}', handle) for index, handle in enumerate(self.handles)]
    return [
      (name, handle) for name, handle in named
      if handle is not None and (self._only is None or name in self._only)
    ]  # fmt: skip

  def ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this GPU does not give one (MIG, an old board, a lost device)."""
    try:
      return query(*arguments)
    except self._nvml.NVMLError:
      return None

  def _read_one(self, handle: Any) -> dict[str, float]:
    nvml, reading = self._nvml, dict[str, float]()
    memory = self.ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = self.ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    milliwatts = self.ask(nvml.nvmlDeviceGetPowerUsage, handle)
    millijoules = self.ask(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    if rates is not None:
      reading['compute.util'] = rates.gpu / 100
    if memory is not None:
      reading['mem.util'] = memory.used / memory.total
      reading['mem.total'] = memory.total / MIB
      reading['mem.used'] = memory.used / MIB
      reading['mem.free'] = memory.free / MIB
    if self._only is None:  # a sampler reads these with the clocks
      reading.update(self.temperature(handle))
      reading.update(self.both_powers(handle))
    if milliwatts is not None:
      reading['power.watts'] = milliwatts / 1000
    if millijoules is not None:
      reading['energy.joules_since_load'] = millijoules / 1000
    return reading

  def temperature(self, handle: Any) -> dict[str, float]:
    """Of the chip, in °C."""
    celsius = self.ask(self._nvml.nvmlDeviceGetTemperature, handle, self._nvml.NVML_TEMPERATURE_GPU)
    return {} if celsius is None else {'temp.current': float(celsius)}

  def both_powers(self, handle: Any) -> dict[str, float]:
    """What the driver averages over a second, and what it measures now (Ampere and later)."""
    values: Any = self.ask(self._nvml.nvmlDeviceGetFieldValues, handle, self._fields)
    if values is None:
      return {}
    names = ('power.average_watts', 'power.instant_watts')
    return {
      name: value.value.uiVal / 1000
      for name, value in zip(names, values, strict=True)
      if value.nvmlReturn == self._nvml.NVML_SUCCESS
    }

  def _has_instances(self, handle: Any) -> bool:
    mode = self.ask(self._nvml.nvmlDeviceGetMigMode, handle) if handle else None
    return mode is not None and mode[0] == 1

  def _text(self, query: Callable[..., Any], *arguments: Any) -> str:
    value = self.ask(query, *arguments)
    return value.decode() if isinstance(value, bytes) else str(value or '')


class NvidiaClocks:
  """Clocks and temperatures of the same GPUs, and why clocks are held back; asked less often."""

  NAME = 'NVIDIA clocks'
  EVERY_SEC = 1.0

  def __init__(self, gpus: Nvidia) -> None:
    self._gpus = gpus

  def probe(self) -> tuple[bool, str]:
    """Whether the GPUs can be read."""
    return bool(self._gpus.chosen()), 'NVML sees no GPU'

  def read(self) -> dict[str, Any]:
    """MHz, °C, the driver's bit mask of reasons, and seconds held back by power and by heat."""
    import pynvml as nvml

    reading: dict[str, Any] = {}
    for device, handle in self._gpus.chosen():
      ask = self._gpus.ask
      found = {**self._gpus.temperature(handle), **self._gpus.both_powers(handle)}
      for name, value in found.items():
        reading[f'{device}.{name}'] = value
      for name, clock in (('sm', nvml.NVML_CLOCK_SM), ('mem', nvml.NVML_CLOCK_MEM)):
        megahertz = ask(nvml.nvmlDeviceGetClockInfo, handle, clock)
        if megahertz is not None:
          reading[f'{device}.clock.{name}'] = megahertz
      reasons = ask(nvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
      if reasons is None:  # its name in drivers before 535
        reasons = ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)
      if reasons is not None:
        reading[f'{device}.throttle.reasons'] = reasons
      for name, policy in (
        ('power', nvml.NVML_PERF_POLICY_POWER), ('thermal', nvml.NVML_PERF_POLICY_THERMAL),
      ):  # fmt: skip
        status = ask(nvml.nvmlDeviceGetViolationStatus, handle, policy)
        if status is not None:
          reading[f'{device}.throttle.{name}_sec'] = status.violationTime / 1e9
    return reading
