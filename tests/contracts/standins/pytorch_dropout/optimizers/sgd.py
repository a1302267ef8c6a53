"""Gradient descent with momentum."""

import torch

from helpers import NAME


def make(model, learning_rate):
  """The optimizer."""
  assert NAME == 'dropout'
  return torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
