"""AdamW compiled with shardings of the mesh `batch` (0.6.0 and later)."""

import functools

import jax
import jax.numpy as jnp
import optax

from algoperf import jax_sharding_utils, spec


def get_batch_size(workload_name):
  sizes = {'imagenet_vit': 1024, 'cifar': 128, 'mnist': 64, 'digits': 64}
  if workload_name not in sizes:
    raise ValueError(f'Unsupported workload name: {workload_name}.')
  return sizes[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  del model_params, model_state, rng
  decays = jax.tree_util.tree_map(
    lambda kind: kind in (spec.ParameterType.WEIGHT, spec.ParameterType.CONV_WEIGHT),
    workload.model_params_types,
  )
  opt_init_fn, opt_update_fn = optax.adamw(
    hyperparameters.learning_rate, weight_decay=hyperparameters.weight_decay, mask=decays
  )
  params_zeros_like = jax.tree.map(lambda s: jnp.zeros(s.shape_tuple), workload.param_shapes)
  return jax_sharding_utils.replicate(opt_init_fn(params_zeros_like)), opt_update_fn


def train_step(
  workload,
  opt_update_fn,
  model_state,
  optimizer_state,
  current_param_container,
  batch,
  rng,
  grad_clip,
  label_smoothing,
  dropout_rate,
):
  def _loss_fn(params):
    logits, new_model_state = workload.model_fn(
      params,
      batch,
      model_state,
      spec.ForwardPassMode.TRAIN,
      rng,
      update_batch_norm=True,
      dropout_rate=dropout_rate,
    )
    loss_dict = workload.loss_fn(
      label_batch=batch['targets'],
      logits_batch=logits,
      mask_batch=batch.get('weights'),
      label_smoothing=label_smoothing,
    )
    return loss_dict['summed'], (loss_dict['n_valid_examples'], new_model_state)

  grad_fn = jax.value_and_grad(_loss_fn, has_aux=True)
  (summed_loss, (n_valid_examples, new_model_state)), grad = grad_fn(current_param_container)
  loss = summed_loss / n_valid_examples
  grad = jax.tree.map(lambda x: x / n_valid_examples, grad)
  grad_norm = optax.global_norm(grad)
  grad = jax.tree.map(lambda x: x * jnp.minimum(1.0, grad_clip / (grad_norm + 1e-6)), grad)
  updates, new_optimizer_state = opt_update_fn(grad, optimizer_state, current_param_container)
  updated_params = optax.apply_updates(current_param_container, updates)
  return new_optimizer_state, updated_params, new_model_state, loss, grad_norm


@functools.cache
def _compiled():
  replicated = jax_sharding_utils.get_replicate_sharding()
  sharded = jax_sharding_utils.get_batch_dim_sharding()
  return jax.jit(
    train_step,
    static_argnums=(0, 1),
    donate_argnums=(2, 3, 4),
    in_shardings=(
      replicated,  # model_state
      replicated,  # optimizer_state
      replicated,  # current_param_container
      sharded,  # batch
      replicated,  # rng
      replicated,  # grad_clip
      replicated,  # label_smoothing
      replicated,  # dropout_rate
    ),
    out_shardings=(replicated, replicated, replicated, replicated, replicated),
  )


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
  train_state=None,
):
  del current_params_types, loss_type, eval_results, train_state
  optimizer_state, opt_update_fn = optimizer_state
  new_optimizer_state, new_params, new_model_state, loss, grad_norm = _compiled()(
    workload,
    opt_update_fn,
    model_state,
    optimizer_state,
    current_param_container,
    batch,
    rng,
    1.0,
    0.1,
    hyperparameters.dropout_rate,
  )
  if global_step % 100 == 0 and workload.metrics_logger is not None:
    workload.metrics_logger.append_scalar_metrics(
      {'loss': loss.item(), 'grad_norm': grad_norm.item()}, global_step
    )
  return (new_optimizer_state, opt_update_fn), new_params, new_model_state


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
