"""This file holds what a layer's time and power must roughly be: a roofline and a limited power.

The learners predict only what these leave over, so that a layer far from all measured ones still
gets the right order of magnitude.

Time: c0 + bytes/bandwidth + multiplications/rate + …, each constant at least 0, fitted to the
relative error (S. Williams, A. Waterman, D. Patterson, 'Roofline', CACM 52(4), 2009, with a sum in
place of the maximum, which is what non-negative least squares can fit).

Power: idle + energy of each multiplication and byte x their rate, bent smoothly below the highest
power that the device showed, for devices hold themselves to a limit.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares, nnls

from algorithmic_efficiency.layer_power.descriptors import Quantities

_TILES = (64, 128)
_HIGHEST_QUANTILE = 0.99


class Roofline(NamedTuple):
  """Milliseconds for each of the terms of a layer's work."""

  costs: np.ndarray

  def predict(self, q: Quantities) -> np.ndarray:
    """Milliseconds of each layer."""
    return _work(q) @ self.costs


class LimitedPower(NamedTuple):
  """Watts at most, and (idle, for a multiplication, for a byte, sharpness of the bend)."""

  limit: float
  scale: np.ndarray
  parameters: np.ndarray

  def predict(self, q: Quantities, runtime_ms: np.ndarray) -> np.ndarray:
    """Watts of each layer if it takes so long."""
    return _limited(self.limit, rates(q, runtime_ms) / self.scale, self.parameters)


def fit_roofline(q: Quantities, runtime_ms: np.ndarray) -> Roofline:
  """Fits the constants to the relative error of the times."""
  work = _work(q)
  scale = np.maximum(work.max(axis=0), 1e-12)
  costs, _ = nnls(work / scale / runtime_ms[:, None], np.ones(len(runtime_ms)))
  return Roofline(costs / scale)


def fit_power(q: Quantities, runtime_ms: np.ndarray, power_w: np.ndarray) -> LimitedPower:
  """Fits idle power and energies; a few layers that behave otherwise do not move them."""
  limit = float(np.quantile(power_w, _HIGHEST_QUANTILE))
  found = rates(q, runtime_ms)
  scale = np.maximum(found.max(axis=0), 1e-12)

  def residuals(parameters: np.ndarray) -> np.ndarray:
    return np.log(_limited(limit, found / scale, parameters) / power_w)

  bounds = ([-6.0, -6.0, -6.0, -1.0], [4.0, 4.0, 4.0, 3.0])
  start = np.array([-1.2, 0.0, 0.0, 1.0])
  fitted = least_squares(residuals, start, bounds=bounds, loss='soft_l1', f_scale=0.05)
  return LimitedPower(limit, scale, fitted.x)


def rates(q: Quantities, runtime_ms: np.ndarray) -> np.ndarray:
  """[layers, 3]: 1, multiplications and bytes in a millisecond."""
  return np.stack([np.ones(len(runtime_ms)), q.macs / runtime_ms, q.bytes_moved / runtime_ms], 1)


def _work(q: Quantities) -> np.ndarray:
  """[layers, terms]: a launch, bytes, multiplications (grouped apart), tiles, depth, outputs."""
  alone = q.groups == 1
  terms = [np.ones(len(q.macs)), q.bytes_moved, q.macs * alone, q.macs * ~alone]
  for side in _TILES:
    padded = np.ceil(q.rows / side) * np.ceil(q.columns / side) * side**2 * q.depth
    terms.append(padded * alone)
  terms.append(q.depth)  # a long sum that nothing can share among processors
  plain = q.depth == 0
  # An output of a window, and one of a whole image, which is another kind of program.
  terms += [q.outputs * (plain & (q.area > 1)), q.outputs * (plain & (q.area == 1))]
  return np.stack(terms, axis=1)


def _limited(limit: float, scaled_rates: np.ndarray, parameters: np.ndarray) -> np.ndarray:
  demand = scaled_rates @ np.exp(parameters[:3])
  sharpness = np.exp(parameters[3])
  return limit * (demand**-sharpness + 1) ** (-1 / sharpness)
