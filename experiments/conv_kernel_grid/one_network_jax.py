"""A network of one convolution in JAX, with a training step that can be traced."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from grid import IMAGE_SIZE, LEARNING_RATE, Setting


class Net(nn.Module):
  """Convolution, flattening, one output without its sigmoid, which is in the loss."""

  setting: Setting

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    """(batch, size, size, 1) to (batch,)."""
    size, stride = self.setting.kernel_size, self.setting.stride
    hidden = nn.Conv(self.setting.filters, (size, size), (stride, stride), padding='SAME')(images)
    return nn.Dense(1)(hidden.reshape(len(hidden), -1))[:, 0]


class Network:
  """A network, its data on the device, and its training.

  Args:
    setting: of the grid.
    images: float32[batch, size, size], uniform.
    labels: float32[batch], 0 or 1.
    seed: of the weights.
    device: JAX's name of a platform: 'cpu', 'cuda'.
  """

  def __init__(
    self, setting: Setting, images: np.ndarray, labels: np.ndarray, seed: int, device: str
  ) -> None:
    place = jax.devices(device)[0]
    self._step, model, optimizer = _make_step(setting)
    params = _initial(model, seed)
    state = (params, optimizer.init(params), np.zeros((), np.float32))
    self._state = jax.device_put(state, place)
    self._batch = jax.device_put((images[..., None], labels), place)

  def step(self) -> None:
    """One step of training; the device may still be at it when this returns."""
    self._state = self._step(self._state, *self._batch)

  def wait(self) -> None:
    """Until the device has done all steps."""
    jax.block_until_ready(self._state)

  def loss(self) -> float:
    """Before the last step."""
    return float(self._state[2])

  def name_layers(self) -> None:
    """Has the trace tell the layers; JAX's does."""


def _make_step(setting: Setting) -> tuple[Any, Net, optax.GradientTransformation]:
  """The step, the network and the optimizer."""
  model, optimizer = Net(setting), optax.sgd(LEARNING_RATE)

  def loss_of(params: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = model.apply(params, images)
    return optax.sigmoid_binary_cross_entropy(logits, labels).mean()

  def train_step(state: Any, images: jax.Array, labels: jax.Array) -> Any:
    params, optimizer_state, _ = state
    loss, gradient = jax.value_and_grad(loss_of)(params, images, labels)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state)
    return optax.apply_updates(params, updates), optimizer_state, loss

  return jax.jit(train_step), model, optimizer


def _initial(model: Net, seed: int) -> Any:
  """Weights as flax draws them, but by numpy: flax would compile a program for each drawing."""
  image = jax.ShapeDtypeStruct((1, IMAGE_SIZE, IMAGE_SIZE, 1), np.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)
  generator = np.random.default_rng(seed)

  def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    fan_in = math.prod(leaf.shape[:-1])
    scale = fan_in**-0.5 if len(leaf.shape) > 1 else 0.0  # biases begin at zero
    return (scale * generator.standard_normal(leaf.shape)).astype(np.float32)

  return jax.tree.map(draw, shapes)


@contextlib.contextmanager
def tracing(folder: Path, device: str) -> Iterator[None]:
  """Traces what is within, into the folder."""
  del device  # what there is, is traced
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0  # Python's calls are no activity of the device
  with jax.profiler.trace(str(folder), profiler_options=options):
    yield


def mark(number: int) -> contextlib.AbstractContextManager[Any]:
  """A context that marks a step in the trace."""
  return jax.profiler.StepTraceAnnotation('train', step_num=number)


def forget() -> None:
  """Drops what was compiled: every trace holds all programs that there are in the process."""
  jax.clear_caches()


def describe(device: str) -> dict[str, str]:
  """The version and the device."""
  found = jax.devices(device)[0]
  return {'version': jax.__version__, 'device': found.platform, 'device_kind': found.device_kind}
