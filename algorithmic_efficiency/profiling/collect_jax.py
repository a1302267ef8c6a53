"""This file traces with jax.profiler, into an xplane. Its neighbour has the same names.

The xplane lies where TensorBoard and XProf look for it; neither is needed to write it.
"""

import contextlib
import importlib.metadata
from typing import Any

import jax

from algorithmic_efficiency.records.run_folder import TraceFolder

_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax')
_CUDNN = ('nvidia-cudnn-cu13', 'nvidia-cudnn-cu12')


class Collector:
  """JAX's profiler, of which a process has one.

  Args:
    device: the kind that is trained on; JAX's profiler traces what there is.
  """

  def __init__(self, device: str) -> None:
    del device
    self._runs = False

  def prepare(self) -> None:
    """It needs no warm-up."""

  def start(self, model: Any, folder: TraceFolder) -> None:
    """Begins the trace."""
    del model  # flax names the layers in the compiled code itself
    options: dict[str, Any] = {}
    if hasattr(jax.profiler, 'ProfileOptions'):
      chosen = jax.profiler.ProfileOptions()
      # A line of Python each would cost more than what is to be seen. The host's own events stay:
      # on a CPU the operators are among them.
      chosen.python_tracer_level = 0
      options['profiler_options'] = chosen
    jax.profiler.start_trace(folder.path, **options)
    self._runs = True

  def stop(self, folder: TraceFolder) -> None:
    """Ends the trace and writes it."""
    del folder  # told at the start
    jax.profiler.stop_trace()
    self._runs = False

  def abandon(self) -> None:
    """Stops what still runs; a trace that could not be written counts as running until then."""
    if self._runs:
      self._runs = False
      jax.profiler.stop_trace()

  def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
    """Marks a step."""
    return jax.profiler.StepTraceAnnotation('train', step_num=number)

  def annotate(self, name: str) -> contextlib.AbstractContextManager[Any]:
    """Marks what is done within."""
    return jax.profiler.TraceAnnotation(name)

  def describe(self) -> dict[str, Any]:
    """Versions and devices."""
    devices = jax.local_devices()
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    if devices[0].platform != 'cpu':
      # The runtime tells CUDA's version among others; cuDNN is a package of its own.
      versions['platform'] = ' '.join(devices[0].client.platform_version.split())
      for name in _CUDNN:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
          versions['cudnn'] = importlib.metadata.version(name)
    return {
      'versions': versions,
      'device_kind': devices[0].device_kind,
      'devices': [str(device) for device in devices],
    }
