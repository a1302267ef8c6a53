"""This file is Shampoo's preconditioning as a transformation for optax, which has none."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class ShampooState(NamedTuple):
  """For each parameter, a list with a matrix for each of its dimensions."""

  statistics: Any


def scale_by_shampoo(epsilon):
  """Preconditions gradients along every dimension (Gupta, Koren and Singer, ICML 2018, alg. 2).

  The matrix of dimension i starts as epsilon times the identity and gathers G G', where G is the
  gradient unfolded along i. A gradient of k dimensions is multiplied along each by that matrix to
  the power -1/(2k), taken anew at every step.

  Args:
    epsilon: what the matrices start with, and the least eigenvalue they are taken to have.
  """

  def init(params):
    return ShampooState(
      jax.tree.map(lambda p: [epsilon * jnp.eye(n, dtype=p.dtype) for n in p.shape], params)
    )

  def gather(grad, matrices):
    unfolded = [_unfold(grad, axis) for axis in range(grad.ndim)]
    return [matrix + g @ g.T for matrix, g in zip(matrices, unfolded, strict=True)]

  def precondition(grad, matrices):
    for axis, matrix in enumerate(matrices):
      power = _inverse_root(matrix, 2 * grad.ndim, epsilon)
      grad = jnp.moveaxis(jnp.tensordot(power, grad, (1, axis)), 0, axis)
    return grad

  def update(updates, state, params=None):
    del params
    statistics = jax.tree.map(gather, updates, state.statistics)
    return jax.tree.map(precondition, updates, statistics), ShampooState(statistics)

  return optax.GradientTransformation(init, update)


def _unfold(x, axis):
  return jnp.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


def _inverse_root(matrix, order, least):
  """A symmetric matrix to the power -1 / order. Rounding may leave tiny eigenvalues below zero."""
  values, vectors = jnp.linalg.eigh(matrix)
  return vectors * jnp.maximum(values, least) ** (-1 / order) @ vectors.T
