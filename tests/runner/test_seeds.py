"""One seed, a tree of others: the same everywhere and in whatever order they are asked for."""

import numpy as np
import pytest

from algorithmic_efficiency.hparams.seeds import derive
from algorithmic_efficiency.runner.seeds import TrialSeeds

SEEDS = [0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, -(2**63)]


def keep(numbers):
  return numbers


@pytest.mark.parametrize('seed', SEEDS)
def test_derive_is_deterministic_and_fits_32_bits(seed):
  for path in ((), (0,), (3,), (4, 0), (4, 1)):
    value = derive(seed, *path)
    assert type(value) is int
    assert 0 <= value < 2**32
    assert derive(seed, *path) == value


def test_derive_agrees_with_numpys_spawned_children():
  """A path is what numpy calls spawning: child 2 of child 5."""
  for seed in (0, 42, 2**63 - 1):
    child = np.random.SeedSequence(seed).spawn(6)[5].spawn(3)[2]
    assert derive(seed, 5, 2) == int(child.generate_state(1)[0])


def test_derive_never_changes():
  """Records name seeds; these numbers are what they have always meant."""
  assert [derive(0), derive(0, 0), derive(0, 1), derive(-1, 4, 2)] == [
    2968811710, 3757552657, 673228719, 2565563509,
  ]  # fmt: skip
  assert TrialSeeds(0, keep).of_step(1024).tolist() == [
    [653031950, 829987179], [925832551, 3547643813], [3066471683, 3838505322],
  ]  # fmt: skip


def test_different_seeds_and_paths_differ():
  paths = [(), *((i,) for i in range(20)), *((i, j) for i in range(5) for j in range(20))]
  values = [derive(seed, *path) for seed in SEEDS for path in paths]
  assert len(set(values)) == len(values)


def test_a_trials_seeds_differ_from_each_other():
  for seed in (0, 7, -5):
    made = TrialSeeds(seed, keep)
    values = [made.model, made.data, made.hidden, *map(int, made.optimizer)]
    values += [int(n) for key in made.of_step(0) for n in key]
    assert len(set(values)) == len(values)
    assert made.seed == seed


def test_trials_of_neighbouring_seeds_share_no_step_key():
  keys = [tuple(key) for seed in range(4) for step in range(64) for key in _keys(seed, step)]
  assert len(set(keys)) == len(keys)


def _keys(seed, step):
  return TrialSeeds(seed, keep).of_step(step).tolist()


BORDERS = [0, 1, 1022, 1023, 1024, 1025, 2047, 2048, 5000, 10**6]


def test_keys_of_a_step_do_not_depend_on_the_steps_before():
  in_order, backwards = TrialSeeds(3, keep), TrialSeeds(3, keep)
  ahead = {step: in_order.of_step(step).tolist() for step in range(2050)}
  ahead |= {step: in_order.of_step(step).tolist() for step in BORDERS}
  for step in reversed(BORDERS):
    assert backwards.of_step(step).tolist() == ahead[step]
    assert TrialSeeds(3, keep).of_step(step).tolist() == ahead[step]
  again = TrialSeeds(3, keep)  # to and fro over a block's border
  for step in (1023, 1024, 1023, 1024, 0):
    assert again.of_step(step).tolist() == ahead[step]


def test_all_steps_have_keys_of_their_own():
  made = TrialSeeds(0, keep)
  keys = np.concatenate([made.of_step(step) for step in range(3000)])
  assert keys.shape == (9000, 2)
  assert keys.dtype == np.uint32
  assert len(np.unique(keys, axis=0)) == 9000


def test_keys_are_uniform_32_bit_numbers():
  made = TrialSeeds(0, keep)
  bits = np.unpackbits(np.concatenate([made.of_step(s) for s in range(2000)]).view(np.uint8))
  # The mean of n fair bits strays from 1/2 by 1/(2 sqrt(n)); five times that is one in 1.7 million.
  assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


def test_the_framework_makes_the_keys():
  made = TrialSeeds(9, lambda numbers: numbers.astype(np.uint64) * 2)
  plain = TrialSeeds(9, keep)
  assert (made.of_step(5) == plain.of_step(5).astype(np.uint64) * 2).all()
  assert (made.optimizer == plain.optimizer.astype(np.uint64) * 2).all()


def test_numpys_own_random_state_is_left_alone():
  np.random.seed(0)
  expected = np.random.RandomState(0).random_sample()
  TrialSeeds(1, keep).of_step(0)
  assert np.random.random_sample() == expected
