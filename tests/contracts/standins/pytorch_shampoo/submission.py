"""Shampoo, with the three forms of import that its published package uses (v0.5)."""

import torch

import submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21.external_tuning.shampoo_submission.optimizers.graft as graft
from algorithmic_efficiency import spec
from algorithmic_efficiency.pytorch_utils import pytorch_setup
from submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21.external_tuning.shampoo_submission.optimizers.distributed_shampoo import DistributedShampoo
from submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21.external_tuning.shampoo_submission.optimizers.utils.matrix_functions import inverse_root

_, RANK, DEVICE, _ = pytorch_setup()


def get_batch_size(workload_name):
  if workload_name not in ('digits', 'mnist', 'cifar'):
    raise ValueError(workload_name)
  return 64


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  identity = torch.eye(3)
  assert torch.allclose(inverse_root(identity, 4), identity, atol=1e-3)
  optimizer = DistributedShampoo(
    model_params.parameters(),
    lr=hyperparameters.learning_rate,
    graft=graft.norm_of,
    num_trainers_per_group=8,
  )
  return {'optimizer': optimizer, 'hyperparameters': hyperparameters, 'step': 0, 'tag': 'shampoo'}


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
  import submissions.submissions_algorithms_v0_5.AlgoPerf_Team_21.external_tuning.shampoo_submission.optimizers.graft as again

  assert again is graft and optimizer_state['step'] == global_step
  optimizer_state['step'] += 1
  current_param_container.zero_grad()
  logits, model_state = workload.model_fn(
    current_param_container, batch, model_state, spec.ForwardPassMode.TRAIN, rng, True
  )
  loss = workload.loss_fn(batch['targets'], logits)
  (loss['summed'] / loss['n_valid_examples']).backward()
  optimizer_state['optimizer'].step()
  return optimizer_state, current_param_container, model_state


def data_selection(workload, input_queue, *_):
  return next(input_queue)
