"""This file holds the models to beat: the mean, and the polynomial Lasso of an edge study.

The Lasso is that study's: all products of up to three of its features (their log1p for the power of
convolutions) and a few special products, standardised, with weights of one sign except for the
runtime of poolings. It predicts watts and milliseconds as they are, and can predict less than none;
scores take that as it is.
"""

import warnings
from collections.abc import Callable

import numpy as np

from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.frames import Frame

SEED = 42
_DEGREE, _ALPHAS, _FOLDS, _MOST_STEPS = 3, 100, 5, 2000

Predict = Callable[[Frame], np.ndarray]


def fit_mean(rows: Frame, target: str) -> Predict:
  """The mean of what was measured."""
  mean = float(rows[target].mean())
  return lambda new: np.full(len(new), mean)


def fit_lasso(rows: Frame, target: str) -> Predict:
  """The study's Lasso with 100 penalties and 2,000 steps: a fifth of its own, to be quick."""
  from sklearn.exceptions import ConvergenceWarning
  from sklearn.linear_model import LassoCV
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

  kind = str(rows['layer_type'].iloc[0])
  positive = not (kind == columns.POOLING and target == 'runtime')
  log = kind == columns.CONV and target == 'power'
  count = study_features(rows).shape[1] - _special_count(kind)
  polynomial = PolynomialFeatures(_DEGREE, include_bias=False)

  def expand(x: np.ndarray) -> np.ndarray:
    plain = np.log1p(x[:, :count]) if log else x[:, :count]
    return np.column_stack([polynomial.fit_transform(plain), x[:, count:]])

  lasso = LassoCV(alphas=_ALPHAS, cv=_FOLDS, max_iter=_MOST_STEPS, positive=positive,
                  random_state=SEED)  # fmt: skip
  model = make_pipeline(FunctionTransformer(expand), StandardScaler(), lasso)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)  # as it is: the steps are the study's
    model.fit(study_features(rows), rows[target].to_numpy(float))
  return lambda new: model.predict(study_features(new))


def study_features(rows: Frame) -> np.ndarray:
  """[layers, features]: the study's, then its special products."""
  kind = str(rows['layer_type'].iloc[0])
  sides = [
    rows[f'{side}_size_{n}'].to_numpy(float) for side in ('input', 'output') for n in range(3)
  ]
  batch = rows['batch_size'].to_numpy(float)
  inputs, outputs = np.prod(sides[:3], axis=0), np.prod(sides[3:], axis=0)
  if kind == columns.CONV:
    area = rows['kernel_0'].to_numpy(float) * rows['kernel_1'].to_numpy(float)
    work = inputs * area * sides[5]
    special = [work, batch * work]
  elif kind == columns.POOLING:
    area = rows['kernel_0'].to_numpy(float) * rows['kernel_1'].to_numpy(float)
    special = [inputs, outputs, outputs * area]
  else:
    return np.stack([batch, inputs, outputs], axis=1)
  names = columns.STUDY_FEATURES[kind]
  plain = [rows[name].to_numpy(float) for name in names]
  return np.stack([*plain, *special], axis=1)


def _special_count(kind: str) -> int:
  return {columns.CONV: 2, columns.POOLING: 3}.get(kind, 0)
