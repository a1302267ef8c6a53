"""This file is how unet is scored."""

import numpy as np


def summed_metrics(
  logits: np.ndarray, targets: np.ndarray, losses: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
  """Sums over a batch, to be divided by the number of examples.

  Args:
    logits: [batch, height, width, 1]; above zero is a probability above one half.
    targets: [batch, height, width, 1], 1 where the mask is and 0 elsewhere.
    losses: [batch], per example.
    weights: [batch], 0.0 where an example is padding.
  """
  return {
    'dice': float(np.sum(dice(logits > 0, targets > 0) * weights, dtype=np.float64)),
    'loss': float(np.sum(losses * weights, dtype=np.float64)),
  }


def dice(predicted: np.ndarray, wanted: np.ndarray) -> np.ndarray:
  """The Dice coefficient of each of two batches of masks, bool [batch, …]; 1 where both are empty.

  >>> dice(np.array([[True, True, False]]), np.array([[False, True, False]]))
  array([0.66666667])
  """
  others = tuple(range(1, predicted.ndim))
  overlap = np.sum(predicted & wanted, axis=others)
  total = np.sum(predicted, axis=others) + np.sum(wanted, axis=others)
  return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)
