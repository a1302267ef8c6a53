"""This file makes batches of a data set that fits into memory.

A split is a dict of numpy arrays whose first dimension counts examples: the same bytes for every
framework.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray]
Batch = dict[str, np.ndarray]
ALL = slice(None)  # of the rows of a batch


def training_batches(
  arrays: Arrays, batch_size: int, seed: int, start: int = 0, rows: slice = ALL
) -> Iterator[Batch]:
  """Endless batches; each epoch is a fresh shuffle, and every example comes once per epoch.

  A batch may straddle two epochs, so none is short and none is dropped. The order depends on
  `seed` alone, and batch `start` is reached without making those before it. Of each batch only
  `rows` are made.
  """
  columns = list(arrays.items())
  for chosen in _shuffled_indices(len(columns[0][1]), batch_size, seed, start):
    own = chosen[rows]
    yield {name: array.take(own, 0) for name, array in columns}


def augmented(
  batches: Iterator[Batch], batch_size: int, seed: int, start: int, rows: slice, pipeline: Any
) -> Iterator[Batch]:
  """The batches from number `start` on, changed at random as the pipeline does it.

  What is drawn depends on `seed` and on the batch's number, and is drawn for the whole batch
  whichever rows of it are there: however many processes share a batch, they make the same one.

  Args:
    pipeline: has `draw_augmentation(generator, batch_size)`, a dict of arrays with an entry per
      example, and `augment(batch, drawn)`.
  """
  for number, batch in enumerate(batches, start):
    sequence = np.random.SeedSequence(seed, spawn_key=(number, 0))  # epochs' keys have one number
    generator = np.random.Generator(np.random.PCG64(sequence))
    drawn = pipeline.draw_augmentation(generator, batch_size)
    yield pipeline.augment(batch, {name: array[rows] for name, array in drawn.items()})


def rows_of(index: int, count: int, batch_size: int) -> slice:
  """Which rows of a batch process `index` of `count` has; `count` divides `batch_size`."""
  share = batch_size // count
  return slice(index * share, (index + 1) * share)


def normalise(raw: np.ndarray, largest: float, mean: Any, stddev: Any) -> np.ndarray:
  """Pixels from 0 to `largest` as float32 of about mean 0 and standard deviation 1.

  `mean` and `stddev` are those of pixels from 0 to 1: numbers, or one per channel (the last axis).
  """
  mean, stddev = np.asarray(mean, np.float32), np.asarray(stddev, np.float32)
  scaled = raw.astype(np.float32)
  scaled *= 1 / (largest * stddev)
  scaled -= mean / stddev
  return scaled


def evaluation_batches(arrays: Arrays, batch_size: int, rows: slice = ALL) -> list[Batch]:
  """Every example once, in order, as batches of one size; of each only `rows`.

  'weights' is 1.0 for an example and 0.0 for the padding of the last batch.
  """
  total = len(next(iter(arrays.values())))
  batches: list[Batch] = []
  for start in range(0, total, batch_size):
    batch = {name: array[start : start + batch_size] for name, array in arrays.items()}
    count = min(batch_size, total - start)
    batch = {name: _pad(array, batch_size) for name, array in batch.items()}
    batch['weights'] = (np.arange(batch_size) < count).astype(np.float32)
    batches.append({name: array[rows] for name, array in batch.items()})
  return batches


def _shuffled_indices(total: int, size: int, seed: int, start: int) -> Iterator[np.ndarray]:
  """The endless stream of shuffled examples, cut into pieces of `size`, from piece `start` on."""
  epoch, offset = divmod(start * size, total)
  order = _order_of_epoch(total, seed, epoch)
  while True:
    while offset + size <= total:
      yield order[offset : offset + size]
      offset += size
    parts, missing = [order[offset:]], size - (total - offset)
    while missing >= 0:  # 0 as well: the piece ends with the epoch, and the next begins a new one
      epoch += 1
      order = _order_of_epoch(total, seed, epoch)
      offset = min(missing, total)
      parts.append(order[:offset])
      missing -= total
    yield np.concatenate(parts)


def _order_of_epoch(total: int, seed: int, epoch: int) -> np.ndarray:
  sequence = np.random.SeedSequence(seed, spawn_key=(epoch,))
  return np.random.Generator(np.random.PCG64(sequence)).permutation(total)


def _pad(array: np.ndarray, size: int) -> np.ndarray:
  missing = size - len(array)
  if not missing:
    return array
  return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
