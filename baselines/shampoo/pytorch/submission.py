"""Shampoo with warm-up and cosine decay, in PyTorch."""

from pytorch_optimizer import Shampoo

from baselines.batches import data_selection, get_batch_size
from baselines.shampoo.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """Shampoo and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  shampoo = Shampoo(
    model_params.parameters(),
    lr=chosen.learning_rate,
    weight_decay=chosen.weight_decay,
    matrix_eps=chosen.epsilon,
  )
  return start(workload, chosen.warmup_fraction, shampoo)
