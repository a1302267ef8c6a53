"""This file leaves out points of a curve that nobody could see.

A curve of 4,000 evaluations on a panel of 300 pixels needs few of them. Points are left out by
intersecting cones, in one pass (Sklansky and Gonzalez, "Fast polygonal approximation of digitized
curves", 1980): none that is left out lies further than the tolerance above or below the line drawn.
"""

import math

import numpy as np
from numpy.typing import NDArray

from algorithmic_efficiency.report.figure import Numbers

TOLERANCE_PIXELS = 0.4


def keep(x: Numbers, y: Numbers, tolerance: float = TOLERANCE_PIXELS) -> NDArray[np.intp]:
  """The indices of the points to draw, ascending; x and y are finite and in pixels."""
  across: list[float] = x.tolist()
  up: list[float] = y.tolist()
  if not across:
    return np.zeros(0, dtype=np.intp)
  kept = [0]
  low, high = -math.inf, math.inf  # slopes from the last point kept that pass all points since
  for at in range(1, len(across)):
    pivot = kept[-1]
    away = across[at] - across[pivot]
    slope = (up[at] - up[pivot]) / away if away else math.inf
    # A turn back, or a slope that misses one of the points since: the one before is needed.
    if at - pivot > 1 and (
      not low <= slope <= high or away * (across[at - 1] - across[pivot]) <= 0
    ):
      kept.append(at - 1)
      pivot, low, high = at - 1, -math.inf, math.inf
      away = across[at] - across[pivot]
      slope = (up[at] - up[pivot]) / away if away else math.inf
    if away:
      low = max(low, slope - tolerance / abs(away))
      high = min(high, slope + tolerance / abs(away))
  if len(across) > 1:
    kept.append(len(across) - 1)
  return np.array(kept, dtype=np.intp)
