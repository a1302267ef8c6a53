"""NadamW with warm-up and cosine decay, mapped over devices with jax.pmap (v0.5)."""

import functools
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from absl import logging
import chex
from flax import jax_utils
import jax
from jax import lax
import jax.numpy as jnp
import optax

from algorithmic_efficiency import spec

_GRAD_CLIP_EPS = 1e-6


class ScaleByNadamState(NamedTuple):
  """Step count and both moments."""

  count: chex.Array
  mu: optax.Updates
  nu: optax.Updates


def scale_by_nadam(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
  """Adam's direction with Nesterov momentum (Dozat, 2016)."""

  def init_fn(params):
    zeros = jax.tree_map(jnp.zeros_like, params)
    return ScaleByNadamState(jnp.zeros([], jnp.int32), zeros, jax.tree_map(jnp.copy, zeros))

  def update_fn(updates, state, params=None):
    del params
    mu = jax.tree_map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
    nu = jax.tree_map(lambda v, g: b2 * v + (1 - b2) * g**2, state.nu, updates)
    count = optax.safe_int32_increment(state.count)
    ahead = jax.tree_map(lambda m, g: b1 * m + (1 - b1) * g, mu, updates)
    mu_hat = jax.tree_map(lambda m: m / (1 - b1**count), ahead)
    nu_hat = jax.tree_map(lambda v: v / (1 - b2**count), nu)
    updates = jax.tree_map(lambda m, v: m / (jnp.sqrt(v) + eps), mu_hat, nu_hat)
    return updates, ScaleByNadamState(count=count, mu=mu, nu=nu)

  return optax.GradientTransformation(init_fn, update_fn)


def init_optimizer_state(
  workload: spec.Workload,
  model_params: spec.ParameterContainer,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  rng: spec.RandomState,
) -> spec.OptimizerState:
  """Replicated optimizer state, and the update function."""
  del model_params, model_state, rng
  warmup = max(1, int(hyperparameters.warmup_factor * workload.step_hint))
  lr_schedule = optax.warmup_cosine_decay_schedule(
    init_value=hyperparameters.learning_rate / 10,
    peak_value=hyperparameters.learning_rate,
    warmup_steps=warmup,
    decay_steps=workload.step_hint,
  )
  opt_init_fn, opt_update_fn = optax.chain(
    scale_by_nadam(1.0 - hyperparameters.one_minus_beta1, 0.99, 1e-8),
    optax.add_decayed_weights(hyperparameters.weight_decay),
    optax.scale_by_learning_rate(lr_schedule),
  )
  params_zeros_like = jax.tree_map(lambda s: jnp.zeros(s.shape_tuple), workload.param_shapes)
  return jax_utils.replicate(opt_init_fn(params_zeros_like)), opt_update_fn


@functools.partial(
  jax.pmap,
  axis_name='batch',
  in_axes=(None, None, 0, 0, 0, 0, 0, None, None),
  static_broadcasted_argnums=(0, 1),
  donate_argnums=(2, 3, 4),
)
def pmapped_train_step(
  workload,
  opt_update_fn,
  model_state,
  optimizer_state,
  current_param_container,
  batch,
  rng,
  grad_clip,
  label_smoothing,
):
  """One step on every device."""

  def _loss_fn(params):
    logits, new_model_state = workload.model_fn(
      params, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
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
  (summed_loss, n_valid_examples, grad) = lax.psum(
    (summed_loss, n_valid_examples, grad), axis_name='batch'
  )
  loss = summed_loss / n_valid_examples
  grad = jax.tree_map(lambda x: x / n_valid_examples, grad)
  grad_norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree_util.tree_leaves(grad)))
  if grad_clip is not None:
    scale = jax.lax.clamp(min=0.0, x=grad_clip / (grad_norm + _GRAD_CLIP_EPS), max=1.0)
    grad = jax.tree_map(lambda x: x * scale, grad)
  updates, new_optimizer_state = opt_update_fn(grad, optimizer_state, current_param_container)
  updated_params = optax.apply_updates(current_param_container, updates)
  return new_optimizer_state, updated_params, new_model_state, loss, grad_norm


def update_params(
  workload: spec.Workload,
  current_param_container: spec.ParameterContainer,
  current_params_types: spec.ParameterTypeTree,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  batch: Dict[str, spec.Tensor],
  loss_type: spec.LossType,
  optimizer_state: spec.OptimizerState,
  eval_results: List[Tuple[int, float]],
  global_step: int,
  rng: spec.RandomState,
) -> spec.UpdateReturn:
  """(optimizer_state, params, model_state)."""
  del current_params_types, loss_type, eval_results
  optimizer_state, opt_update_fn = optimizer_state
  per_device_rngs = jax.random.split(rng, jax.local_device_count())
  label_smoothing = getattr(hyperparameters, 'label_smoothing', 0.0)
  grad_clip: Optional[float] = None
  if hasattr(hyperparameters, 'grad_clip'):
    grad_clip = hyperparameters.grad_clip
  outputs = pmapped_train_step(
    workload,
    opt_update_fn,
    model_state,
    optimizer_state,
    current_param_container,
    batch,
    per_device_rngs,
    grad_clip,
    label_smoothing,
  )
  new_optimizer_state, new_params, new_model_state, loss, grad_norm = outputs
  if global_step % 100 == 0 and workload.metrics_logger is not None:
    logging.info('%d) loss = %0.3f, grad_norm = %0.3f', global_step, loss[0], grad_norm[0])
    workload.metrics_logger.append_scalar_metrics(
      {'loss': loss[0], 'grad_norm': grad_norm[0]}, global_step
    )
  return (new_optimizer_state, opt_update_fn), new_params, new_model_state


def get_batch_size(workload_name):
  """Examples in a batch over all devices."""
  if workload_name == 'criteo1tb':
    return 262_144
  elif workload_name == 'imagenet_resnet':
    return 1024
  elif workload_name == 'cifar':
    return 128
  elif workload_name in ('digits', 'mnist'):
    return 64
  else:
    raise ValueError(f'Unsupported workload name: {workload_name}.')


def data_selection(
  workload: spec.Workload,
  input_queue: Iterator[Dict[str, Any]],
  optimizer_state: spec.OptimizerState,
  current_param_container: spec.ParameterContainer,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  global_step: int,
  rng: spec.RandomState,
) -> Dict[str, spec.Tensor]:
  """The next batch."""
  del workload, optimizer_state, current_param_container, model_state
  del hyperparameters, global_step, rng
  return next(input_queue)
