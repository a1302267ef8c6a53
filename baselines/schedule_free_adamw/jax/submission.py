"""Schedule-free AdamW, in JAX."""

import jax.numpy as jnp
import optax

from baselines import training_jax
from baselines.batches import data_selection, get_batch_size
from baselines.schedule_free_adamw.defaults import DEFAULTS

__all__ = [
  'data_selection',
  'get_batch_size',
  'init_optimizer_state',
  'prepare_for_eval',
  'update_params',
]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function); after an evaluation the parameters that are trained, too."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  warmup = max(1, int(chosen.warmup_fraction * workload.step_hint))

  def rate(step):
    return chosen.learning_rate * jnp.minimum(1.0, step / warmup)

  adamw = optax.chain(
    optax.scale_by_rms(chosen.beta_2, eps_in_sqrt=False, bias_correction=True),
    optax.add_decayed_weights(chosen.weight_decay),
    optax.scale_by_learning_rate(lambda step: rate(step + 1)),  # it counts from 0
  )
  averaged = optax.contrib.schedule_free(adamw, rate, b1=1.0 - chosen.one_minus_beta_1)
  return training_jax.start(averaged, model_params)


def update_params(*, current_param_container, optimizer_state, **given):
  """Returns (optimizer_state, parameters, model_state)."""
  state, update_fn, *kept = optimizer_state
  (params,) = kept or [current_param_container]
  return training_jax.update_params(
    current_param_container=params, optimizer_state=(state, update_fn), **given
  )


def prepare_for_eval(*, current_param_container, optimizer_state, model_state, **given):
  """Gives the averaged parameters, and keeps those that training goes on with."""
  del given
  state, update_fn, *kept = optimizer_state
  (params,) = kept or [current_param_container]
  averaged = optax.contrib.schedule_free_eval_params(state, params)
  return (state, update_fn, params), averaged, model_state
