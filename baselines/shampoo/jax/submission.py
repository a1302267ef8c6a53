"""Shampoo with warm-up and cosine decay, in JAX."""

import optax

from baselines.batches import data_selection, get_batch_size
from baselines.shampoo.defaults import DEFAULTS
from baselines.shampoo.shampoo_jax import scale_by_shampoo
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of Shampoo."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  rule = optax.chain(
    optax.add_decayed_weights(chosen.weight_decay),
    scale_by_shampoo(chosen.epsilon),
    optax.scale_by_learning_rate(rate),
  )
  return start(rule, model_params)
