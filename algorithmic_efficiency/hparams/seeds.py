"""This file derives seeds from seeds, the same on every machine."""

import numpy as np


def derive(seed: int, *path: int) -> int:
  """A seed below 2**32 for the part of `seed`'s tree that `path` names.

  Any int is a seed, negative or of 64 bits. By numpy's SeedSequence, whose spawned streams are
  independent of each other.
  """
  sequence = np.random.SeedSequence(seed % 2**64, spawn_key=path)
  return int(sequence.generate_state(1)[0])
