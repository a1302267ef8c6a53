"""This file fits learners with scikit-learn. Their settings are fixed: no fit tunes them.

They were set once, for a few hundred rows and on a table of one GPU; which learner is taken is
chosen by cross-validation within the rows given (choice.py).
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import Ridge

from algorithmic_efficiency.layer_power.fitted import (
  Learner,
  Process,
  Quadratic,
  Scaled,
  Trees,
)

SEED = 0
_LENGTH, _LENGTHS = 8.0, (1.0, 1e3)
_NOISE, _NOISES = 0.01, (1e-4, 1.0)
_STEPS, _STEPS_OF_MANY_LENGTHS = 50, 10


def extra_trees(x: np.ndarray, y: np.ndarray) -> Learner:
  """100 randomised trees (P. Geurts et al., Machine Learning 63, 2006)."""
  model = ExtraTreesRegressor(100, max_features=0.5, random_state=SEED).fit(x, y)
  return Trees.of([tree.tree_ for tree in model.estimators_], 0.0, 1 / len(model.estimators_))


def boosting(x: np.ndarray, y: np.ndarray) -> Learner:
  """150 boosted trees of depth 4, each of 60 % of the rows."""
  part = 0.6 if len(y) > 1 else 1.0  # scikit-learn scores each tree on the rows left out
  settings: dict[str, Any] = {'learning_rate': 0.08, 'max_depth': 4, 'subsample': part}
  model = GradientBoostingRegressor(
    n_estimators=150, max_features=0.35, random_state=SEED, **settings
  ).fit(x, y)
  trees = [tree.tree_ for tree in model.estimators_[:, 0]]
  return Trees.of(trees, float(np.mean(y)), model.learning_rate)


def process(x: np.ndarray, y: np.ndarray) -> Learner:
  """A Gaussian process with one length for all columns."""
  return _process(x, y, many_lengths=False)


def process_by_column(x: np.ndarray, y: np.ndarray) -> Learner:
  """A Gaussian process with a length for each column, found in few steps lest it fit by heart."""
  return _process(x, y, many_lengths=True)


def ridge(x: np.ndarray, y: np.ndarray) -> Learner:
  """Squares and products of the columns, shrunk."""
  scaled = _scaling(x)
  columns = scaled.apply(x)
  model = Ridge(alpha=10.0).fit(Quadratic.expand(columns), y)
  return Quadratic(
    **scaled._asdict(),
    low=columns.min(axis=0),
    high=columns.max(axis=0),
    weights=model.coef_,
    start=np.array([model.intercept_]),
  )


LEARNERS: dict[str, Callable[[np.ndarray, np.ndarray], Learner]] = {
  'ridge': ridge,
  'extra_trees': extra_trees,
  'boosting': boosting,
  'process': process,
  'process_by_column': process_by_column,
}


def _process(x: np.ndarray, y: np.ndarray, many_lengths: bool) -> Learner:
  scaled = _scaling(x)
  columns = scaled.apply(x)
  start: Any = np.full(columns.shape[1], _LENGTH) if many_lengths else _LENGTH
  kernel = ConstantKernel(1.0) * Matern(start, _LENGTHS, nu=1.5)
  kernel += WhiteKernel(_NOISE, _NOISES)
  steps = _STEPS_OF_MANY_LENGTHS if many_lengths else _STEPS
  spread = float(np.std(y)) or 1.0
  model = GaussianProcessRegressor(kernel, optimizer=_at_most(steps))
  with warnings.catch_warnings():
    # A length at its bound is a column that says nothing, which is no fault.
    warnings.simplefilter('ignore', ConvergenceWarning)
    model.fit(columns, (y - np.mean(y)) / spread)
  fitted: Any = model.kernel_
  signal = fitted.k1
  lengths = np.broadcast_to(signal.k2.length_scale, columns.shape[1:]).copy()
  return Process(
    **scaled._asdict(),
    lengths=lengths,
    support=columns,
    weights=model.alpha_,
    shape=np.array([signal.k1.constant_value, np.mean(y), spread]),
  )


def _at_most(steps: int) -> Any:
  def optimise(objective: Any, start: np.ndarray, bounds: np.ndarray) -> tuple[np.ndarray, float]:
    found = minimize(objective, start, method='L-BFGS-B', jac=True, bounds=bounds,
                     options={'maxiter': steps})  # fmt: skip
    return found.x, float(found.fun)

  return optimise


def _scaling(x: np.ndarray) -> Scaled:
  used = np.flatnonzero(np.ptp(x, axis=0) > 0)
  if not used.size:
    used = np.array([0])
  scale = x[:, used].std(axis=0)
  return Scaled(used, x[:, used].mean(axis=0), np.where(scale > 0, scale, 1.0))
