"""This file draws data of a workload's shape from a seed, for measuring and for tests."""

import numpy as np

from algorithmic_efficiency.workloads.facts import Facts

# No more examples are drawn than this: what is measured is the time of a step, and that does not
# depend on how many examples there are. Evaluations of synthetic data tell nothing, so they are
# kept short.
MOST_TRAINING_EXAMPLES = 4096
MOST_EVALUATION_EXAMPLES = 256


def split(facts: Facts, name: str, num_examples: int, seed: int) -> dict[str, np.ndarray]:
  """Normal inputs and uniform targets: {'inputs', 'targets'} as the real data has them."""
  number = ('train', 'eval_train', 'validation', 'test').index(name)
  draw = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
  most = MOST_TRAINING_EXAMPLES if name == 'train' else MOST_EVALUATION_EXAMPLES
  size = min(num_examples, most)
  inputs = draw.standard_normal((size, *facts.input_shape), dtype=np.float32)
  if facts.target_shape:
    targets = draw.integers(0, 2, (size, *facts.target_shape), np.int8).astype(np.float32)
  else:
    targets = draw.integers(0, facts.num_classes, size, dtype=np.int32)
  return {'inputs': inputs, 'targets': targets}
