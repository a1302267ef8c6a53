"""This file is the learning-rate schedule that the baselines share.

A schedule is a number for every step, so it is written once for both frameworks: optax takes the
function as it is (`numpy=jax.numpy`), PyTorch's LambdaLR calls it with a plain int.
"""

import math


def warmup_cosine(step, num_steps, warmup_fraction, numpy=None):
  """The share of the peak learning rate at `step`, in [0, 1].

  Rises linearly over the first `warmup_fraction` of `num_steps` and falls to zero as half a
  cosine over the rest (Loshchilov and Hutter, "SGDR", 2017). After `num_steps` it stays zero.

  Args:
    step: updates made so far, an int or an array.
    num_steps: length of the schedule, the workload's step hint.
    warmup_fraction: share of the steps that warm up.
    numpy: a module with numpy's names where `step` is an array; None for a plain number.
  """
  cos, lowest, highest = (math.cos, min, max)
  if numpy is not None:
    cos, lowest, highest = numpy.cos, numpy.minimum, numpy.maximum
  warmup = max(1, int(warmup_fraction * num_steps))
  rising = lowest(1.0, (step + 1) / warmup)
  done = lowest(1.0, highest(0.0, (step - warmup) / max(1, num_steps - warmup)))
  return rising * 0.5 * (1.0 + cos(math.pi * done))
