"""A network of one convolution in PyTorch, with a training step that can be traced."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from grid import LEARNING_RATE, Setting
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile, record_function


class Net(nn.Module):
  """Convolution, flattening, one output without its sigmoid, which is in the loss."""

  def __init__(self, setting: Setting) -> None:
    super().__init__()
    before, behind = setting.padding
    size, stride = setting.kernel_size, setting.stride
    if before == behind:
      self.conv: nn.Module = nn.Conv2d(1, setting.filters, size, stride, before)
    else:  # nn.Conv2d pads both sides alike; 'same' padding has one more at the end
      padded = nn.ZeroPad2d((before, behind, before, behind))
      self.conv = nn.Sequential(padded, nn.Conv2d(1, setting.filters, size, stride))
    self.dense = nn.Linear(setting.filters * setting.output_size**2, 1)

  def forward(self, images: torch.Tensor) -> torch.Tensor:
    """(batch, 1, size, size) to (batch,)."""
    return self.dense(self.conv(images).flatten(1))[:, 0]


class Network:
  """A network, its data on the device, and its training.

  Args:
    setting: of the grid.
    images: float32[batch, size, size], uniform.
    labels: float32[batch], 0 or 1.
    seed: of the weights.
    device: PyTorch's name of it: 'cpu', 'cuda'.
  """

  def __init__(
    self, setting: Setting, images: np.ndarray, labels: np.ndarray, seed: int, device: str
  ) -> None:
    self._device = torch.device(device)
    torch.manual_seed(seed)
    self._model = Net(setting).to(self._device)
    self._optimizer = torch.optim.SGD(self._model.parameters(), LEARNING_RATE)
    self._images = torch.from_numpy(images[:, None]).to(self._device)
    self._labels = torch.from_numpy(labels).to(self._device)
    self._loss = torch.zeros(())

  def step(self) -> None:
    """One step of training; the device may still be at it when this returns."""
    self._optimizer.zero_grad()
    logits = self._model(self._images)
    self._loss = functional.binary_cross_entropy_with_logits(logits, self._labels)
    self._loss.backward()
    self._optimizer.step()

  def wait(self) -> None:
    """Until the device has done all steps."""
    if self._device.type == 'cuda':
      torch.cuda.synchronize(self._device)

  def loss(self) -> float:
    """Before the last step."""
    return float(self._loss.detach())

  def name_layers(self) -> None:
    """Has the trace tell the layers: torch.profiler tells them only of networks in TorchScript."""
    for name, layer in self._model.named_children():
      _name(layer, name)


def _name(layer: nn.Module, name: str) -> None:
  marks: list[record_function] = []

  def enter(*_: Any) -> None:
    marks.append(record_function(f'nn.Module: {name}'))
    marks[-1].__enter__()

  def leave(*_: Any) -> None:
    marks.pop().__exit__(None, None, None)

  layer.register_forward_pre_hook(enter)
  layer.register_forward_hook(leave)


@contextlib.contextmanager
def tracing(folder: Path, device: str) -> Iterator[None]:
  """Traces what is within, into the folder."""
  activities = [ProfilerActivity.CPU]
  if torch.device(device).type == 'cuda':
    activities.append(ProfilerActivity.CUDA)
  with profile(activities=activities, acc_events=True) as profiler:
    yield
  profiler.export_chrome_trace(str(folder / 'step.pt.trace.json'))


def mark(number: int) -> contextlib.AbstractContextManager[Any]:
  """A context that marks a step in the trace."""
  return record_function(f'ProfilerStep#{number}')


def forget() -> None:
  """Nothing is compiled that would have to be dropped."""


def describe(device: str) -> dict[str, str]:
  """The version and the device."""
  found = torch.device(device)
  kind = torch.cuda.get_device_name(found) if found.type == 'cuda' else found.type
  return {'version': torch.__version__, 'device': found.type, 'device_kind': kind}
