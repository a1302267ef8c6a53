"""This file traces with torch.profiler, into a Chrome trace. Its neighbour has the same names.

While a trace is made every layer has its name in it: hooks around each module's forward pass. The
kernels of a backward pass are linked to these by the sequence numbers in the trace.
"""

import contextlib
import gzip
import os
import shutil
import socket
import threading
import time
from typing import Any

import torch
from torch.nn.modules import module as all_modules

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records.run_folder import TraceFolder

_GZIP_LEVEL = 3  # a trace is large and repetitive: nearly as small as at 9, in a fifth of the time
_SILENT = '6'  # above all that Kineto says of itself


class Collector:
  """torch.profiler, of which a process has one.

  Args:
    device: the kind that is trained on: 'cpu', 'cuda', 'hpu' or 'xpu'.
  """

  def __init__(self, device: str) -> None:
    self._device = device
    self._profile: Any = None
    self._started = False
    self._names: _LayerNames | None = None

  def prepare(self) -> None:
    """Has the profiler set itself up, which the first steps in a trace would pay for else."""
    from torch import profiler

    activities = [profiler.ProfilerActivity.CPU]
    if self._device == 'cpu':
      # It tells on stderr that it starts and stops. With a device its errors are worth seeing.
      os.environ.setdefault('KINETO_LOG_LEVEL', _SILENT)
    else:
      activities.append(getattr(profiler.ProfilerActivity, self._device.upper()))
    self._profile = profiler.profile(activities=activities, record_shapes=True)
    self._profile.prepare_trace()

  def start(self, model: Any, folder: TraceFolder) -> None:
    """Begins the trace; `model` is the module whose layers are named, or None."""
    del folder
    if model is not None and not _is_compiled(model):
      self._names = _LayerNames(model)
    self._profile.start_trace()
    self._started = True

  def stop(self, folder: TraceFolder) -> None:
    """Ends the trace and writes it. Raises MeasurementError or OSError if the disk refuses it."""
    profile = self._profile
    self.abandon()
    path = folder.pytorch_trace(socket.gethostname(), os.getpid(), time.time_ns())
    raw = path.with_name(f'.{path.stem}.tmp')
    packed = path.with_name(f'.{path.name}.tmp')
    profile.export_chrome_trace(str(raw))
    if not raw.exists():  # it says nothing
      raise MeasurementError(f'PyTorch left no {str(raw)!r}; is the disk full?')
    with raw.open('rb') as source, gzip.open(packed, 'wb', _GZIP_LEVEL) as target:
      shutil.copyfileobj(source, target)
    packed.replace(path)
    raw.unlink()

  def abandon(self) -> None:
    """Stops what still runs, takes the hooks away, and writes nothing."""
    if self._names is not None:
      self._names.remove()
      self._names = None
    profile, self._profile = self._profile, None
    if profile is None:
      return
    if not self._started:  # one that is warm can only be stopped after a start
      profile.start_trace()
    self._started = False
    profile.stop_trace()

  def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
    """Marks a step, in the words of torch.profiler, whose own count would begin anew."""
    return torch.autograd.profiler.record_function(f'ProfilerStep#{number}')

  def annotate(self, name: str) -> contextlib.AbstractContextManager[Any]:
    """Marks what is done within."""
    return torch.autograd.profiler.record_function(name)

  def describe(self) -> dict[str, Any]:
    """Versions and devices."""
    versions: dict[str, Any] = {
      'torch': str(torch.__version__),
      'cuda': torch.version.cuda,
      'rocm': torch.version.hip,
      'cudnn': torch.backends.cudnn.version() if self._device == 'cuda' else None,
    }
    name = self._device if self._device == 'cpu' else getattr(torch, self._device).get_device_name()
    return {
      'versions': {name: version for name, version in versions.items() if version is not None},
      'device_kind': name,
      'devices': [self._device],
    }


class _LayerNames:
  """Records each module's forward pass under its name, until removed."""

  def __init__(self, model: torch.nn.Module) -> None:
    while 'module' in model._modules and isinstance(  # the bare module's names
      model, torch.nn.parallel.DistributedDataParallel
    ):
      model = model.module
    # The root has no name; it is the step itself.
    self._names = {id(module): name for name, module in model.named_modules() if name}
    self._open = threading.local()  # a stack in every thread
    self._handles = [
      all_modules.register_module_forward_pre_hook(self._enter),
      # Also when the pass fails, or a name would stay open.
      all_modules.register_module_forward_hook(self._leave, always_call=True),
    ]

  def remove(self) -> None:
    """Takes the hooks away."""
    for handle in self._handles:
      handle.remove()

  def _enter(self, module: torch.nn.Module, _: Any) -> None:
    name = self._names.get(id(module))
    if name is not None:
      record = torch.autograd.profiler.record_function(f'nn.Module: {name}')
      record.__enter__()
      self._stack().append((id(module), record))

  def _leave(self, module: torch.nn.Module, *_: Any) -> None:
    stack = self._stack()
    if stack and stack[-1][0] == id(module):
      stack.pop()[1].__exit__(None, None, None)

  def _stack(self) -> list[tuple[int, Any]]:
    if not hasattr(self._open, 'stack'):
      self._open.stack = []
    return self._open.stack


def _is_compiled(model: torch.nn.Module) -> bool:
  """Whether torch.compile has a part of it, whose layers are no calls of their own any more."""
  return any(
    '_orig_mod' in module._modules or module._compiled_call_impl is not None
    for module in model.modules()
  )
