"""Adam at a constant learning rate, in PyTorch: the shortest complete submission."""

import torch

from algorithmic_efficiency import spec

BATCH_SIZES = {'mnist': 1024, 'digits': 64, 'cifar': 128, 'unet': 64}


def get_batch_size(workload_name):
  """Examples in a batch, over all devices."""
  if workload_name not in BATCH_SIZES:
    raise ValueError(f'no batch size is known for {workload_name!r}')
  return BATCH_SIZES[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """{'optimizer': Adam}."""
  del workload, model_state, rng
  adam = torch.optim.Adam(
    model_params.parameters(),
    lr=hyperparameters.learning_rate,
    betas=(1.0 - hyperparameters.one_minus_beta_1, 0.999),
    eps=hyperparameters.epsilon,
  )
  return {'optimizer': adam}


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
  optimizer = optimizer_state['optimizer']
  optimizer.zero_grad(set_to_none=True)
  logits, model_state = workload.model_fn(
    current_param_container,
    batch,
    model_state,
    spec.ForwardPassMode.TRAIN,
    rng,
    update_batch_norm=True,
  )
  loss = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
  (loss['summed'] / loss['n_valid_examples']).backward()
  optimizer.step()
  return optimizer_state, current_param_container, model_state


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
