"""Schedule-free AdamW, in PyTorch."""

import torch
from schedulefree import AdamWScheduleFree

from baselines import training_pytorch
from baselines.batches import data_selection, get_batch_size
from baselines.schedule_free_adamw.defaults import DEFAULTS

__all__ = [
  'data_selection',
  'get_batch_size',
  'init_optimizer_state',
  'prepare_for_eval',
  'update_params',
]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """The optimizer; after an evaluation, as 'trained', the parameters that are trained."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  adamw = AdamWScheduleFree(
    model_params.parameters(),
    lr=chosen.learning_rate,
    betas=(1.0 - chosen.one_minus_beta_1, chosen.beta_2),
    weight_decay=chosen.weight_decay,
    warmup_steps=max(1, int(chosen.warmup_fraction * workload.step_hint)),
  )
  adamw.train()
  return {'optimizers': [adamw], 'schedulers': [], 'looks_again': False, 'trained': None}


def update_params(*, current_param_container, optimizer_state, **given):
  """Returns (optimizer_state, parameters, model_state)."""
  trained, optimizer_state['trained'] = optimizer_state['trained'], None
  if trained is not None:
    optimizer_state['optimizers'][0].train()
    _copy(trained, current_param_container)  # exactly: evaluations must not change the training
  return training_pytorch.update_params(
    current_param_container=current_param_container, optimizer_state=optimizer_state, **given
  )


def prepare_for_eval(*, current_param_container, optimizer_state, model_state, **given):
  """Puts the averaged parameters in place, and keeps those that training goes on with."""
  del given
  if optimizer_state['trained'] is None:
    optimizer_state['trained'] = [p.detach().clone() for p in current_param_container.parameters()]
    optimizer_state['optimizers'][0].eval()
  return optimizer_state, current_param_container, model_state


@torch.no_grad()
def _copy(values, module):
  for param, value in zip(module.parameters(), values, strict=True):
    param.copy_(value)
