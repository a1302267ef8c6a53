"""Drawing trials: scrambled Halton points, the same for the same seed, slices that agree."""

import json
import math
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy.stats import qmc

from algorithmic_efficiency.hparams import halton, sampling, search_space

SPACE = {
  'learning_rate': {'min': 1e-4, 'max': 1e-1, 'scaling': 'log'},
  'dropout': {'min': -0.5, 'max': 1.5, 'scaling': 'linear'},
  'choice': {'feasible_points': [None, True, 3, 2.5, 'text', [1, 2], {'a': None}]},
}


def parsed(content):
  faults = []
  space = search_space.parse(content, faults)
  assert not faults
  return space


def reference_points(num_dimensions, count, seed):
  engine = qmc.Halton(num_dimensions, scramble=True, rng=np.random.default_rng(seed))
  return engine.random(count)


@pytest.mark.parametrize('num_dimensions', [1, 2, 5, 20])
def test_points_fill_the_intervals_of_their_base(num_dimensions):
  """What makes a sequence Halton's, scrambled or not.

  In the dimension of prime b the first b**k points lie one in each of the b**k intervals.
  """
  primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71]
  points = halton.points(num_dimensions, 0, 128, seed=3)
  assert points.shape == (128, num_dimensions)
  assert ((points >= 0) & (points < 1)).all()
  for base, column in zip(primes, points.T, strict=False):
    count = base ** int(math.log(128, base) + 1e-9)
    assert sorted((column[:count] * count).astype(int)) == list(range(count))


def test_values_are_closed_forms_of_the_points():
  sampled = sampling.sample(parsed(SPACE), 0, 200, seed=11)
  choices = SPACE['choice']['feasible_points']
  for point, (u, v, w) in zip(sampled, reference_points(3, 200, 11), strict=True):
    assert list(point) == ['learning_rate', 'dropout', 'choice']
    assert point['learning_rate'] == pytest.approx(10 ** (-4 + 3 * u), rel=1e-12)
    assert point['dropout'] == pytest.approx(-0.5 + 2 * v, rel=1e-12)
    assert point['choice'] == choices[math.floor(w * len(choices))]


def test_a_log_range_has_as_many_points_in_each_decade():
  sampled = sampling.sample(parsed(SPACE), 0, 300, seed=5)
  decades = Counter(math.floor(math.log10(point['learning_rate'])) for point in sampled)
  assert set(decades) == {-4, -3, -2}
  assert all(abs(count - 100) <= 5 for count in decades.values())


def test_every_feasible_point_comes_as_often_and_keeps_its_type():
  sampled = sampling.sample(parsed(SPACE), 0, 700, seed=5)
  counts = Counter(json.dumps(point['choice']) for point in sampled)
  assert set(counts) == {json.dumps(value) for value in SPACE['choice']['feasible_points']}
  assert all(abs(count - 100) <= 15 for count in counts.values())
  types = {type(point['choice']) for point in sampled}
  assert types == {type(None), bool, int, float, str, list, dict}


def test_values_are_plain_python_floats():
  point = sampling.sample(parsed(SPACE), 0, 1, seed=0)[0]
  assert type(point['learning_rate']) is float
  assert type(point['dropout']) is float


@pytest.mark.parametrize('seed', [0, 1, 2**32 - 1])
def test_the_same_seed_gives_the_same_points(seed):
  space = parsed(SPACE)
  assert sampling.sample(space, 0, 20, seed) == sampling.sample(space, 0, 20, seed)


def test_different_seeds_give_different_points():
  space = parsed(SPACE)
  drawn = {json.dumps(sampling.sample(space, 0, 1, seed)) for seed in range(50)}
  assert len(drawn) == 50


def test_other_random_state_does_not_matter():
  space = parsed(SPACE)
  np.random.seed(1)
  before = sampling.sample(space, 0, 5, seed=9)
  np.random.seed(2)
  assert sampling.sample(space, 0, 5, seed=9) == before


def test_slices_agree_with_the_whole():
  space = parsed(SPACE)
  whole = sampling.sample(space, 0, 30, seed=4)
  for start in range(0, 30, 4):
    for end in range(start, 31, 5):
      assert sampling.sample(space, start, end, seed=4) == whole[start:end]


def test_more_trials_only_add_to_those_before():
  space = parsed(SPACE)
  assert sampling.sample(space, 0, 25, seed=8)[:5] == sampling.sample(space, 0, 5, seed=8)


def test_a_list_is_taken_in_order_and_may_end_early():
  trials = [{'a': i, 'b': [i]} for i in range(5)]
  space = parsed(trials)
  assert sampling.sample(space, 0, 5, seed=0) == trials
  assert sampling.sample(space, 0, 3, seed=123) == trials[:3]
  assert sampling.sample(space, 2, 4, seed=0) == trials[2:4]
  assert sampling.sample(space, 3, 100, seed=0) == trials[3:]
  assert sampling.sample(space, 5, 9, seed=0) == []


def test_points_belong_to_the_caller():
  space = parsed([{'a': 1}])
  sampling.sample(space, 0, 1, seed=0)[0]['a'] = 2
  assert sampling.sample(space, 0, 1, seed=0) == [{'a': 1}]


@pytest.mark.parametrize(('start', 'end'), [(0, 0), (3, 3), (5, 2)])
def test_no_trials_are_no_points(start, end):
  assert sampling.sample(parsed(SPACE), start, end, seed=0) == []


def test_the_program_prints_what_the_function_returns(tmp_path):
  path = tmp_path / 'space.json'
  path.write_text(json.dumps(SPACE))
  command = [sys.executable, '-m', sampling.__name__, str(path), '2', '7', '77']
  printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
  assert json.loads(printed) == sampling.sample(search_space.load(path), 2, 7, seed=77)
