"""SGD with Nesterov's momentum, warm-up and cosine decay, in JAX."""

import optax

from baselines.batches import data_selection, get_batch_size
from baselines.sgd_nesterov.defaults import DEFAULTS
from baselines.training_jax import learning_rate, start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of SGD."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  rate = learning_rate(workload, chosen.learning_rate, chosen.warmup_fraction)
  sgd = optax.chain(
    optax.add_decayed_weights(chosen.weight_decay),
    optax.sgd(rate, momentum=1.0 - chosen.one_minus_momentum, nesterov=True),
  )
  return start(sgd, model_params)
