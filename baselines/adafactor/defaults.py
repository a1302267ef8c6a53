"""This file is what Adafactor uses where no search space gives it anything."""

from typing import NamedTuple


class Hyperparameters(NamedTuple):
  """The names of tuning_search_space.json."""

  learning_rate: float = 2e-2
  decay_exponent: float = 0.8
  weight_decay: float = 1e-3
  warmup_fraction: float = 0.02


DEFAULTS = Hyperparameters()
