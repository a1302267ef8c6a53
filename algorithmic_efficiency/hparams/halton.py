"""This file draws quasi-random points: scipy's scrambled Halton sequence."""

import numpy as np
from numpy.typing import NDArray


def points(num_dimensions: int, start: int, end: int, seed: int) -> NDArray[np.float64]:
  """The points `start` to `end` (exclusive) of the Halton sequence scrambled by `seed`.

  Shape [end - start, num_dimensions], values in [0, 1). A slice holds the same numbers as the
  same rows of the whole sequence. Owen's scrambling, as in A. B. Owen, "A randomized Halton
  algorithm in R" (2017).
  """
  # Two seconds to import: whoever samples pays, nobody else.
  from scipy.stats import qmc  # pyright: ignore[reportMissingTypeStubs]

  engine = qmc.Halton(num_dimensions, scramble=True, rng=np.random.default_rng(seed))
  if start:
    engine.fast_forward(start)
  return engine.random(end - start)
