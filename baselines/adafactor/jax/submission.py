"""Adafactor with warm-up and cosine decay, in JAX."""

import jax.numpy as jnp
import optax

from baselines.adafactor.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of Adafactor."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  adafactor = optax.adafactor(
    lambda step: jnp.minimum(rate(step), (step + 1.0) ** -0.5),
    min_dim_size_to_factor=1,
    decay_rate=chosen.decay_exponent,
    weight_decay_rate=lambda step: chosen.weight_decay * rate(step),
  )
  return start(adafactor, model_params)
