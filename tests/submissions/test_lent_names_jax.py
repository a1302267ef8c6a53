"""Tests that removed names of JAX mean in old submissions what they meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from algorithmic_efficiency.submissions import lent_names_jax


@pytest.fixture(scope='module')
def lent():
  """JAX as an old submission sees it."""
  return lent_names_jax.lend()['jax']


@pytest.fixture(autouse=True)
def _stays_removed():
  yield
  assert not hasattr(jax, 'tree_map')
  assert not hasattr(jnp, 'DeviceArray')


def test_trees(lent):
  tree = {'a': 1, 'b': (2, 3)}
  assert lent.tree_map(lambda x, y: x + y, tree, tree) == {'a': 2, 'b': (4, 6)}
  assert lent.tree_util.tree_multimap(lambda x: -x, tree) == {'a': -1, 'b': (-2, -3)}
  assert lent.tree_leaves(tree) == [1, 2, 3]
  leaves, structure = lent.tree_flatten(tree)
  assert structure == lent.tree_structure(tree)
  assert lent.tree_unflatten(structure, leaves) == tree
  assert lent.tree_reduce(lambda x, y: x + y, tree) == 6
  assert lent.tree_all({'a': True, 'b': False}) is False


def test_what_is_still_there_is_jaxs_own(lent):
  assert lent.grad is jax.grad
  assert lent.tree_util.tree_map is jax.tree_util.tree_map
  assert lent.numpy.mean is jnp.mean


def test_a_name_that_never_was_is_not_there(lent):
  with pytest.raises(AttributeError, match='no_such_name'):
    lent.no_such_name  # noqa: B018 - asked for on purpose


@pytest.mark.parametrize(
  ('name', 'array'),
  [
    ('alltrue', [True, False]),
    ('sometrue', [True, False]),
    ('cumproduct', [1, 2, 3]),
    ('product', [1, 2, 3]),
    ('round_', [1.4, 1.6]),
    ('row_stack', [[1, 2], [3, 4]]),
    ('trapz', [1.0, 2.0, 4.0]),
    ('msort', [[3, 1], [2, 5]]),
  ],
)
def test_functions_of_numpy_by_numpy_of_then(name, array, lent):
  expected = {
    'alltrue': False,
    'sometrue': True,
    'cumproduct': [1, 2, 6],
    'product': 6,
    'round_': [1.0, 2.0],
    'row_stack': [[1, 2], [3, 4]],
    'trapz': 4.5,
    'msort': [[2, 1], [3, 5]],
  }
  np.testing.assert_array_equal(getattr(lent.numpy, name)(jnp.asarray(array)), expected[name])


def test_clip_takes_its_bounds_by_any_name(lent):
  array, expected = jnp.arange(5), [1, 1, 2, 3, 3]
  for options in ({'a_min': 1, 'a_max': 3}, {'min': 1, 'max': 3}):
    np.testing.assert_array_equal(lent.numpy.clip(array, **options), expected)
  np.testing.assert_array_equal(lent.numpy.clip(a=array, a_min=1, a_max=3), expected)
  np.testing.assert_array_equal(lent.numpy.clip(array, 1), [1, 1, 2, 3, 4])


def test_arrays_are_put_along_an_axis_of_devices(lent):
  devices = jax.local_devices()
  copies = lent.device_put_replicated({'x': np.arange(3)}, devices)
  assert copies['x'].shape == (len(devices), 3)
  shards = lent.device_put_sharded([{'x': np.arange(3) + i} for i in range(len(devices))], devices)
  assert [int(row[0]) for row in shards['x']] == list(range(len(devices)))
  assert len(shards['x'].addressable_shards) == len(devices)


def test_types_that_annotations_name(lent):
  assert isinstance(jnp.ones(2), lent.numpy.DeviceArray)
  assert isinstance(jax.random.PRNGKey(0), lent.random.KeyArray)
