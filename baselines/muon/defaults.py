"""This file is what Muon uses where no search space gives it anything."""

from typing import NamedTuple


class Hyperparameters(NamedTuple):
  """The names of tuning_search_space.json."""

  learning_rate: float = 2e-2
  one_minus_momentum: float = 0.05
  adamw_learning_rate: float = 2e-3
  weight_decay: float = 1e-2
  warmup_fraction: float = 0.02


DEFAULTS = Hyperparameters()
