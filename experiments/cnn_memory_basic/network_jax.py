"""The study's CNN in flax, and steps that train it."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

Step = Callable[[np.ndarray, np.ndarray], float]
LEARNING_RATE, DECAY, EPSILON = 1e-4, 0.9, 1e-7  # Keras's RMSprop


class Cnn(nn.Module):
  """Keras's example for CIFAR-10."""

  @nn.compact
  def __call__(self, images: jax.Array, train: bool) -> jax.Array:
    """(batch, 32, 32, 3) float32 -> (batch, 10) logits."""
    x = images
    for filters in (32, 64):
      x = nn.relu(nn.Conv(filters, (3, 3), padding='SAME')(x))
      x = nn.relu(nn.Conv(filters, (3, 3), padding='VALID')(x))
      x = nn.max_pool(x, (2, 2), (2, 2))
      x = nn.Dropout(0.25, deterministic=not train)(x)
    x = nn.relu(nn.Dense(512)(x.reshape(len(x), -1)))
    x = nn.Dropout(0.5, deterministic=not train)(x)
    return nn.Dense(10)(x)


def initial(model: Cnn, seed: int) -> Any:
  """Weights drawn by numpy as flax draws them, but at once: XLA takes ten seconds for these few."""
  shapes = jax.eval_shape(
    lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), False), jax.random.key(0)
  )
  draw = np.random.default_rng(seed)

  def drawn(shape: jax.ShapeDtypeStruct) -> jax.Array:
    if len(shape.shape) == 1:
      return jnp.asarray(np.zeros(shape.shape, np.float32))
    deviation = 1 / np.sqrt(np.prod(shape.shape[:-1]))
    return jnp.asarray(deviation * draw.standard_normal(shape.shape, np.float32))

  return jax.tree.map(drawn, shapes)


def build(seed: int) -> tuple[Step, Step, int]:
  """(a step on a batch, the loss on a batch, number of parameters); both wait for the result."""
  model = Cnn()
  # This generator compiles in a part of the time; dropout asks no more of it.
  key = jax.random.key(seed, impl='rbg')
  params = initial(model, seed)
  optimizer = optax.rmsprop(LEARNING_RATE, decay=DECAY, eps=EPSILON)
  state = params, optimizer.init(params), key

  def loss_of(params, images, labels, train, key):
    logits: Any = model.apply(params, images, train, rngs={'dropout': key})
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

  def update(state, images, labels):
    params, moments, key = state
    key, now = jax.random.split(key)
    loss, gradients = jax.value_and_grad(loss_of)(params, images, labels, True, now)
    changes, moments = optimizer.update(gradients, moments, params)
    return (optax.apply_updates(params, changes), moments, key), loss

  update = jax.jit(update, donate_argnums=0)
  told = jax.jit(lambda params, images, labels: loss_of(params, images, labels, False, key))

  def step(images: np.ndarray, labels: np.ndarray) -> float:
    nonlocal state
    state, loss = update(state, images, labels)
    jax.block_until_ready(state)
    return float(loss)

  def validate(images: np.ndarray, labels: np.ndarray) -> float:
    return float(told(state[0], images, labels))

  return step, validate, sum(part.size for part in jax.tree.leaves(params))
