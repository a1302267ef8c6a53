"""Sharpness-aware minimization around SGD with momentum, in JAX."""

import optax

from baselines.batches import data_selection, get_batch_size
from baselines.sam.defaults import DEFAULTS
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of SAM."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  sgd = optax.chain(
    optax.add_decayed_weights(chosen.weight_decay),
    optax.sgd(rate, momentum=1.0 - chosen.one_minus_momentum),
  )
  uphill = optax.chain(optax.contrib.normalize(), optax.sgd(chosen.rho))
  return start(optax.contrib.sam(sgd, uphill, opaque_mode=True), model_params)
