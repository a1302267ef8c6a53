"""This file has the layers in which flax and PyTorch differ, in flax; see layers_pytorch.py."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

# The name of the axis that a batch is split along, in jax.pmap and in a mesh alike.
BATCH_AXIS = 'batch'


def dropout(x: jax.Array, rate: Any, rng: Any) -> jax.Array:
  """Zeros each number with probability `rate` and scales the rest by 1 / (1 - rate).

  Args:
    x: of any shape.
    rate: from 0 to 1: a Python number, of which 0 costs nothing, or a traced scalar.
    rng: a PRNG key; not looked at where the rate is the Python number 0.

  Raises:
    ValueError: the rate is a Python number below 0 or above 1.
  """
  if _is_number(rate):
    if not 0 <= rate <= 1:
      raise ValueError(f'The dropout rate is {rate!r} and must lie from 0 to 1.')
    if rate == 0:
      return x
  kept_share = jnp.asarray(1 - rate, x.dtype)
  # Two choices instead of one, so that neither the value nor the gradient at rate 1 is 0 * inf.
  scale = jnp.where(kept_share > 0, 1 / jnp.where(kept_share > 0, kept_share, 1), 0)
  kept = jax.random.bernoulli(rng, 1 - rate, x.shape)
  return jnp.where(kept, x * scale, 0)


class Dropout(nn.Module):
  """`dropout` that takes its key from flax's stream 'dropout', and only where it needs one."""

  @nn.compact
  def __call__(self, x: jax.Array, rate: Any, train: bool) -> jax.Array:
    if not train or (_is_number(rate) and rate == 0):
      return x
    return dropout(x, rate, self.make_rng('dropout'))


def batch_norm(**settings: Any) -> nn.BatchNorm:
  """flax's batch norm with one set of statistics for the whole batch, however it is split.

  To be called where the layer is used, within a compact method: inside jax.pmap or jax.shard_map
  over an axis named 'batch' the devices' statistics are averaged over it. Elsewhere there is no
  such axis and no need: under jax.jit the mean over a split array is that of all its parts.
  """
  return nn.BatchNorm(axis_name=BATCH_AXIS if _is_bound(BATCH_AXIS) else None, **settings)


def _is_bound(axis_name: str) -> bool:
  """Whether code that is traced now may reduce over this axis."""
  try:
    jax.lax.psum(1, axis_name)  # of a Python number: known at once, nothing is computed
  except NameError:
    return False
  return True


def _is_number(rate: Any) -> bool:
  return isinstance(rate, int | float | np.number)
