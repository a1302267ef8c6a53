"""Muon for matrices, AdamW for all else, with warm-up and cosine decay, in JAX."""

import jax
import optax

from baselines.batches import data_selection, get_batch_size
from baselines.muon.defaults import DEFAULTS
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def are_matrices(params):
  """Which parameters are Muon's."""
  return jax.tree.map(lambda x: x.ndim == 2, params)


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of Muon and AdamW."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  adamw_rate = learning_rate(workload, chosen.adamw_learning_rate, chosen.warmup_fraction)
  momentum = optax.trace(1.0 - chosen.one_minus_momentum, nesterov=True)
  muon = optax.contrib.muon(
    rate,
    beta=0.0,
    nesterov=False,
    weight_decay=chosen.weight_decay,
    adam_learning_rate=adamw_rate,
    adam_weight_decay=chosen.weight_decay,
  )
  return start(optax.chain(optax.masked(momentum, are_matrices), muon), model_params)
