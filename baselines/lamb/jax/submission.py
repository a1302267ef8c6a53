"""LAMB with warm-up and cosine decay, in JAX."""

import optax

from baselines.batches import data_selection, get_batch_size
from baselines.lamb.defaults import DEFAULTS
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of LAMB."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  lamb = optax.lamb(
    rate,
    b1=1.0 - chosen.one_minus_beta_1,
    b2=chosen.beta_2,
    weight_decay=chosen.weight_decay,
  )
  return start(lamb, model_params)
