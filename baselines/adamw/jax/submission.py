"""AdamW with warm-up and cosine decay, in JAX."""

import functools

import jax
import jax.numpy as jnp
import optax

from algorithmic_efficiency import jax_sharding_utils, spec
from baselines.adamw.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.schedules import warmup_cosine

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of AdamW."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS

  def learning_rate(step):
    share = warmup_cosine(step, workload.step_hint, chosen.warmup_fraction, numpy=jnp)
    return chosen.learning_rate * share

  adamw = optax.adamw(
    learning_rate,
    b1=1.0 - chosen.one_minus_beta_1,
    b2=chosen.beta_2,
    weight_decay=chosen.weight_decay,
  )
  return jax_sharding_utils.replicate(adamw.init(model_params)), adamw.update


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def train_step(workload, update_fn, model_state, state, params, batch, rng):
  """One step: (state, parameters, model state). Old state and parameters give up their memory."""

  def loss_fn(params):
    logits, new_model_state = workload.model_fn(
      params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
    )
    loss = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
    return loss['summed'] / loss['n_valid_examples'], new_model_state

  grads, model_state = jax.grad(loss_fn, has_aux=True)(params)
  updates, state = update_fn(grads, state, params)
  return state, optax.apply_updates(params, updates), model_state


def update_params(
  workload,
  current_param_container,
  current_params_types,
  model_state,
  hyperparameters,
  batch,
  loss_type,
  optimizer_state,
  eval_results,
  global_step,
  rng,
):
  """Returns (optimizer_state, parameters, model_state)."""
  del current_params_types, hyperparameters, loss_type, eval_results, global_step
  state, update_fn = optimizer_state
  state, params, model_state = train_step(
    workload, update_fn, model_state, state, current_param_container, batch, rng
  )
  return (state, update_fn), params, model_state
