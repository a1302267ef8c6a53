"""Search spaces: what is read from JSON, and every fault of a file in one message."""

import json
import math

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.hparams import search_space
from algorithmic_efficiency.hparams.search_space import FeasiblePoints, Range


@pytest.fixture
def load(tmp_path):
  """Writes content (text, bytes, or anything that JSON can hold) to a file and loads that."""

  def write_and_load(content):
    path = tmp_path / 'space.json'
    if isinstance(content, bytes):
      path.write_bytes(content)
    else:
      path.write_text(content if isinstance(content, str) else json.dumps(content))
    return search_space.load(path)

  return write_and_load


def test_an_object_is_a_space_to_draw_from_in_the_order_of_the_file(load):
  space = load(
    {
      'weight_decay': {'min': 1, 'max': 2, 'scaling': 'linear'},
      'learning_rate': {'min': 1e-4, 'max': 1e-2, 'scaling': 'log'},
      'decoupled': {'feasible_points': [True]},
    }
  )
  assert space.names == ('weight_decay', 'learning_rate', 'decoupled')
  assert space.dimensions == {
    'weight_decay': Range(1.0, 2.0, log=False),
    'learning_rate': Range(1e-4, 1e-2, log=True),
    'decoupled': FeasiblePoints((True,)),
  }
  assert space.trials is None


def test_a_list_is_exact_trials_and_keeps_every_value_as_it_is(load):
  trials = [
    {'a': 1, 'b': None, 'c': 'x', 'd': [1, {'e': 2}]},
    {'a': 1.5, 'b': True, 'c': '', 'd': {}},
  ]
  space = load(trials)
  assert space.names == ('a', 'b', 'c', 'd')
  assert list(space.trials) == trials
  assert type(space.trials[0]['a']) is int  # 1 must not become 1.0
  assert space.dimensions is None


def test_trials_have_their_values_in_the_order_of_the_first(load):
  space = load([{'a': 1, 'b': 2}, {'b': 4, 'a': 3}])
  assert [list(trial) for trial in space.trials] == [['a', 'b'], ['a', 'b']]
  assert space.trials[1] == {'a': 3, 'b': 4}


@pytest.mark.parametrize('u', [0.0, 1e-9, 0.25, 0.5, 0.999, math.nextafter(1.0, 0.0)])
def test_a_range_is_even_in_the_value_or_in_its_logarithm(u):
  assert Range(-2.0, 6.0, log=False).at(u) == pytest.approx(-2.0 + 8.0 * u)
  # Independent of the formula: the share of the way from end to end, counted in decades.
  value = Range(1e-4, 1e-1, log=True).at(u)
  assert math.log10(value) == pytest.approx(-4 + 3 * u, abs=1e-9)


@pytest.mark.parametrize('log', [False, True])
def test_rounding_never_steps_outside_of_a_range(log):
  for low, high in ((0.1, 0.3), (1e-8, 0.7), (3.3, 3.3), (0.9, 0.999)):
    for u in (0.0, math.nextafter(0.0, 1.0), 1 - 1e-16, math.nextafter(1.0, 0.0)):
      assert low <= Range(low, high, log).at(u) <= high


def test_a_log_range_may_be_wider_than_the_largest_float():
  # min 1e-200 to max 1e200: their ratio is no float, but every point between them is.
  assert Range(1e-200, 1e200, log=True).at(0.5) == pytest.approx(1.0, rel=1e-9)


def test_a_linear_range_may_be_wider_than_the_largest_float():
  assert Range(-1.5e308, 1.5e308, log=False).at(0.75) == pytest.approx(0.75e308)


def test_feasible_points_share_the_interval_evenly():
  points = FeasiblePoints(('a', 'b', 'c'))
  assert [points.at(u) for u in (0.0, 0.33, 0.34, 0.66, 0.67, 0.999)] == list('aabbcc')
  assert points.at(math.nextafter(1.0, 0.0)) == 'c'


RANGE = {'min': 0.1, 'max': 1.0, 'scaling': 'linear'}
FAULTS = [
  ({}, 'no hyperparameters'),
  ([], 'list of trials is empty'),
  ('3', 'bare int'),
  ('"x"', 'bare str'),
  ('null', 'bare NoneType'),
  ({'a': {'min': 1, 'max': 0.5, 'scaling': 'linear'}}, "min of 'a' is larger than max"),
  ({'a': {'min': 0, 'max': 1, 'scaling': 'log'}}, 'above 0, not 0'),
  ({'a': {'min': -1, 'max': 1, 'scaling': 'log'}}, 'above 0, not -1'),
  ({'a': {'min': '0', 'max': 1, 'scaling': 'linear'}}, "min of 'a' must be a finite number"),
  ({'a': {'min': False, 'max': 1, 'scaling': 'linear'}}, 'not False'),
  ({'a': {'min': None, 'max': [1], 'scaling': 'linear'}}, r'max of .* not \[1\]'),
  ('{"a": {"min": 0, "max": NaN, "scaling": "linear"}}', 'not nan'),
  ('{"a": {"min": 0, "max": 1e999, "scaling": "linear"}}', 'not inf'),
  ('{"a": {"min": 0, "max": 1' + '0' * 400 + ', "scaling": "linear"}}', 'finite number'),
  ({'a': {**RANGE, 'scaling': 'logg'}}, "did you mean 'log'"),
  ({'a': {**RANGE, 'scaling': ['log']}}, "scaling of 'a'"),
  ({'a': {'min': 0, 'max': 1}}, "'a' must be"),
  ({'a': {**RANGE, 'steps': 3}}, "'a' must be"),
  ({'a': 0.1}, 'not 0.1'),
  ({'a': {'feasible_points': []}}, 'at least one value'),
  ({'a': {'feasible_points': 0.1}}, 'must be a list'),
  ({'a': {'feasible_points': 'abc'}}, 'must be a list'),
  ({'learning rate': RANGE}, 'use a Python name'),
  ({'lambda': RANGE}, "'lambda' cannot be read"),
  ({'_x': RANGE}, "'_x' cannot be read"),
  ({'': RANGE}, "'' cannot be read"),
  ([{'a': 1}, {'b': 1}], r"trial 2 .*missing \['a'\], extra \['b'\]"),
  ([{'a': 1}, 3], 'trial 2 must be an object'),
  ([{}], 'trial 1 must be an object'),
  ([{'class': 1}], "'class' cannot be read"),
  ('{"a": {"feasible_points": [1]}, "a": {"feasible_points": [2]}}', "'a' is given twice"),
  ('[{"a": 1, "a": 2}]', "'a' is given twice"),
  ('{"a": ', 'is not JSON'),
  ('', 'is not JSON'),
  (b'\xff\xfe{}', 'is not JSON'),
]


@pytest.mark.parametrize(('content', 'message'), FAULTS)
def test_a_fault_is_told_with_the_file_and_the_value(load, content, message):
  with pytest.raises(UsageError, match=message) as caught:
    load(content)
  assert 'space.json' in str(caught.value)
  assert '\n' not in str(caught.value)
  assert len(str(caught.value)) < 1000 or 'finite' in message


def test_all_faults_of_a_file_are_told_at_once(load):
  with pytest.raises(UsageError) as caught:
    load(
      {
        'a': {'min': 2, 'max': 1, 'scaling': 'linear'},
        'b': {'min': 'x', 'max': None, 'scaling': 'square'},
        'not a name': {'feasible_points': []},
        'd': 5,
      }
    )
  message = str(caught.value)
  for clause in ("min of 'a'", "min of 'b'", "max of 'b'", "scaling of 'b'", "'not a name' cannot",
                 "feasible_points of 'not a name'", "'d' must be"):  # fmt: skip
    assert clause in message


def test_all_faulty_trials_of_a_list_are_told_at_once(load):
  with pytest.raises(UsageError, match=r'trial 1 .*trial 3 .*trial 4'):
    load([None, {'a': 1}, [], 7])
  with pytest.raises(UsageError, match=r'trial 2 .*trial 3 '):
    load([{'a': 1}, {'b': 1}, {'a': 1, 'c': 2}])


def test_a_file_that_is_not_there_is_told(tmp_path):
  with pytest.raises(UsageError, match=r'no search space file .*nothing\.json'):
    search_space.load(tmp_path / 'nothing.json')
  with pytest.raises(UsageError, match='no search space file'):
    search_space.load(tmp_path)


def test_parse_collects_faults_and_gives_no_space():
  faults = []
  assert search_space.parse(3, faults) is None
  assert len(faults) == 1
