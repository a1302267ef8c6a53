"""This file sums up how well logits name their classes."""

import numpy as np


def summed_metrics(
  logits: np.ndarray, targets: np.ndarray, losses: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
  """Sums over a batch, to be divided by the number of examples.

  Args:
    logits: [batch, classes].
    targets: [batch], class numbers.
    losses: [batch], per example.
    weights: [batch], 0.0 where an example is padding.
  """
  right = logits.argmax(axis=-1) == targets
  return {
    'accuracy': float(np.sum(right * weights, dtype=np.float64)),
    'loss': float(np.sum(losses * weights, dtype=np.float64)),
  }
