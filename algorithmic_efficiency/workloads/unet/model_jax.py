"""This file is a U-Net with batch norm, in flax."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from algorithmic_efficiency.frameworks import layers_jax
from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('Conv_0',)

_CONV_INIT = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')


class ConvBlock(nn.Module):
  """Twice a convolution of 3 x 3, batch norm and ReLU; inputs [batch, height, width, channels]."""

  width: int
  momentum: float
  epsilon: float

  @nn.compact
  def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
    for _ in range(2):
      norm = layers_jax.batch_norm(momentum=self.momentum, epsilon=self.epsilon)
      x = nn.Conv(self.width, (3, 3), use_bias=False, kernel_init=_CONV_INIT)(x)
      x = nn.relu(norm(x, use_running_average))
    return x


class UNet(nn.Module):
  """A block a level down, the image halved between them; then up again, beside what went down.

  Dropout, where it is asked for, is at the bottom.
  """

  widths: tuple[int, ...]
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
    *levels, bottom = self.widths
    skipped: list[jax.Array] = []
    x = inputs
    for width in levels:
      skipped.append(ConvBlock(width, self.momentum, self.epsilon)(x, running))
      x = nn.max_pool(skipped[-1], (2, 2), (2, 2))
    x = ConvBlock(bottom, self.momentum, self.epsilon)(x, running)
    x = layers_jax.Dropout()(x, dropout_rate, train)
    for width, beside in zip(levels[::-1], skipped[::-1], strict=True):
      # Each number above has one window, and so as many inputs as there are channels.
      init = nn.initializers.normal(x.shape[-1] ** -0.5)
      x = nn.ConvTranspose(width, (2, 2), (2, 2), kernel_init=init)(x)
      x = jnp.concatenate([x, beside], axis=-1)
      x = ConvBlock(width, self.momentum, self.epsilon)(x, running)
    init = nn.initializers.normal(x.shape[-1] ** -0.5)
    return nn.Conv(self.num_classes, (1, 1), kernel_init=init)(x)


def build_model(facts: Facts) -> UNet:
  """The module that `facts.model` describes."""
  return UNet(
    tuple(facts.model['widths']),
    facts.num_classes,
    facts.model['batch_norm_momentum'],
    facts.model['batch_norm_epsilon'],
  )
