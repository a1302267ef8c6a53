"""Adam at a constant learning rate, in JAX: the shortest complete submission."""

import functools

import jax
import optax

from algorithmic_efficiency import jax_sharding_utils, spec

BATCH_SIZES = {'mnist': 1024, 'digits': 64, 'cifar': 128, 'unet': 64}


def get_batch_size(workload_name):
  """Examples in a batch, over all devices."""
  if workload_name not in BATCH_SIZES:
    raise ValueError(f'no batch size is known for {workload_name!r}')
  return BATCH_SIZES[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """(state, update function) of Adam."""
  del workload, model_state, rng
  adam = optax.adam(
    hyperparameters.learning_rate,
    b1=1.0 - hyperparameters.one_minus_beta_1,
    eps=hyperparameters.epsilon,
  )
  return jax_sharding_utils.replicate(adam.init(model_params)), adam.update


@functools.partial(jax.jit, static_argnums=(0, 1))
def train_step(workload, update_fn, model_state, state, params, batch, rng):
  """One step: (state, parameters, model state)."""

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
  """The next batch, as it comes."""
  del workload, optimizer_state, current_param_container, model_state
  del hyperparameters, global_step, rng
  return next(input_queue)
