"""This file is what the JAX baselines share: a step of training by any of optax's update rules."""

import functools

import jax
import jax.numpy as jnp
import optax

from algorithmic_efficiency import jax_sharding_utils, spec
from baselines.schedules import warmup_cosine


def learning_rate(workload, peak, warmup_fraction):
  """The learning rate by step: warm-up to `peak` and cosine decay over the step hint."""
  return lambda step: peak * warmup_cosine(step, workload.step_hint, warmup_fraction, numpy=jnp)


def start(rule, params):
  """(state, update function) of an optax update rule, on every device."""
  return jax_sharding_utils.replicate(rule.init(params)), optax.with_extra_args_support(rule).update


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=(3, 4))
def train_step(workload, update_fn, model_state, state, params, batch, rng):
  """One step: (state, parameters, model state). Old state and parameters give up their memory.

  An update rule that asks for the gradient at other parameters gets it for the same batch, with
  other dropout; the model's state remembers the first pass alone.
  """

  def loss_fn(params, rng, update_batch_norm):
    logits, new_model_state = workload.model_fn(
      params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm
    )
    loss = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
    return loss['summed'] / loss['n_valid_examples'], new_model_state

  grad = jax.grad(loss_fn, has_aux=True)

  def grad_elsewhere(params, index):
    return grad(params, jax.random.fold_in(rng, index + 1), False)[0]

  grads, model_state = grad(params, rng, True)
  updates, state = update_fn(grads, state, params, grad_fn=grad_elsewhere)
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
