"""This file leaves out points of a curve that nobody could see.

A curve of 4,000 evaluations on a panel of 300 pixels needs few of them. Points are left out as
Ramer (1972) and Douglas and Peucker (1973) do, in pixels: none that is left out lies further than
the tolerance from the line that is drawn.
"""

import numpy as np
from numpy.typing import NDArray

from algorithmic_efficiency.report.figure import Numbers

TOLERANCE_PIXELS = 0.4


def keep(x: Numbers, y: Numbers, tolerance: float = TOLERANCE_PIXELS) -> NDArray[np.intp]:
  """The indices of the points to draw, ascending; x and y are finite and in pixels."""
  count = len(x)
  kept = np.zeros(count, dtype=bool)
  if count:
    kept[[0, -1]] = True
  waiting = [(0, count - 1)]
  while waiting:
    first, last = waiting.pop()
    if last - first < 2:
      continue
    inner = slice(first + 1, last)
    away = _distances(x[inner], y[inner], (x[first], y[first]), (x[last], y[last]))
    furthest = int(np.argmax(away))
    if away[furthest] > tolerance:
      middle = first + 1 + furthest
      kept[middle] = True
      waiting += [(first, middle), (middle, last)]
  return np.flatnonzero(kept)


def _distances(
  x: Numbers, y: Numbers, begin: tuple[float, float], end: tuple[float, float]
) -> Numbers:
  """From each point to the stretch between two others."""
  along_x, along_y = end[0] - begin[0], end[1] - begin[1]
  length = along_x**2 + along_y**2
  from_x, from_y = x - begin[0], y - begin[1]
  if length == 0:
    return np.hypot(from_x, from_y)
  share = np.clip((from_x * along_x + from_y * along_y) / length, 0.0, 1.0)
  return np.hypot(from_x - share * along_x, from_y - share * along_y)
