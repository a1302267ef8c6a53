"""The study's CNN in PyTorch, and steps that train it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

Step = Callable[[np.ndarray, np.ndarray], float]
LEARNING_RATE, DECAY, EPSILON = 1e-4, 0.9, 1e-7  # Keras's RMSprop


def build(seed: int) -> tuple[Step, Step, int]:
  """(a step on a batch, the loss on a batch, number of parameters)."""
  torch.manual_seed(seed)
  layers: list[nn.Module] = []
  for inputs, filters in ((3, 32), (32, 64)):
    layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(filters, filters, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)]
  layers += [nn.Flatten(), nn.Linear(2304, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 10)]
  model = nn.Sequential(*layers)
  optimizer = torch.optim.RMSprop(model.parameters(), LEARNING_RATE, alpha=DECAY, eps=EPSILON)

  def loss_of(images: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    inputs = torch.from_numpy(images).permute(0, 3, 1, 2)
    return nn.functional.cross_entropy(model(inputs), torch.from_numpy(labels))

  def step(images: np.ndarray, labels: np.ndarray) -> float:
    model.train()
    optimizer.zero_grad()
    loss = loss_of(images, labels)
    loss.backward()
    optimizer.step()
    return loss.item()

  def validate(images: np.ndarray, labels: np.ndarray) -> float:
    model.eval()
    with torch.no_grad():
      return loss_of(images, labels).item()

  return step, validate, sum(part.numel() for part in model.parameters())
