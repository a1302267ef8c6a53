"""LAMB with warm-up and cosine decay, in PyTorch."""

import torch

from baselines.batches import data_selection, get_batch_size
from baselines.lamb.defaults import DEFAULTS
from baselines.training_pytorch import start, update_params

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


EPSILON = 1e-6  # the paper's and optax's


class Lamb(torch.optim.Adam):
  """Adam, each parameter's step stretched to that parameter's length (You et al., 2020, alg. 2)."""

  def __init__(self, params, decay, **options):
    super().__init__(params, **options)
    self.decay = decay

  @torch.no_grad()
  def step(self, closure=None):
    """Lets Adam make a step of learning rate 1, and takes that as a direction."""
    rates = [group['lr'] for group in self.param_groups]
    before = [[p.clone() for p in group['params']] for group in self.param_groups]
    for group in self.param_groups:
      group['lr'] = 1.0
    loss = super().step(closure)
    for group, rate, olds in zip(self.param_groups, rates, before, strict=True):
      group['lr'] = rate
      for new, old in zip(group['params'], olds, strict=True):
        direction = (old - new).add_(old, alpha=self.decay)
        ratio = old.norm() / direction.norm()
        ratio = torch.where(torch.isfinite(ratio) & (ratio > 0), ratio, 1.0)
        new.copy_(old - rate * ratio * direction)
    return loss


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """LAMB and its learning rate's course."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  lamb = Lamb(
    model_params.parameters(),
    lr=chosen.learning_rate,
    betas=(1.0 - chosen.one_minus_beta_1, chosen.beta_2),
    eps=EPSILON,
    decay=chosen.weight_decay,
  )
  return start(workload, chosen.warmup_fraction, lamb)
