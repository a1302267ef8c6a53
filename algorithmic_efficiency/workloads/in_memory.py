"""This file makes batches of a data set that fits into memory.

A split is a dict of numpy arrays whose first dimension counts examples: the same bytes for every
framework.
"""

from collections.abc import Iterator, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]
Batch = dict[str, np.ndarray]


def training_batches(arrays: Arrays, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
  """Endless batches; each epoch is a fresh shuffle, and every example comes once per epoch.

  A batch may straddle two epochs, so none is short and none is dropped. The order depends on
  `seed` alone, and batch `start` is reached without making those before it.
  """
  stream = _Shuffled(len(next(iter(arrays.values()))), seed)
  position = start * batch_size
  while True:
    chosen = stream.take(position, position + batch_size)
    yield {name: array.take(chosen, axis=0) for name, array in arrays.items()}
    position += batch_size


def evaluation_batches(arrays: Arrays, batch_size: int) -> list[Batch]:
  """Every example once, in order, as batches of one size.

  'weights' is 1.0 for an example and 0.0 for the padding of the last batch.
  """
  total = len(next(iter(arrays.values())))
  batches: list[Batch] = []
  for start in range(0, total, batch_size):
    batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
    count = min(batch_size, total - start)
    batch = {name: _pad(array, batch_size) for name, array in batch.items()}
    batch['weights'] = (np.arange(batch_size) < count).astype(np.float32)
    batches.append(batch)
  return batches


class _Shuffled:
  """The endless stream of shuffled example indices, addressed by position."""

  def __init__(self, num_examples: int, seed: int) -> None:
    self._num_examples = num_examples
    self._seed = seed
    self._epoch = -1
    self._order = np.empty(0, np.int64)

  def take(self, start: int, end: int) -> np.ndarray:
    """The indices at positions `start` to `end`."""
    epoch, offset = divmod(start, self._num_examples)
    order = self._of_epoch(epoch)
    chosen = order[offset : offset + end - start]
    while len(chosen) < end - start:
      epoch += 1
      chosen = np.concatenate([chosen, self._of_epoch(epoch)[: end - start - len(chosen)]])
    return chosen

  def _of_epoch(self, epoch: int) -> np.ndarray:
    if epoch != self._epoch:
      seed = np.random.SeedSequence(self._seed, spawn_key=(epoch,))
      self._order = np.random.Generator(np.random.PCG64(seed)).permutation(self._num_examples)
      self._epoch = epoch
    return self._order


def _pad(array: np.ndarray, size: int) -> np.ndarray:
  missing = size - len(array)
  if not missing:
    return array
  return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
