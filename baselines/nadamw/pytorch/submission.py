"""NAdamW with warm-up and cosine decay, in PyTorch."""

import torch

from baselines.batches import data_selection, get_batch_size
from baselines.nadamw.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


# torch multiplies beta 1 by 1 - 0.96 ** (step * this) / 2, which is then 1 from the first step.
CONSTANT_MOMENTUM = 1e4


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """NAdamW and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  nadamw = torch.optim.NAdam(
    model_params.parameters(),
    lr=chosen.learning_rate,
    betas=(1.0 - chosen.one_minus_beta_1, chosen.beta_2),
    weight_decay=chosen.weight_decay,
    decoupled_weight_decay=True,
    momentum_decay=CONSTANT_MOMENTUM,
  )
  return start(workload, chosen.warmup_fraction, nadamw)
