"""This file reads NVIDIA GPUs by GPUtil, where only the program nvidia-smi can be had.

It starts nvidia-smi at every reading, which takes from 10 ms to seconds, and knows neither power
nor energy: nvidia-ml-py is better wherever it works.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from algorithmic_efficiency.telemetry.devices import Device, cuda_visible


class NvidiaSmi:
  """The GPUs that nvidia-smi lists.

  Args:
    only: names of the devices to read; all by default.
    environ: where CUDA_VISIBLE_DEVICES is looked up.
  """

  NAME = 'nvidia-smi'
  EVERY_SEC = 5.0

  def __init__(
    self, only: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ
  ) -> None:
    self._only = only
    self._environ = environ

  def probe(self) -> tuple[bool, str]:
    """Whether GPUtil and nvidia-smi are there and list a GPU."""
    if shutil.which('nvidia-smi') is None:
      return False, 'nvidia-smi is not on PATH'
    if importlib.util.find_spec('GPUtil') is None:
      return False, 'gputil is not installed'
    return bool(self._gpus()), 'nvidia-smi lists no GPU'

  def read(self) -> dict[str, Any]:
    """gpu.count, six columns per GPU, and their means over the GPUs; {} when nvidia-smi fails."""
    gpus = self._gpus()
    if not gpus:
      return {}
    columns: dict[str, Any] = {'gpu.count': len(gpus)}
    seen: dict[str, list[float]] = {}
    for gpu in gpus:
      device = f'gpu.{gpu.id}'
      if self._only is not None and device not in self._only:
        continue
      reading = {
        'compute.util': gpu.load,
        'mem.util': gpu.memoryUtil,
        'mem.total': gpu.memoryTotal,
        'mem.used': gpu.memoryUsed,
        'mem.free': gpu.memoryFree,
        'temp.current': gpu.temperature,
      }
      for name, value in reading.items():
        if value == value:  # GPUtil makes NaN of "[N/A]"; a missing reading has no column
          columns[f'{device}.{name}'] = value
          seen.setdefault(name, []).append(value)
    for name, values in seen.items():
      columns[f'gpu.avg.{name}'] = sum(values) / len(values)
    return columns

  def devices(self) -> list[Device]:
    """Every GPU; those that CUDA shows to this process are the job's."""
    gpus = self._gpus()
    visible = cuda_visible([gpu.uuid for gpu in gpus], self._environ)
    return [Device(f'gpu.{g.id}', g.uuid, g.name, i in visible) for i, g in enumerate(gpus)]

  def counters(self) -> dict[str, float]:
    """None: it does not know the energy."""
    return {}

  def describe(self) -> dict[str, Any]:
    """Facts for metadata.json."""
    gpus = self._gpus()
    if not gpus:
      return {}
    return {
      'gpu_model_name': gpus[0].name, 'gpu_count': len(gpus), 'gpu_driver': gpus[0].driver
    }  # fmt: skip

  def _gpus(self) -> list[Any]:
    path = list(sys.path)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the program's errors
      try:
        import GPUtil  # pyright: ignore[reportMissingImports]

        return list(GPUtil.getGPUs())
      except (ImportError, OSError, ValueError, IndexError):
        return []  # distutils is gone since Python 3.12; error text in place of a table
      finally:
        sys.path[:] = path  # setuptools, which lends its distutils, adds folders of its own
