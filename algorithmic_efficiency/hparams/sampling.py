"""This file draws a study's trials from its search space.

Run as a program (`python -m algorithmic_efficiency.hparams.sampling`) it does the same in a
process of its own: importing scipy's sampler takes as long as importing a framework, and on two
cores both can happen at once.
"""

import json
import sys
from pathlib import Path
from typing import Any

from algorithmic_efficiency.hparams import halton
from algorithmic_efficiency.hparams.search_space import SearchSpace, load

Point = dict[str, Any]


def sample(space: SearchSpace, start: int, end: int, seed: int) -> list[Point]:
  """The hyperparameters of trials `start` to `end` (exclusive; indices from 0).

  Drawn by a Halton sequence scrambled by `seed`: the same for the same seed everywhere, and a
  slice agrees with the whole. A list of exact trials is taken as it is and may end before `end`.
  """
  if space.trials is not None:
    return [dict(trial) for trial in space.trials[start:end]]
  assert space.dimensions is not None
  if end <= start:
    return []
  rows = halton.points(len(space.names), start, end, seed)
  return [
    {name: space.dimensions[name].at(float(u)) for name, u in zip(space.names, row, strict=True)}
    for row in rows
  ]


def main(arguments: list[str]) -> None:
  """Prints the points of the search space as JSON: PATH START END SEED."""
  path, start, end, seed = arguments
  points = sample(load(Path(path)), int(start), int(end), int(seed))
  sys.stdout.write(json.dumps(points))


if __name__ == '__main__':
  main(sys.argv[1:])
