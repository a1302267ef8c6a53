"""Momentum whose matrices are made orthogonal by Newton and Schulz's iteration."""

import torch


def orthogonalise(matrix, steps=5):
  """The nearest orthogonal matrix, roughly."""
  a, b, c = 3.4445, -4.7750, 2.0315
  x = matrix / (matrix.norm() + 1e-7)
  tall = x.size(0) > x.size(1)
  x = x.T if tall else x
  for _ in range(steps):
    gram = x @ x.T
    x = a * x + (b * gram + c * gram @ gram) @ x
  return x.T if tall else x


class Muon(torch.optim.Optimizer):
  """For parameters of two dimensions or more."""

  def __init__(self, params, lr=0.02, momentum=0.95):
    super().__init__(params, dict(lr=lr, momentum=momentum))

  @torch.no_grad()
  def step(self):
    """One step."""
    for group in self.param_groups:
      for p in group['params']:
        buffer = self.state[p].setdefault('momentum', torch.zeros_like(p))
        buffer.mul_(group['momentum']).add_(p.grad)
        ahead = p.grad.add(buffer, alpha=group['momentum'])
        update = orthogonalise(ahead.reshape(len(p), -1)).reshape(p.shape)
        p.add_(update, alpha=-group['lr'])
