"""Shampoo (Gupta, Koren, Singer, 2018) for matrices up to 512 wide; gradient descent for others."""

import torch

from .utils.matrix_functions import inverse_root


class DistributedShampoo(torch.optim.Optimizer):
  """Preconditions each side of a matrix; `graft` gives the length of the step."""

  def __init__(self, params, lr, graft, num_trainers_per_group=-1):
    super().__init__(params, dict(lr=lr))
    self._graft = graft
    self._group_size = num_trainers_per_group

  @torch.no_grad()
  def step(self):
    """One step."""
    for group in self.param_groups:
      for p in group['params']:
        grad, update = p.grad, p.grad
        if p.ndim == 2 and max(p.shape) <= 512:
          state = self.state[p]
          if not state:
            state['left'] = 1e-3 * torch.eye(p.shape[0])
            state['right'] = 1e-3 * torch.eye(p.shape[1])
          state['left'] += grad @ grad.T
          state['right'] += grad.T @ grad
          update = inverse_root(state['left'], 4) @ grad @ inverse_root(state['right'], 4)
          update = update * (self._graft(grad) / (update.norm() + 1e-12))
        p.add_(update, alpha=-group['lr'])
