"""This file runs layers and networks in PyTorch: a layer alone, and each within its network."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns, layers_pytorch, networks_pytorch
from algorithmic_efficiency.layer_power.layers import Layer, Traced

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
  'relu': functional.relu,
  'gelu': functional.gelu,
  'silu': functional.silu,
  'sigmoid': torch.sigmoid,
  'tanh': torch.tanh,
  'hardswish': functional.hardswish,
  'hardtanh': functional.hardtanh,
  'hardsigmoid': functional.hardsigmoid,
  'leaky_relu': functional.leaky_relu,
  'elu': functional.elu,
  'softmax': lambda x: torch.softmax(x, dim=-1),
}


class Runner:
  """PyTorch on a device.

  Args:
    device: 'cpu', 'cuda' or 'hpu'.

  Raises UsageError where there is none.
  """

  name = 'pytorch'

  def __init__(self, device: str) -> None:
    self.device = device
    try:
      if device == 'hpu':
        import habana_frameworks.torch.core  # noqa: F401
      torch.zeros(1, device=device)
    except (ImportError, RuntimeError, AssertionError) as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(f'--device={device} is not to be had here ({told}).') from error
    self.kind = device if device == 'cpu' else getattr(torch, device).get_device_name()

  def wait(self) -> None:
    """Returns when the device has finished."""
    if self.device != 'cpu':
      getattr(torch, self.device).synchronize()

  def trace(self, network: str, shape: tuple[int, ...]) -> Traced:
    """The layers of a network for inputs of this shape, without compute."""
    module = networks_pytorch.build(network, 'meta')
    return layers_pytorch.trace(module, torch.zeros(shape, device='meta'))

  def num_parameters(self, network: str) -> int:
    """Trained numbers of a network."""
    return sum(p.numel() for p in networks_pytorch.build(network, 'meta').parameters())

  def alone(self, layer: Layer) -> Callable[[], object] | None:
    """A call of the layer on random numbers; None where it cannot be called alone."""
    call = _call(layer, torch.device(self.device))
    if call is None:
      return None

    def without_gradients() -> object:
      with torch.inference_mode():
        return call()

    return without_gradients

  def whole(self, network: str, shape: tuple[int, ...]) -> 'Network':
    """A network on the device. Raises UsageError where it does not fit."""
    return Network(self, network, shape)


class Network:
  """A network on a device with one batch of random inputs."""

  def __init__(self, runner: Runner, network: str, shape: tuple[int, ...]) -> None:
    self._runner = runner
    try:
      self._module = networks_pytorch.build(network).to(runner.device)
      self._inputs = torch.rand(shape, device=runner.device)
      self.call()  # what it computes with may not fit either
      runner.wait()
    except (RuntimeError, MemoryError) as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(
        f'{network} with a batch of {shape[0]} cannot be run on {runner.device} ({told}).'
      ) from error

  def call(self) -> object:
    """A forward pass."""
    with torch.inference_mode():
      return self._module(self._inputs)

  def in_network(self, repeats: int) -> dict[str, list[float]]:
    """Seconds of each module's calls in forward passes, by hooks: {name: one a repeat and call}.

    The device is waited for at every hook, so what overlaps in the network does not here.
    """
    timer = _Timer(self._module, self._runner.wait)
    try:
      for _ in range(2):
        self.call()
      timer.seconds.clear()
      for _ in range(repeats):
        self.call()
    finally:
      timer.remove()
    return timer.seconds


class _Timer:
  """Hooks that time each module that has no modules within."""

  def __init__(self, network: torch.nn.Module, wait: Callable[[], None]) -> None:
    self.seconds: dict[str, list[float]] = {}
    self._wait = wait
    self._begun: dict[str, float] = {}
    self._handles: list[Any] = []
    for name, module in network.named_modules():
      if not list(module.children()):
        self._handles.append(module.register_forward_pre_hook(self._begin(name)))
        self._handles.append(module.register_forward_hook(self._end(name)))

  def remove(self) -> None:
    """Takes the hooks away."""
    for handle in self._handles:
      handle.remove()

  def _begin(self, name: str) -> Any:
    def hook(*_: Any) -> None:
      self._wait()
      self._begun[name] = time.perf_counter()

    return hook

  def _end(self, name: str) -> Any:
    def hook(*_: Any) -> None:
      self._wait()
      spent = time.perf_counter() - self._begun[name]
      self.seconds.setdefault(name, []).append(spent)

    return hook


def _call(layer: Layer, device: torch.device) -> Callable[[], object] | None:
  dtype = getattr(torch, layer.dtype)

  def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, device=device, dtype=torch.float32).to(dtype)

  if layer.layer_type == columns.CONV:
    return _convolution(layer, random)
  if layer.layer_type == columns.DENSE:
    inputs, weight = (
      random(layer.batch_size, layer.input_size_0),
      random(layer.output_size_0, layer.input_size_0),
    )
    bias = random(layer.output_size_0)
    return lambda: functional.linear(inputs, weight, bias)
  if layer.layer_type == columns.POOLING:
    return _pooling(layer, random)
  if layer.layer_type == columns.ATTENTION:
    lengths = (layer.output_size_1, layer.input_size_1, layer.input_size_1)
    query, key, value = (
      random(layer.batch_size, layer.groups, length, layer.input_size_0) for length in lengths
    )
    return lambda: functional.scaled_dot_product_attention(query, key, value)
  inputs = random(layer.batch_size, layer.input_size_0, layer.input_size_1, layer.input_size_2)
  if layer.layer_type == columns.NORMALISATION:
    return _normalisation(layer, inputs, random)
  if layer.op in _ACTIVATIONS:
    activation = _ACTIVATIONS[layer.op]
    return lambda: activation(inputs)
  return None


def _convolution(layer: Layer, random: Any) -> Callable[[], object] | None:
  if layer.op != 'conv2d' or layer.padding_0 % 2 or layer.padding_1 % 2:
    return None
  inputs = random(layer.batch_size, layer.input_size_0, layer.input_size_1, layer.input_size_2)
  per_group = layer.input_size_0 // layer.groups
  weight = random(layer.output_size_0, per_group, layer.kernel_0, layer.kernel_1)
  stride = (layer.stride_0, layer.stride_1)
  padding = (layer.padding_0 // 2, layer.padding_1 // 2)
  return lambda: functional.conv2d(inputs, weight, None, stride, padding, groups=layer.groups)


def _pooling(layer: Layer, random: Any) -> Callable[[], object] | None:
  inputs = random(layer.batch_size, layer.input_size_0, layer.input_size_1, layer.input_size_2)
  kernel, stride = (layer.kernel_0, layer.kernel_1), (layer.stride_0, layer.stride_1)
  padding = (layer.padding_0 // 2, layer.padding_1 // 2)
  size = (layer.output_size_1, layer.output_size_2)
  # ceil_mode gives one window more where the last is cut off.
  full = (layer.input_size_1 + layer.padding_0 - layer.kernel_0) // layer.stride_0 + 1
  ceil = layer.output_size_1 > full
  return {
    'max_pool2d': lambda: functional.max_pool2d(inputs, kernel, stride, padding, ceil_mode=ceil),
    'avg_pool2d': lambda: functional.avg_pool2d(inputs, kernel, stride, padding, ceil_mode=ceil),
    'adaptive_avg_pool2d': lambda: functional.adaptive_avg_pool2d(inputs, size),
    'adaptive_max_pool2d': lambda: functional.adaptive_max_pool2d(inputs, size),
  }.get(layer.op)


def _normalisation(layer: Layer, inputs: torch.Tensor, random: Any) -> Callable[[], object] | None:
  if layer.op == 'batch_norm':
    mean, variance, scale, shift = (random(layer.input_size_0) for _ in range(4))
    return lambda: functional.batch_norm(inputs, mean, variance, scale, shift)
  if layer.op == 'layer_norm':
    width = layer.input_size_2 if layer.input_size_2 > 1 else layer.input_size_0
    shaped = inputs.reshape(-1, width)
    scale, shift = random(width), random(width)
    return lambda: functional.layer_norm(shaped, (width,), scale, shift)
  return None
