"""This file reads NVIDIA GPUs by NVML (package nvidia-ml-py, module `pynvml`)."""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)

MIB = 1024 * 1024


class Nvidia:
  """All GPUs the driver knows, in NVML's order (that of the PCI bus)."""

  NAME = 'NVIDIA GPU'

  def __init__(self) -> None:
    self._nvml: Any = None
    self._handles: list[Any] = []

  def probe(self) -> tuple[bool, str]:
    """Whether NVML can be had and sees a GPU."""
    if importlib.util.find_spec('pynvml') is None:
      if Path('/proc/driver/nvidia/version').exists():
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
    # A GPU that has fallen off the bus has no handle; the others are read all the same.
    self._handles = [self._ask(pynvml.nvmlDeviceGetHandleByIndex, i) for i in range(count)]
    return any(handle is not None for handle in self._handles), 'NVML sees no GPU'

  def read(self) -> dict[str, Any]:
    """gpu.count, six columns and the power per GPU, and their means over the GPUs."""
    columns: dict[str, Any] = {'gpu.count': len(self._handles)}
    seen: dict[str, list[float]] = {}
    for index, handle in enumerate(self._handles):
      if handle is None:
        continue
      for name, value in self._read_one(handle).items():
        columns[f'gpu.{index}.{name}'] = value
        seen.setdefault(name, []).append(value)
    for name, values in seen.items():
      columns[f'gpu.avg.{name}'] = sum(values) / len(values)
    return columns

  def describe(self) -> dict[str, Any]:
    """Facts for metadata.json."""
    first = next(handle for handle in self._handles if handle is not None)
    facts = {
      'gpu_model_name': self._ask(self._nvml.nvmlDeviceGetName, first),
      'gpu_count': len(self._handles),
      'gpu_driver': self._ask(self._nvml.nvmlSystemGetDriverVersion),
    }
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in facts.items() if v is not None}

  def _read_one(self, handle: Any) -> dict[str, float]:
    nvml, reading = self._nvml, dict[str, float]()
    memory = self._ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    rates = self._ask(nvml.nvmlDeviceGetUtilizationRates, handle)
    celsius = self._ask(nvml.nvmlDeviceGetTemperature, handle, nvml.NVML_TEMPERATURE_GPU)
    milliwatts = self._ask(nvml.nvmlDeviceGetPowerUsage, handle)
    if rates is not None:
      reading['compute.util'] = rates.gpu / 100
    if memory is not None:
      reading['mem.util'] = memory.used / memory.total
      reading['mem.total'] = memory.total / MIB
      reading['mem.used'] = memory.used / MIB
      reading['mem.free'] = memory.free / MIB
    if celsius is not None:
      reading['temp.current'] = float(celsius)
    if milliwatts is not None:
      reading['power.watts'] = milliwatts / 1000
    return reading

  def _ask(self, query: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, or None where this GPU does not give one (MIG, an old board, a lost device)."""
    try:
      return query(*arguments)
    except self._nvml.NVMLError:
      return None
