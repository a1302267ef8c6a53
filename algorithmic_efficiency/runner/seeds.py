"""This file derives every random number of a study from one seed, the same on every machine."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from algorithmic_efficiency.hparams.seeds import derive

_BLOCK = (
  1024  # steps whose keys are drawn together: drawing one by one costs more than a small step
)
_MODEL, _OPTIMIZER, _DATA, _HIDDEN, _STEPS = range(5)


class TrialSeeds:
  """A trial's seeds: for the model, the optimizer, the data, hidden state, and each step.

  Args:
    seed: the trial's own.
    to_keys: makes a framework's keys from random uint32s of shape [..., 2].
  """

  def __init__(self, seed: int, to_keys: Callable[[Any], Any]) -> None:
    self.seed = seed
    self.model = derive(seed, _MODEL)
    self.data = derive(seed, _DATA)
    self.hidden = derive(seed, _HIDDEN)
    self.optimizer = to_keys(self._draw(derive(seed, _OPTIMIZER), 1))[0]
    self._to_keys = to_keys
    self._first = -1
    self._keys: Any = None

  def of_step(self, step: int) -> Any:
    """Three keys for a step: data selection, update, prepare_for_eval."""
    first = step - step % _BLOCK
    if first != self._first:
      numbers = self._draw(derive(self.seed, _STEPS, first // _BLOCK), _BLOCK * 3)
      self._keys = self._to_keys(numbers.reshape(_BLOCK, 3, 2))
      self._first = first
    return self._keys[step - first]

  @staticmethod
  def _draw(seed: int, count: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    generator = np.random.Generator(np.random.PCG64(seed))
    return generator.integers(0, 2**32, size=(count, 2), dtype=np.uint32)


def seed_everything(seed: int, framework: Any) -> None:
  """Seeds the state that a submission's own code may draw from without being given a key."""
  random.seed(seed)
  np.random.seed(seed)
  framework.seed(seed)
