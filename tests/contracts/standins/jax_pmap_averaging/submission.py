"""Momentum with averaged weights for evaluation, mapped with jax.pmap under `algoperf` (v0.6)."""

import functools

from flax import jax_utils
import jax
import jax.numpy as jnp
import optax

from algoperf import spec

from . import averaging
from .helpers import size_of


def get_batch_size(workload_name):
  return size_of(workload_name)


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  del model_state, rng
  opt_init_fn, opt_update_fn = optax.sgd(
    hyperparameters.learning_rate, momentum=hyperparameters.momentum
  )
  params = jax_utils.unreplicate(model_params)
  assert len(jax.tree_leaves(params)) == len(jax.tree_util.tree_leaves(workload.param_shapes))
  state = {
    'sgd': jax_utils.replicate(opt_init_fn(params)),
    'average': averaging.start(model_params),
    'live': model_params,
    'evaluating': jax_utils.replicate(jnp.zeros([], bool)),
  }
  return state, opt_update_fn


@functools.partial(
  jax.pmap, axis_name='batch', in_axes=(None, None, 0, 0, 0, 0, 0), static_broadcasted_argnums=(0, 1)
)
def train_step(workload, opt_update_fn, model_state, opt_state, params, batch, rng):
  def mean_loss(params):
    logits, new_model_state = workload.model_fn(
      params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
    )
    loss = workload.loss_fn(batch['targets'], logits)
    return loss['summed'] / loss['n_valid_examples'], new_model_state

  (_, new_model_state), grad = jax.value_and_grad(mean_loss, has_aux=True)(params)
  grad = jax.lax.pmean(grad, axis_name='batch')
  updates, opt_state = opt_update_fn(grad, opt_state, params)
  return opt_state, optax.apply_updates(params, updates), new_model_state


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
  train_state,
):
  del current_params_types, hyperparameters, loss_type, eval_results
  assert train_state['accumulated_submission_time'] >= 0 and not train_state['training_complete']
  state, opt_update_fn = optimizer_state
  if jax_utils.unreplicate(state['evaluating']):  # the averaged weights were swapped in
    current_param_container = state['live']
  rngs = jax.random.split(jax.random.fold_in(rng, global_step), jax.local_device_count())
  sgd, params, model_state = train_step(
    workload, opt_update_fn, model_state, state['sgd'], current_param_container, batch, rngs
  )
  state = {
    'sgd': sgd,
    'average': averaging.update(state['average'], params),
    'live': params,
    'evaluating': jnp.zeros_like(state['evaluating']),
  }
  return (state, opt_update_fn), params, model_state


def prepare_for_eval(
  workload,
  current_param_container,
  current_params_types,
  model_state,
  hyperparameters,
  loss_type,
  optimizer_state,
  eval_results,
  global_step,
  rng,
):
  del workload, current_param_container, current_params_types, hyperparameters
  del loss_type, eval_results, global_step, rng
  state, opt_update_fn = optimizer_state
  state = {**state, 'evaluating': jnp.ones_like(state['evaluating'])}
  return (state, opt_update_fn), state['average'], model_state


def data_selection(
  workload,
  input_queue,
  optimizer_state,
  current_param_container,
  model_state,
  hyperparameters,
  global_step,
  rng,
):
  return next(input_queue)
