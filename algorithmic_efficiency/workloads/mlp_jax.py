"""This file is a perceptron with one hidden layer, in flax."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from algorithmic_efficiency.frameworks.layers_jax import Dropout
from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('Dense_1',)


class MLP(nn.Module):
  """inputs → hidden → activation → dropout → logits; inputs [batch, ...] are flattened."""

  hidden: int
  activation: str
  num_classes: int

  @nn.compact
  def __call__(self, inputs: Any, train: bool, dropout_rate: Any = 0.0) -> Any:
    x = jnp.reshape(inputs, (inputs.shape[0], -1))
    x = getattr(nn, self.activation)(nn.Dense(self.hidden)(x))
    x = Dropout()(x, dropout_rate, train)
    return nn.Dense(self.num_classes)(x)


def build_model(facts: Facts) -> MLP:
  """The module that `facts.model` describes."""
  return MLP(facts.model['hidden'], facts.model['activation'], facts.num_classes)
