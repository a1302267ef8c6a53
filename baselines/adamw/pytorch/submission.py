"""AdamW with warm-up and cosine decay, in PyTorch."""

import torch

from baselines.adamw.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """AdamW and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  adamw = torch.optim.AdamW(
    model_params.parameters(),
    lr=chosen.learning_rate,
    betas=(1.0 - chosen.one_minus_beta_1, chosen.beta_2),
    weight_decay=chosen.weight_decay,
  )
  return start(workload, chosen.warmup_fraction, adamw)
