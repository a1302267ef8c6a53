"""Tests of batches from memory, against an account of every example kept here."""

import itertools

import numpy as np
import pytest

from algorithmic_efficiency.workloads import in_memory

SIZES = [(10, 5), (10, 3), (10, 10), (10, 7), (10, 25), (7, 1), (1, 4), (12, 20)]


def numbered(total):
  """A data set whose inputs tell their own number."""
  numbers = np.arange(total)
  return {
    'inputs': (numbers[:, None, None] * np.ones((1, 2, 3))).astype(np.float32),
    'targets': (numbers % 4).astype(np.int32),
  }


def take(total, size, count, seed=0, start=0):
  batches = in_memory.training_batches(numbered(total), size, seed, start)
  return list(itertools.islice(batches, count))


def numbers_of(batches):
  """The examples' numbers in the order they came, in one row."""
  return np.concatenate([batch['inputs'][:, 0, 0] for batch in batches]).astype(int)


@pytest.mark.parametrize(('total', 'size'), SIZES)
def test_every_example_comes_once_per_epoch_whatever_the_batch_size(total, size):
  epochs = 6
  count = -(-epochs * total // size)
  batches = take(total, size, count)
  assert {batch['inputs'].shape for batch in batches} == {(size, 2, 3)}
  stream = numbers_of(batches)[: epochs * total].reshape(epochs, total)
  assert np.array_equal(np.sort(stream, axis=1), np.tile(np.arange(total), (epochs, 1)))


def test_each_epoch_is_shuffled_afresh():
  epochs = numbers_of(take(50, 10, 20)).reshape(4, 50)
  assert len({tuple(epoch) for epoch in epochs}) == 4
  assert not any(np.array_equal(epoch, np.arange(50)) for epoch in epochs)


def test_all_columns_of_an_example_stay_together():
  for batch in take(10, 4, 20):
    assert np.array_equal(batch['targets'], batch['inputs'][:, 0, 0].astype(int) % 4)
    assert (batch['inputs'] == batch['inputs'][:, :1, :1]).all()


def test_a_batch_may_straddle_epochs():
  first, second, third, fourth = (numbers_of([batch]) for batch in take(10, 4, 4))
  assert sorted([*first, *second, *third[:2]]) == list(range(10))
  assert len({*third[2:], *fourth}) == 6


@pytest.mark.parametrize(('total', 'size'), SIZES)
@pytest.mark.parametrize('start', [1, 2, 5, 11])
def test_a_later_start_gives_the_same_stream_from_there(total, size, start):
  whole = numbers_of(take(total, size, start + 6)[start:])
  assert np.array_equal(numbers_of(take(total, size, 6, start=start)), whole)


def test_the_order_is_the_seeds_alone():
  first = numbers_of(take(40, 8, 10, seed=3))
  assert np.array_equal(first, numbers_of(take(40, 8, 10, seed=3)))
  assert not np.array_equal(first, numbers_of(take(40, 8, 10, seed=4)))


def test_the_stream_of_examples_does_not_depend_on_the_batch_size():
  whole = numbers_of(take(30, 30, 4))
  assert np.array_equal(numbers_of(take(30, 8, 15)), whole)
  assert np.array_equal(numbers_of(take(30, 60, 2)), whole)


def test_every_place_of_an_epoch_gets_every_example_as_often():
  epochs = numbers_of(take(5, 5, 4000)).reshape(4000, 5)
  share = np.stack([(epochs == number).mean(axis=0) for number in range(5)])
  assert np.abs(share - 0.2).max() < 0.03  # five standard deviations are 0.032


def test_batches_keep_the_types_and_do_not_share_the_data_sets_memory():
  arrays = numbered(6)
  batch = next(in_memory.training_batches(arrays, 6, 0))
  assert (batch['inputs'].dtype, batch['targets'].dtype) == (np.float32, np.int32)
  batch['inputs'][:] = -1
  assert np.array_equal(arrays['inputs'], numbered(6)['inputs'])


@pytest.mark.parametrize(
  ('total', 'size', 'count'), [(10, 5, 2), (10, 4, 3), (10, 32, 1), (1, 1, 1)]
)
def test_an_evaluation_sees_every_example_once_in_order_and_knows_its_padding(total, size, count):
  batches = in_memory.evaluation_batches(numbered(total), size)
  assert len(batches) == count
  weights = np.concatenate([batch['weights'] for batch in batches])
  assert weights.dtype == np.float32
  assert np.array_equal(weights, [1.0] * total + [0.0] * (count * size - total))
  seen = numbers_of(batches)
  assert np.array_equal(seen[weights == 1], np.arange(total))
  assert not seen[weights == 0].any()
  for batch in batches:
    assert {name: array.shape for name, array in batch.items()} == {
      'inputs': (size, 2, 3),
      'targets': (size,),
      'weights': (size,),
    }
    assert (batch['inputs'].dtype, batch['targets'].dtype) == (np.float32, np.int32)
