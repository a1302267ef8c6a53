"""SGD with Nesterov's momentum, warm-up and cosine decay, in PyTorch."""

import torch

from baselines.batches import data_selection, get_batch_size
from baselines.sgd_nesterov.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """SGD and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  sgd = torch.optim.SGD(
    model_params.parameters(),
    lr=chosen.learning_rate,
    momentum=1.0 - chosen.one_minus_momentum,
    weight_decay=chosen.weight_decay,
    nesterov=True,
  )
  return start(workload, chosen.warmup_fraction, sgd)
