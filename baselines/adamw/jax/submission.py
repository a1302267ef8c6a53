"""AdamW with warm-up and cosine decay, in JAX."""

import optax

from baselines.adamw.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of AdamW."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  adamw = optax.adamw(
    rate,
    b1=1.0 - chosen.one_minus_beta_1,
    b2=chosen.beta_2,
    weight_decay=chosen.weight_decay,
  )
  return start(adamw, model_params)
