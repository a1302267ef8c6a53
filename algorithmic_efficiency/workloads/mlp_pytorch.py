"""This file is a perceptron with one hidden layer, in PyTorch."""

import functools
import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('output.weight', 'output.bias')


class MLP(nn.Module):
  """inputs → hidden → activation → dropout → logits; inputs [batch, ...] are flattened."""

  def __init__(self, num_inputs: int, hidden: int, activation: str, num_classes: int) -> None:
    super().__init__()
    self.hidden = nn.Linear(num_inputs, hidden)
    self.output = nn.Linear(hidden, num_classes)
    self.activation = getattr(torch, activation)
    for layer in (self.hidden, self.output):
      _init_like_flax(layer)

  def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
    x = self.activation(self.hidden(inputs.flatten(1)))
    if dropout_rate:
      x = functional.dropout(x, dropout_rate, self.training)
    return self.output(x)


def build_model(facts: Facts) -> Callable[[], MLP]:
  """Builds the module that `facts.model` describes, drawing its weights, when called."""
  return functools.partial(
    MLP,
    math.prod(facts.input_shape),
    facts.model['hidden'],
    facts.model['activation'],
    facts.num_classes,
  )


def _init_like_flax(layer: nn.Linear) -> None:
  """Variance 1 / fan-in, a normal cut at two standard deviations, biases zero.

  Both frameworks draw from one distribution, so that their trials can be compared.
  """
  cut = 0.87962566103423978  # standard deviation of a unit normal cut at ±2
  stddev = 1 / math.sqrt(layer.in_features) / cut
  nn.init.trunc_normal_(layer.weight, std=stddev, a=-2 * stddev, b=2 * stddev)
  nn.init.zeros_(layer.bias)
