"""A script as one would write it by hand, up to its first step on the digits, in JAX."""

import json
import sys
import time
from typing import cast

import flax.linen as nn
import jax
import numpy as np
import optax


class MLP(nn.Module):
  """64-128-10 with ReLU."""

  @nn.compact
  def __call__(self, x):
    x = x.reshape(x.shape[0], -1)
    return nn.Dense(10)(nn.relu(nn.Dense(128)(x)))


data = np.load(sys.argv[1])
images = ((data['images'] / 16.0 - 0.305) / 0.376).astype(np.float32)
labels = data['labels'].astype(np.int32)
model = MLP()
params = jax.jit(model.init)(jax.random.PRNGKey(0), images[:1])
adam = optax.adam(1e-3)
state = adam.init(params)


@jax.jit
def train_step(params, state, inputs, targets):
  """One step of Adam."""

  def loss(params):
    logits = cast(jax.Array, model.apply(params, inputs))
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

  updates, state = adam.update(jax.grad(loss)(params), state)
  return optax.apply_updates(params, updates), state


order = np.random.default_rng(0).permutation(1197)[:64]
params, state = train_step(params, state, images[order], labels[order])
jax.block_until_ready(params)
print(json.dumps({'first_step_at': time.time()}))
