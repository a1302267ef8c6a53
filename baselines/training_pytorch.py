"""This file is what the PyTorch baselines share: a step of training by any optimizer."""

import torch

from algorithmic_efficiency import spec
from baselines.schedules import warmup_cosine


def start(workload, warmup_fraction, *optimizers, looks_again=False):
  """The optimizer state: optimizers, and their learning rates' warm-up and cosine decay.

  Args:
    workload: whose step hint the schedule runs over.
    warmup_fraction: share of the steps that warm up.
    *optimizers: each for some of the parameters; their learning rates are the peaks.
    looks_again: whether a step needs the gradient at other parameters (then there is one optimizer,
      whose `step` takes a function that computes it).
  """

  def share(step):
    return warmup_cosine(step, workload.step_hint, warmup_fraction)

  schedulers = [torch.optim.lr_scheduler.LambdaLR(each, share) for each in optimizers]
  return {'optimizers': list(optimizers), 'schedulers': schedulers, 'looks_again': looks_again}


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
  optimizers = optimizer_state['optimizers']

  def backward(update_batch_norm=False):
    logits, new_model_state = workload.model_fn(
      current_param_container,
      batch,
      model_state,
      spec.ForwardPassMode.TRAIN,
      rng,
      update_batch_norm,
    )
    loss = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
    (loss['summed'] / loss['n_valid_examples']).backward()
    return new_model_state

  for optimizer in optimizers:
    optimizer.zero_grad(set_to_none=True)
  new_model_state = backward(update_batch_norm=True)
  for optimizer in optimizers:
    optimizer.step(*[backward] * optimizer_state['looks_again'])
  for scheduler in optimizer_state['schedulers']:
    scheduler.step()
  return optimizer_state, current_param_container, new_model_state
