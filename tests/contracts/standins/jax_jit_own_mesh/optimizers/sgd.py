"""Gradient descent with momentum."""

from typing import Any, Callable, NamedTuple

import jax

import helpers  # from the submission's folder, not from this one


class Optimizer(NamedTuple):
  """Its functions."""

  init: Callable[..., Any]
  update: Callable[..., Any]


def make(key):
  """Gradient descent with momentum; the key is not needed."""
  del key
  assert helpers.NAME == 'own mesh'

  def update(params, grads, moments, learning_rate):
    moments = jax.tree.map(lambda m, g: 0.9 * m + g, moments, grads)
    return jax.tree.map(lambda p, m: p - learning_rate * m, params, moments), moments

  return Optimizer(lambda params: jax.tree.map(lambda p: p * 0, params), update)
