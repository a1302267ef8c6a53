"""Adafactor with warm-up and cosine decay, in PyTorch."""

import torch

from baselines.adafactor.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


# torch squares the first, which then is the paper's and optax's 1e-30.
EPSILONS = (1e-15, 1e-3)


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """Adafactor and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  adafactor = torch.optim.Adafactor(
    model_params.parameters(),
    lr=chosen.learning_rate,
    beta2_decay=-chosen.decay_exponent,
    eps=EPSILONS,
    weight_decay=chosen.weight_decay,
  )
  return start(workload, chosen.warmup_fraction, adafactor)
