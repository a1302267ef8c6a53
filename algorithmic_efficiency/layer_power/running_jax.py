"""This file runs layers and networks in JAX: a flax module's layers found and each run alone.

A compiled program has no hooks, and what XLA traces on a CPU leaves its convolutions out; so within
its network a module is timed as a program of its own, on what the modules before it gave.
"""

import collections
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.layers import Layer, Placed, Traced

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
  'relu': jax.nn.relu,
  'gelu': jax.nn.gelu,
  'silu': jax.nn.silu,
  'sigmoid': jax.nn.sigmoid,
  'tanh': jnp.tanh,
  'softmax': jax.nn.softmax,
  'hard_swish': jax.nn.hard_swish,
  'elu': jax.nn.elu,
  'leaky_relu': jax.nn.leaky_relu,
}
_NORMS = {'BatchNorm': 'batch_norm', 'LayerNorm': 'layer_norm', 'GroupNorm': 'group_norm'}
_POOLS = {'reduce_window_max': 'max_pool2d', 'reduce_window_sum': 'avg_pool2d'}
_NHWC = ('NHWC', 'HWIO', 'NHWC')


class Runner:
  """JAX on a device.

  Args:
    device: 'cpu' or 'cuda'.

  Raises UsageError where there is none.
  """

  name = 'jax'

  def __init__(self, device: str) -> None:
    platform = {'cuda': 'gpu'}.get(device, device)
    try:
      self._device = jax.devices(platform)[0]
    except RuntimeError as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(f'--device={device} is not to be had here with JAX ({told}).') from error
    self.device, self.kind = device, self._device.device_kind
    self._last: Any = None

  def wait(self) -> None:
    """Returns when the device has finished the last call."""
    jax.block_until_ready(self._last)

  def trace(self, network: str, shape: tuple[int, ...]) -> Traced:
    """The layers of a flax module for inputs of this shape (channels first), without compute."""
    module = build(network)
    inputs = jax.ShapeDtypeStruct((shape[0], *shape[2:], shape[1]), jnp.float32)
    norms: list[Placed] = []

    def note(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
      kind = type(context.module).__name__
      if kind in _NORMS and context.method_name == '__call__':
        layer = _elementwise(columns.NORMALISATION, _NORMS[kind], args[0])
        norms.append(Placed(_place(module, context.module), layer, True))
      return next_call(*args, **kwargs)

    try:
      variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
      with nn.intercept_methods(note):
        program = jax.make_jaxpr(module.apply)(variables, inputs)
    except (TypeError, ValueError) as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(f'{network} cannot be traced with {inputs.shape} ({told}).') from error
    others: collections.Counter[str] = collections.Counter()
    layers = list(_layers(program.jaxpr, others, ''))
    return Traced(_numbered(layers + norms), others)

  def num_parameters(self, network: str) -> int:
    """Trained numbers of a network; its inputs are images of 224 x 224 x 3 or its own size."""
    module = build(network)
    shape = getattr(module, 'input_shape', (224, 224, 3))
    inputs = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    variables = jax.eval_shape(module.init, jax.random.key(0), inputs)
    return sum(x.size for x in jax.tree.leaves(variables['params']))

  def alone(self, layer: Layer) -> Callable[[], object] | None:
    """A compiled call of the layer on random numbers; None where it cannot be called alone."""
    made = _function(layer)
    if made is None:
      return None
    function, shapes = made
    generator = np.random.default_rng(0)
    arrays = [
      jax.device_put(jnp.asarray(generator.random(s), layer.dtype), self._device) for s in shapes
    ]
    return self._calling(jax.jit(function), arrays)

  def whole(self, network: str, shape: tuple[int, ...]) -> 'Network':
    """A network on the device."""
    return Network(self, network, shape)

  def _calling(self, compiled: Any, arguments: Any) -> Callable[[], object]:
    def call() -> object:
      self._last = compiled(*arguments)
      return self._last

    return call


class Network:
  """A flax module on a device with one batch of random inputs, compiled."""

  def __init__(self, runner: Runner, network: str, shape: tuple[int, ...]) -> None:
    module = build(network)
    inputs = jax.device_put(
      np.random.default_rng(0).random((shape[0], *shape[2:], shape[1]), np.float32),
      runner._device,
    )
    self._module = module
    try:
      variables = jax.jit(module.init)(jax.random.key(0), inputs)
      self._arguments = (variables, inputs)
      self.call = runner._calling(jax.jit(module.apply), self._arguments)
      self.call()
      runner.wait()
    except (RuntimeError, MemoryError) as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(
        f'{network} with a batch of {shape[0]} cannot be run on {runner.device} ({told}).'
      ) from error

  def in_network(self, repeats: int) -> dict[str, list[float]]:
    """Seconds of each module's calls in forward passes: {name: one a repeat and call}.

    The network runs piece by piece: a module without modules within is compiled by itself and
    waited for, so what XLA fuses or overlaps in the whole program is apart here.
    """
    timer = _Timer(self._module)
    with nn.intercept_methods(timer.note):
      # A function of its own: one that JAX has traced already would not be gone through again.
      jax.eval_shape(lambda *given: self._module.apply(*given), *self._arguments)
    with nn.intercept_methods(timer.time):
      for _ in range(2):
        self._module.apply(*self._arguments)
      timer.seconds.clear()
      for _ in range(repeats):
        self._module.apply(*self._arguments)
    return timer.seconds


class _Timer:
  """Runs each module that has no modules within as a program of its own, and times it."""

  def __init__(self, network: nn.Module) -> None:
    self.seconds: dict[str, list[float]] = {}
    self._network, self._runs = network, False
    self._with_modules: set[tuple[str, ...]] = set()
    self._compiled: dict[tuple[str, ...], Any] = {}

  def note(self, next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Notes which modules have modules within."""
    path = context.module.path
    self._with_modules.update(path[:length] for length in range(len(path)))
    return next_call(*args, **kwargs)

  def time(self, next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Times the module if it has none within."""
    module = context.module
    # A module that runs as a program of its own is intercepted within that program as well.
    if self._runs or module.path in self._with_modules or context.method_name != '__call__':
      return next_call(*args, **kwargs)
    alone, variables = module.unbind()
    if module.path not in self._compiled:
      self._compiled[module.path] = jax.jit(
        lambda values, *inputs: alone.apply(values, *inputs, **kwargs)
      )
    jax.block_until_ready(args)
    self._runs = True
    try:
      begin = time.perf_counter()
      result = jax.block_until_ready(self._compiled[module.path](variables, *args))
      spent = time.perf_counter() - begin
    finally:
      self._runs = False
    self.seconds.setdefault(_place(self._network, module), []).append(spent)
    return result


def build(name: str) -> nn.Module:
  """A flax module by 'module:callable', which returns it; called with a batch alone.

  Raises UsageError.
  """
  module, _, attribute = name.partition(':')
  if not attribute:
    raise UsageError(
      f'{name} is a network of the zoo, which is in PyTorch; for JAX give module:callable that '
      'returns a flax.linen module.'
    )
  if str(Path.cwd()) not in sys.path:
    sys.path.insert(0, str(Path.cwd()))
  try:
    network = getattr(importlib.import_module(module), attribute)()
  except (ImportError, AttributeError, ValueError) as error:
    raise UsageError(f'{name} cannot be imported ({error}); give module:callable.') from error
  if not isinstance(network, nn.Module):
    raise UsageError(f'{name} returns a {type(network).__name__}, not a flax.linen.Module.')
  return network


def _place(network: nn.Module, module: nn.Module) -> str:
  """A module within its network, as the traced program names it: 'Net/Inner_0/Conv_0'."""
  return '/'.join((network.name or type(network).__name__, *module.path))


def _layers(program: Any, others: collections.Counter[str], within: str) -> Iterator[Placed]:
  """The layers of a program and of those that it calls."""
  for equation in program.eqns:
    name, scope = equation.primitive.name, str(equation.source_info.name_stack)
    path = '/'.join(part for part in (within, scope) if part)
    called = equation.params.get('name', '')
    layer = _layer(name, called, equation)
    if layer is not None:
      yield Placed(path or '(network)', layer, True)
      continue
    inner = [p for p in map(_program, equation.params.values()) if p is not None]
    for program_within in inner:
      yield from _layers(program_within, others, path)
    if not inner:
      others[name] += 1


def _program(value: Any) -> Any:
  """The program in a parameter of an equation, if it is one."""
  value = getattr(value, 'jaxpr', value)
  return value if hasattr(value, 'eqns') else None


def _layer(name: str, called: str, equation: Any) -> Layer | None:
  inputs, output = equation.invars[0].aval, equation.outvars[0].aval
  if name == 'conv_general_dilated':
    return _convolution(equation, inputs, output)
  if name == 'dot_general':
    weight = equation.invars[1].aval
    (_, contracted), (batched, _) = equation.params['dimension_numbers']
    if batched or weight.ndim != 2:
      return None
    features = weight.shape[contracted[0]]
    return Layer(
      columns.DENSE, 'linear', str(inputs.dtype), inputs.size // features, features,
      output_size_0=weight.size // features,
    )  # fmt: skip
  if name in _POOLS and inputs.ndim == 4:
    return _pooling(name, equation, inputs, output)
  if name in ('tanh', 'logistic'):
    op = {'logistic': 'sigmoid'}.get(name, name)
    return _elementwise(columns.ACTIVATION, op, inputs)
  if name in ('jit', 'pjit', 'custom_jvp_call') and called in _ACTIVATIONS:
    return _elementwise(columns.ACTIVATION, called, inputs)
  return None


def _convolution(equation: Any, inputs: Any, output: Any) -> Layer | None:
  numbers = equation.params['dimension_numbers']
  weight = equation.invars[1].aval
  if inputs.ndim != 4:
    return None
  size, kernel, result = (
    [aval.shape[i] for i in spec]
    for aval, spec in ((inputs, numbers.lhs_spec), (weight, numbers.rhs_spec),
                       (output, numbers.out_spec))
  )  # fmt: skip
  padding = [sum(p) for p in equation.params['padding']]
  stride = equation.params['window_strides']
  return Layer(
    columns.CONV, 'conv2d', str(inputs.dtype), size[0], size[1], size[2], size[3],
    result[1], result[2], result[3], kernel[2], kernel[3], padding[0], padding[1], stride[0],
    stride[1], equation.params['feature_group_count'],
  )  # fmt: skip


def _pooling(name: str, equation: Any, inputs: Any, output: Any) -> Layer:
  window = equation.params['window_dimensions']
  stride, padding = equation.params['window_strides'], equation.params['padding']
  batch, height, width, channels = inputs.shape
  return Layer(
    columns.POOLING, _POOLS[name], str(inputs.dtype), batch, channels, height, width,
    channels, output.shape[1], output.shape[2], window[1], window[2], sum(padding[1]),
    sum(padding[2]), stride[1], stride[2],
  )  # fmt: skip


def _elementwise(layer_type: str, op: str, inputs: Any) -> Layer:
  height, width = [*inputs.shape[1:-1], 1, 1][:2] if inputs.ndim > 2 else (1, 1)
  channels = inputs.shape[-1] if inputs.ndim > 1 else 1
  return Layer(
    layer_type, op, str(inputs.dtype), inputs.shape[0] if inputs.ndim else 1, channels, height,
    width, channels, height, width,
  )  # fmt: skip


def _numbered(layers: list[Placed]) -> list[Placed]:
  """Several calls in one place are told apart by '#2', …"""
  total = collections.Counter(placed.name for placed in layers)
  seen: collections.Counter[str] = collections.Counter()
  found: list[Placed] = []
  for placed in layers:
    seen[placed.name] += 1
    count = seen[placed.name]
    name = placed.name if count == 1 else f'{placed.name}#{count}'
    found.append(Placed(name, placed.layer, total[placed.name] == 1))
  return found


def _function(layer: Layer) -> tuple[Callable[..., Any], list[tuple[int, ...]]] | None:
  """(function, shapes of its arguments), channels last."""
  image = (layer.batch_size, layer.input_size_1, layer.input_size_2, layer.input_size_0)
  stride = (layer.stride_0, layer.stride_1)
  padding = [(p // 2, p - p // 2) for p in (layer.padding_0, layer.padding_1)]
  if layer.layer_type == columns.CONV and layer.op == 'conv2d':
    per_group = layer.input_size_0 // layer.groups
    kernel = (layer.kernel_0, layer.kernel_1, per_group, layer.output_size_0)
    return lambda x, w: jax.lax.conv_general_dilated(
      x, w, stride, padding, dimension_numbers=_NHWC, feature_group_count=layer.groups
    ), [image, kernel]
  if layer.layer_type == columns.DENSE:
    shapes = [(layer.batch_size, layer.input_size_0), (layer.input_size_0, layer.output_size_0)]
    return lambda x, w: x @ w, shapes
  if layer.layer_type == columns.POOLING and layer.op in ('max_pool2d', 'avg_pool2d'):
    pool = nn.max_pool if layer.op == 'max_pool2d' else nn.avg_pool
    window = (layer.kernel_0, layer.kernel_1)
    return lambda x: pool(x, window, stride, cast(Any, padding)), [image]
  if layer.layer_type == columns.NORMALISATION:
    shape = (layer.input_size_0,)
    if layer.op == 'batch_norm':
      return lambda x, m, v, s, b: (x - m) * jax.lax.rsqrt(v + 1e-5) * s + b, [image, *[shape] * 4]
    return lambda x: jax.nn.standardize(x, axis=-1), [image]
  if layer.op in _ACTIVATIONS:
    return _ACTIVATIONS[layer.op], [image]
  return None
