"""This file is what Shampoo uses where no search space gives it anything."""

from typing import NamedTuple


class Hyperparameters(NamedTuple):
  """The names of tuning_search_space.json."""

  learning_rate: float = 1e-1
  epsilon: float = 1e-4
  weight_decay: float = 1e-4
  warmup_fraction: float = 0.02


DEFAULTS = Hyperparameters()
