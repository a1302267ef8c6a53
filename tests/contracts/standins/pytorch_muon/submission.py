"""Muon: tunes itself, imports by the layout of the repository it was published in (v0.6)."""

import torch
import torch.distributed.nn as dist_nn

from algoperf import spec
from algoperf.pytorch_utils import pytorch_setup
from submissions.self_tuning.muon_like.optimizers.muon import Muon

USE_DDP, _, DEVICE, _ = pytorch_setup()


def get_batch_size(workload_name):
  if workload_name not in ('digits', 'mnist', 'cifar'):
    raise ValueError(workload_name)
  return 64


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  assert hyperparameters is None
  types = workload.model_params_types
  matrices, others = [], []
  for name, param in model_params.named_parameters():
    key = name[len('module.') :] if name.startswith('module.') else name
    is_matrix = types[key] in (spec.ParameterType.WEIGHT, spec.ParameterType.CONV_WEIGHT)
    (matrices if is_matrix and not workload.is_output_params(key) else others).append(param)
  assert matrices and others
  muon = Muon(matrices, lr=0.02)
  adam = torch.optim.AdamW(others, lr=1e-2)
  return {'optimizers': [muon, adam], 'names': None}


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
  share = train_state['accumulated_submission_time'] / workload.max_allowed_runtime_sec
  assert 0 <= share < 1.5
  current_param_container.zero_grad()
  logits, model_state = workload.model_fn(
    current_param_container, batch, model_state, spec.ForwardPassMode.TRAIN, rng, True
  )
  loss_dict = workload.loss_fn(batch['targets'], logits)
  summed, count = loss_dict['summed'], loss_dict['n_valid_examples']
  if USE_DDP:
    summed, count = dist_nn.all_reduce(summed), dist_nn.all_reduce(count)
  (summed / count).backward()
  for optimizer in optimizer_state['optimizers']:
    optimizer.step()
  return optimizer_state, current_param_container, model_state


def data_selection(workload, input_queue, *_):
  return next(input_queue)
