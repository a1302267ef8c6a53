"""Sharpness-aware minimization around SGD with momentum, in PyTorch."""

import torch
from pytorch_optimizer import SAM

from baselines.batches import data_selection, get_batch_size
from baselines.sam.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """SAM and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  sam = SAM(
    model_params.parameters(),
    torch.optim.SGD,
    rho=chosen.rho,
    lr=chosen.learning_rate,
    momentum=1.0 - chosen.one_minus_momentum,
    weight_decay=chosen.weight_decay,
  )
  return start(workload, chosen.warmup_fraction, sam, looks_again=True)
