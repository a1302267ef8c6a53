"""This file holds fitted learners as plain arrays, which predict with numpy and are saved as .npz.

Nothing that is saved is code, so loading a model runs none. A live model predicts with these same
arrays: what is saved and loaded predicts the same to the last digit.
"""

from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from scipy.spatial.distance import cdist


class Learner(Protocol):
  """Something fitted: predicts a logarithm from descriptors."""

  KIND: ClassVar[str]

  def predict(self, x: np.ndarray) -> np.ndarray:
    """One number for each row of x."""
    ...

  def arrays(self) -> dict[str, np.ndarray]:
    """All of it."""
    ...


class Scaled(NamedTuple):
  """Which columns are used, and their mean and scale."""

  used: np.ndarray
  mean: np.ndarray
  scale: np.ndarray

  def apply(self, x: np.ndarray) -> np.ndarray:
    """The used columns, standardised."""
    return (x[:, self.used] - self.mean) / self.scale


class Trees:
  """Regression trees, one after another in flat arrays; predictions are summed or averaged."""

  KIND: ClassVar[str] = 'trees'

  def __init__(self, **arrays: np.ndarray) -> None:
    self._arrays = {k: np.asarray(v) for k, v in arrays.items()}

  @classmethod
  def of(cls, trees: list[Any], start: float, factor: float) -> 'Trees':
    """From scikit-learn's trees: the prediction is start + factor x their sum."""
    counts = np.array([tree.node_count for tree in trees])
    offsets = np.concatenate([[0], np.cumsum(counts)[:-1]])
    joined = {
      name: np.concatenate([getattr(tree, name) for tree in trees])
      for name in ('feature', 'threshold')
    }
    for side in ('left', 'right'):
      children = [getattr(tree, f'children_{side}') for tree in trees]
      joined[side] = np.concatenate([c + o for c, o in zip(children, offsets, strict=True)])
    value = np.concatenate([tree.value[:, 0, 0] for tree in trees])
    return cls(**joined, value=value, roots=offsets, shape=np.array([start, factor]))

  def predict(self, x: np.ndarray) -> np.ndarray:
    """Walks all trees at once."""
    a = self._arrays
    x = np.asarray(x, np.float32)  # as they were grown
    at = np.tile(a['roots'], (len(x), 1))
    rows = np.arange(len(x))[:, None]
    while True:
      feature = a['feature'][at]
      inner = feature >= 0
      if not inner.any():
        break
      goes_left = x[rows, np.maximum(feature, 0)] <= a['threshold'][at]
      at = np.where(inner, np.where(goes_left, a['left'][at], a['right'][at]), at)
    start, factor = a['shape']
    return start + factor * a['value'][at].sum(axis=1)

  def arrays(self) -> dict[str, np.ndarray]:
    """All of it."""
    return self._arrays


class Process:
  """The mean of a Gaussian process with a Matérn kernel of 3/2."""

  KIND: ClassVar[str] = 'process'

  def __init__(self, **arrays: np.ndarray) -> None:
    self._arrays = {k: np.asarray(v) for k, v in arrays.items()}

  def predict(self, x: np.ndarray) -> np.ndarray:
    """amplitude x (1 + r√3) exp(-r√3) weighs the rows it was fitted to."""
    a = self._arrays
    scaled = Scaled(a['used'], a['mean'], a['scale']).apply(np.asarray(x, float))
    distance = np.sqrt(3) * cdist(scaled / a['lengths'], a['support'] / a['lengths'])
    amplitude, centre, spread = a['shape']
    kernel = amplitude * (1 + distance) * np.exp(-distance)
    return centre + spread * (kernel @ a['weights'])

  def arrays(self) -> dict[str, np.ndarray]:
    """All of it."""
    return self._arrays


class Quadratic:
  """A linear model of the standardised columns, their squares and their products."""

  KIND: ClassVar[str] = 'quadratic'

  def __init__(self, **arrays: np.ndarray) -> None:
    self._arrays = {k: np.asarray(v) for k, v in arrays.items()}

  @staticmethod
  def expand(scaled: np.ndarray) -> np.ndarray:
    """The columns, then the products of each with itself and those after it."""
    count = scaled.shape[1]
    products = [scaled[:, i : i + 1] * scaled[:, i:] for i in range(count)]
    return np.concatenate([scaled, *products], axis=1)

  def predict(self, x: np.ndarray) -> np.ndarray:
    """Far from what it was fitted to it is held at the edge: squares grow without bound."""
    a = self._arrays
    scaled = Scaled(a['used'], a['mean'], a['scale']).apply(np.asarray(x, float))
    return self.expand(np.clip(scaled, a['low'], a['high'])) @ a['weights'] + a['start'][0]

  def arrays(self) -> dict[str, np.ndarray]:
    """All of it."""
    return self._arrays


KINDS = {kind.KIND: kind for kind in (Trees, Process, Quadratic)}
