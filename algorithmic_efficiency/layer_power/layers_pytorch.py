"""This file finds the layers of a PyTorch module by calling it: on the meta device without compute.

Every operator that is called is seen, whether by a module or by a function, with the module it was
called in.
"""

import collections
import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.layers import Layer, Placed, Traced

_NORMS = {'native_batch_norm': 'batch_norm', '_native_batch_norm_legit': 'batch_norm',
          '_native_batch_norm_legit_no_training': 'batch_norm', 'cudnn_batch_norm': 'batch_norm',
          'native_layer_norm': 'layer_norm', 'native_group_norm': 'group_norm'}  # fmt: skip
_ACTIVATIONS = {'relu': 'relu', 'relu_': 'relu', 'gelu': 'gelu', 'silu': 'silu', 'silu_': 'silu',
                'sigmoid': 'sigmoid', 'sigmoid_': 'sigmoid', 'tanh': 'tanh', 'tanh_': 'tanh',
                'hardswish': 'hardswish', 'hardswish_': 'hardswish', 'hardtanh': 'hardtanh',
                'hardtanh_': 'hardtanh', 'hardsigmoid': 'hardsigmoid', 'leaky_relu': 'leaky_relu',
                'hardsigmoid_': 'hardsigmoid', 'leaky_relu_': 'leaky_relu', 'elu': 'elu',
                '_softmax': 'softmax'}  # fmt: skip
_POOLS = {'max_pool2d_with_indices': 'max_pool2d', 'avg_pool2d': 'avg_pool2d',
          'max_pool2d': 'max_pool2d'}  # fmt: skip


def trace(network: torch.nn.Module, inputs: torch.Tensor) -> Traced:
  """The layers of a network for these inputs, in the order of their calls; no gradients.

  Raises UsageError where the network cannot be called so.
  """
  recorder = _Recorder(network)
  try:
    with torch.no_grad(), recorder, _Attention(recorder):
      network(inputs)
  except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
    told = str(error).strip().partition('\n')[0].rstrip('.')
    raise UsageError(
      f'{type(network).__name__} cannot be traced with an input of {tuple(inputs.shape)} on '
      f'{inputs.device} ({told}); where its shapes depend on values, trace it on the CPU.'
    ) from error
  finally:
    recorder.remove()
  return recorder.traced()


class _Attention(TorchFunctionMode):
  """Notes attention as one layer: which operators it is made of depends on the device."""

  def __init__(self, recorder: '_Recorder') -> None:
    super().__init__()
    self._recorder = recorder

  def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    if func is not torch.nn.functional.scaled_dot_product_attention:
      return func(*args, **(kwargs or {}))
    self._recorder.found(_attention(args))
    with self._recorder.paused():
      return func(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
  """Notes each operator with the module around it."""

  def __init__(self, network: torch.nn.Module) -> None:
    super().__init__()
    self._inside: list[str] = ['']
    self._found: list[tuple[str, Layer]] = []
    self._others: collections.Counter[str] = collections.Counter()
    self._paused = False
    self._handles: list[Any] = []
    for name, module in network.named_modules():
      self._handles.append(module.register_forward_pre_hook(self._enter(name)))
      self._handles.append(module.register_forward_hook(self._leave, always_call=True))

  def found(self, layer: Layer) -> None:
    """A layer was called."""
    self._found.append((self._inside[-1], layer))

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """What is called within is a part of a layer that was noted."""
    before, self._paused = self._paused, True
    yield
    self._paused = before

  def remove(self) -> None:
    """Takes the hooks away."""
    for handle in self._handles:
      handle.remove()

  def traced(self) -> Traced:
    """What was called."""
    counts = collections.Counter(name for name, _ in self._found)
    seen: collections.Counter[str] = collections.Counter()
    layers: list[Placed] = []
    for name, layer in self._found:
      seen[name] += 1
      own = name or '(network)'
      layers.append(
        Placed(own if seen[name] == 1 else f'{own}#{seen[name]}', layer, counts[name] == 1)
      )
    return Traced(layers, self._others)

  def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    output = func(*args, **(kwargs or {}))
    if self._paused:
      return output
    name = func.overloadpacket.__name__
    layer = _layer(name, args, output)
    if layer is not None:
      self.found(layer)
    else:
      self._others[name] += 1
    return output

  def _enter(self, name: str) -> Any:
    def enter(module: torch.nn.Module, inputs: Any) -> None:
      del module, inputs
      self._inside.append(name)

    return enter

  def _leave(self, *_: Any) -> None:
    self._inside.pop()


def _layer(name: str, args: Any, output: Any) -> Layer | None:
  """The layer that a call of an operator is, or None."""
  if name in ('convolution', '_convolution', 'cudnn_convolution', 'mkldnn_convolution'):
    return _convolution(args, output)
  if name in ('addmm', 'mm', 'linear'):
    return _dense(name, args, output)
  if name in _POOLS:
    return _pooling(_POOLS[name], args, output)
  if name in ('_adaptive_avg_pool2d', 'adaptive_max_pool2d') or _is_global_mean(name, args):
    return _adaptive_pooling(name, args, output)
  if name in _NORMS:
    return _elementwise(columns.NORMALISATION, _NORMS[name], args[0])
  if name in _ACTIVATIONS:
    return _elementwise(columns.ACTIVATION, _ACTIVATIONS[name], args[0])
  return None


def _convolution(args: Any, output: Any) -> Layer:
  inputs, weight, _, stride, padding, dilation, transposed = args[:7]
  groups = args[8] if len(args) > 8 else 1
  if inputs.ndim not in (3, 4):
    raise UsageError(f'a convolution over {inputs.ndim - 2} dimensions is not known; 1 and 2 are.')
  op = 'conv_transpose2d' if transposed else f'conv{inputs.ndim - 2}d'
  if any(d != 1 for d in dilation):
    op += f'_dilation{dilation[-1]}'
  sizes = {**_sizes(inputs, output), **_windows(weight.shape[2:], padding, stride)}
  return Layer(columns.CONV, op, _dtype(inputs), inputs.shape[0], groups=groups, **sizes)


def _dense(name: str, args: Any, output: Any) -> Layer:
  inputs = args[1] if name == 'addmm' else args[0]
  vectors = math.prod(inputs.shape[:-1])  # addmm sees an example's as a batch of its own
  return Layer(
    columns.DENSE, 'linear', _dtype(inputs), vectors, inputs.shape[-1],
    output_size_0=output.shape[-1],
  )  # fmt: skip


def _pooling(op: str, args: Any, output: Any) -> Layer:
  inputs, kernel = args[0], args[1]
  stride = args[2] if len(args) > 2 and args[2] else kernel
  padding = args[3] if len(args) > 3 else 0
  result = output[0] if isinstance(output, tuple) else output
  sizes = {**_sizes(inputs, result), **_windows(kernel, padding, stride)}
  return Layer(columns.POOLING, op, _dtype(inputs), inputs.shape[0], **sizes)


def _adaptive_pooling(name: str, args: Any, output: Any) -> Layer:
  inputs = args[0]
  result = output[0] if isinstance(output, tuple) else output
  op = 'adaptive_max_pool2d' if name == 'adaptive_max_pool2d' else 'adaptive_avg_pool2d'
  before = list(inputs.shape[2:4])
  after = [1, 1] if name == 'mean' else list(result.shape[2:4])
  kernel = [math.ceil(i / o) for i, o in zip(before, after, strict=True)]
  stride = [max(1, i // o) for i, o in zip(before, after, strict=True)]
  sizes = {**_sizes(inputs, inputs), **_windows(kernel, 0, stride)}
  sizes |= {'output_size_1': after[0], 'output_size_2': after[1]}
  return Layer(columns.POOLING, op, _dtype(inputs), inputs.shape[0], **sizes)


def _elementwise(layer_type: str, op: str, inputs: Any) -> Layer:
  batch_size = inputs.shape[0] if inputs.ndim else 1
  return Layer(layer_type, op, _dtype(inputs), batch_size, **_sizes(inputs, inputs))


def _attention(args: Any) -> Layer:
  query, key = args[0], args[1]
  batch, heads, length, width = query.shape
  return Layer(
    columns.ATTENTION, 'scaled_dot_product', _dtype(query), batch, width, key.shape[2],
    output_size_0=width, output_size_1=length, groups=heads,
  )  # fmt: skip


def _is_global_mean(name: str, args: Any) -> bool:
  """A mean over height and width, as some networks (and adaptive pooling to 1 x 1) write it."""
  if name != 'mean' or len(args) < 2 or args[0].ndim != 4:
    return False
  return {d % 4 for d in args[1]} == {2, 3}


def _sizes(inputs: Any, output: Any) -> dict[str, int]:
  """The columns of both sizes."""
  return {
    f'{which}_size_{place}': size
    for which, tensor in (('input', inputs), ('output', output))
    for place, size in enumerate(_example(tensor))
  }


def _windows(kernel: Any, padding: Any, stride: Any) -> dict[str, int]:
  """The columns of kernel, padding on both sides together, and stride."""
  values = {'kernel': _two(kernel), 'padding': _two(padding, missing=0), 'stride': _two(stride)}
  return {
    f'{name}_{place}': size * (2 if name == 'padding' else 1)
    for name, sizes in values.items()
    for place, size in enumerate(sizes)
  }


def _example(tensor: Any) -> tuple[int, int, int]:
  """Channels, height and width of an example; what there is more is put into the width."""
  shape = [*tensor.shape[1:], 1, 1, 1]
  if tensor.ndim == 3:  # a sequence: its channels are the only ones, its length the width
    return shape[0], 1, shape[1]
  return shape[0], shape[1], math.prod(shape[2:])


def _two(values: Any, missing: int = 1) -> list[int]:
  """Height and width; one number is the width alone in one dimension, else both."""
  numbers = [values] * 2 if isinstance(values, int) else list(values)
  return [missing, numbers[0]] if len(numbers) == 1 else numbers[:2]


def _dtype(tensor: Any) -> str:
  return str(tensor.dtype).removeprefix('torch.')
