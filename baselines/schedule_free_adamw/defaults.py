"""This file is what schedule-free AdamW uses where no search space gives it anything."""

from typing import NamedTuple


class Hyperparameters(NamedTuple):
  """The names of tuning_search_space.json."""

  learning_rate: float = 5e-3
  one_minus_beta_1: float = 0.1
  beta_2: float = 0.999
  weight_decay: float = 1e-2
  warmup_fraction: float = 0.02


DEFAULTS = Hyperparameters()
