"""This file is a residual network of 18 layers for small images, in flax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from algorithmic_efficiency.frameworks import layers_jax
from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('Dense_0',)

_CONV_INIT = nn.initializers.variance_scaling(2.0, 'fan_out', 'normal')


class BasicBlock(nn.Module):
  """Two convolutions of 3 x 3 beside a shortcut; inputs [batch, height, width, channels]."""

  width: int
  stride: int
  momentum: float
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
    def normalise(y: jax.Array, scale_init: Any = nn.initializers.ones) -> jax.Array:
      norm = layers_jax.batch_norm(
        momentum=self.momentum, epsilon=self.epsilon, scale_init=scale_init
      )
      return norm(y, use_running_average)

    y = nn.relu(normalise(_convolve(x, self.width, 3, self.stride)))
    # Scaled by zero at first: the block begins as its shortcut.
    y = normalise(_convolve(y, self.width, 3), nn.initializers.zeros)
    if x.shape != y.shape:
      x = normalise(_convolve(x, self.width, 1, self.stride))
    return nn.relu(x + y)


class ResNet(nn.Module):
  """Stem → stages of blocks → average over the image → dropout → logits.

  The width doubles and the image halves from each stage to the next. The stem is one convolution
  of stride 1 without pooling, since the images are small.
  """

  stage_sizes: tuple[int, ...]
  width: int
  num_classes: int
  momentum: float
  epsilon: float

  @nn.compact
  def __call__(
    self,
    inputs: jax.Array,
    train: bool,
    dropout_rate: Any = 0.0,
    use_running_average_bn: bool | None = None,
  ) -> jax.Array:
    running = not train if use_running_average_bn is None else use_running_average_bn
    norm = layers_jax.batch_norm(momentum=self.momentum, epsilon=self.epsilon)
    x = nn.relu(norm(_convolve(inputs, self.width, 3), running))
    for stage, size in enumerate(self.stage_sizes):
      for block in range(size):
        stride = 2 if stage and not block else 1
        x = BasicBlock(self.width << stage, stride, self.momentum, self.epsilon)(x, running)
    x = layers_jax.Dropout()(jnp.mean(x, axis=(1, 2)), dropout_rate, train)
    return nn.Dense(self.num_classes)(x)


def build_model(facts: Facts) -> ResNet:
  """The module that `facts.model` describes."""
  return ResNet(
    tuple(facts.model['stage_sizes']),
    facts.model['width'],
    facts.num_classes,
    facts.model['batch_norm_momentum'],
    facts.model['batch_norm_epsilon'],
  )


def _convolve(x: jax.Array, width: int, size: int, stride: int = 1) -> jax.Array:
  """A convolution without bias, to be called within a compact method."""
  edge = size // 2  # the same on both sides, as in PyTorch; 'SAME' would shift a stride of 2
  return nn.Conv(
    width,
    (size, size),
    (stride, stride),
    padding=((edge, edge), (edge, edge)),
    use_bias=False,
    kernel_init=_CONV_INIT,
  )(x)
