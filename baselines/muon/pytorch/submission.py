"""Muon for matrices, AdamW for all else, with warm-up and cosine decay, in PyTorch."""

from torch.optim import AdamW, Muon

from baselines.batches import data_selection, get_batch_size
from baselines.muon.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """Muon and AdamW and their learning rates' course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  params = list(model_params.parameters())
  matrices = [p for p in params if p.ndim == 2]
  others = [p for p in params if p.ndim != 2]
  decay, optimizers = chosen.weight_decay, []  # none is made for no parameters
  if matrices:
    momentum = 1.0 - chosen.one_minus_momentum
    optimizers += [Muon(matrices, chosen.learning_rate, decay, momentum)]
  if others:
    optimizers += [AdamW(others, chosen.adamw_learning_rate, weight_decay=decay)]
  return start(workload, chosen.warmup_fraction, *optimizers)
