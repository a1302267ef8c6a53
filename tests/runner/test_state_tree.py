"""Tests that training goes on from a state tree as if nothing had happened, whatever it holds."""

import collections
import copy
import dataclasses
import enum
import functools
import json
import random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import struct
from flax.core import FrozenDict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from algorithmic_efficiency.frameworks import on_jax, on_pytorch
from algorithmic_efficiency.runner import state_tree


def through_json(roots, fresh, framework=on_pytorch):
  """The roots again, from a fresh start's, as after a kill: nothing is shared with the old ones."""
  data, arrays = state_tree.flatten(roots, framework)
  arrays = {name: array.copy() for name, array in arrays.items()}
  return state_tree.restore(json.loads(json.dumps(data)), arrays, fresh, framework)


def again(x, fresh=None, framework=on_pytorch):
  return through_json({'x': x}, {'x': fresh}, framework)['x']


# Values.


class Point(NamedTuple):
  x: Any
  y: Any


@dataclasses.dataclass
class Average:
  decay: float
  values: list


class Phase(enum.Enum):
  WARM_UP = 1
  STEADY = 2


class Slotted:
  __slots__ = ('a', 'b')


class Plain:
  """Data and a function, as submissions write them."""

  def __init__(self):
    self.count = 0
    self.function = lambda x: x + 1


@pytest.mark.parametrize(
  'x',
  [
    None, True, 3, 2**70, -1, 0.1, float('inf'), 'text', b'\x00\xff', 1 + 2j,
    [1, [2, 3]], (1, (2,)), {'a': 1, 2: 'b', (1, 2): None}, {1, 2}, frozenset({3}),
    collections.OrderedDict(b=1, a=2), collections.deque([1, 2]), collections.Counter('aab'),
    Point(1, (2, 3)), Average(0.9, [1.5]), Phase.STEADY, np.float32(0.1), np.int64(-5),
    np.bool_(True),
  ],
)  # fmt: skip
def test_plain_values_come_back_without_a_fresh_start(x):
  found = again(x)
  assert found == x
  assert type(found) is type(x)


def test_not_a_number_comes_back():
  assert np.isnan(again(float('nan')))


@pytest.mark.parametrize('dtype', ['float64', 'float16', 'int8', 'uint32', 'bool', 'complex64'])
def test_arrays_of_numpy(dtype):
  x = np.arange(6).reshape(2, 3).astype(dtype)
  for array in (x, x.T, x[:, :0], x[0, 0:1].reshape(())):
    found = again(array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_a_default_dict_keeps_its_default():
  x = collections.defaultdict(list, a=[1])
  found = again(x)
  assert found == x
  assert found['new'] == []


def test_what_is_one_object_stays_one():
  inner = [1]
  x = {'a': inner, 'b': (inner, inner)}
  found = again(x, {'a': [], 'b': ([], [])})
  found['a'].append(2)
  assert found == {'a': [1, 2], 'b': ([1, 2], [1, 2])}


def test_a_list_that_holds_itself():
  x = [1]
  x.append(x)
  found = again(x)
  assert found[1] is found


def test_objects_keep_their_functions_and_get_their_data():
  x, fresh = Plain(), Plain()
  x.count = 7
  found = again(x, fresh)
  assert found is fresh
  assert (found.count, found.function(1)) == (7, 2)


def test_objects_with_slots():
  x, fresh = Slotted(), Slotted()
  x.a, x.b, fresh.a = 1, [2], None
  found = again(x, fresh)
  assert (found.a, found.b) == (1, [2])


@pytest.mark.parametrize('x', [lambda: None, Plain(), functools.partial(print), collections])
def test_code_that_a_fresh_start_does_not_make_is_told_with_its_place(x):
  with pytest.raises(state_tree.CannotRestore, match=r"x\['late'\] is a .*, which is not among"):
    again({'late': x}, {})


def test_code_stays_what_the_fresh_start_made():
  fresh = {'f': len}
  assert again({'f': print}, fresh)['f'] is len


@pytest.mark.parametrize('kind', [random.Random, np.random.default_rng, np.random.RandomState])
def test_generators_go_on(kind):
  x, fresh = kind(1), kind(2)
  draw = 'normal' if kind is not random.Random else 'random'
  getattr(x, draw)()
  found = again(x, fresh)
  assert [getattr(found, draw)() for _ in range(3)] == [getattr(x, draw)() for _ in range(3)]


# PyTorch.


def network():
  torch.manual_seed(0)
  layers = [torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.3)]
  return torch.nn.Sequential(*layers, torch.nn.Linear(6, 2))


def step(model, state, number):
  """A training step; the data depends on its number alone."""
  generator = torch.Generator().manual_seed(number)
  x = torch.randn(8, 4, generator=generator)

  def closure():
    state['optimizer'].zero_grad()
    loss = model(x).square().sum()
    loss.backward()
    return loss

  state['optimizer'].step(closure)
  for scheduler in state.get('schedulers', ()):
    scheduler.step()
  if 'average' in state:
    for ours, theirs in zip(state['average'].parameters(), model.parameters(), strict=True):
      ours.data.lerp_(theirs.data, 0.1)
  if 'late' in state and state['late'] is None:
    state['late'] = {'buffer': torch.zeros(3), 'names': ['a']}
  if state.get('late'):
    state['late']['buffer'] += 1


def adam(model):
  return {'optimizer': torch.optim.Adam(model.parameters(), 1e-2, amsgrad=True)}


def scheduled(model):
  optimizer = torch.optim.SGD(model.parameters(), 0.003, momentum=0.9, nesterov=True)
  warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=3)
  cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
  both = torch.optim.lr_scheduler.SequentialLR(optimizer, [warm, cosine], [3])
  factor = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
  return {'optimizer': optimizer, 'schedulers': [both, factor], 'hint': 12, 'f': (len, 1)}


def averaged(model):
  return {**adam(model), 'average': copy.deepcopy(model), 'late': None}


def lbfgs(model):
  return {'optimizer': torch.optim.LBFGS(model.parameters(), 0.1, history_size=3)}


def groups(model):
  named = list(model.parameters())
  parts = [{'params': named[:2], 'lr': 0.1, 'kind': 'fast'}, {'params': named[2:], 'lr': 0.01}]
  return {'optimizer': torch.optim.RMSprop(parts, centered=True, momentum=0.5)}


@pytest.mark.parametrize('make', [adam, scheduled, averaged, lbfgs, groups])
def test_training_in_pytorch_goes_on_to_the_last_digit(make):
  model = network()
  state = make(model)
  torch.manual_seed(5)
  for number in range(4):
    step(model, state, number)
  roots = {'model': model, 'state': state, 'hidden': on_pytorch.state.hidden()}
  data, arrays = copy.deepcopy(state_tree.flatten(roots, on_pytorch))
  for number in range(4, 8):
    step(model, state, number)

  fresh_model = network()
  fresh = {'model': fresh_model, 'state': make(fresh_model)}
  found = state_tree.restore(json.loads(json.dumps(data)), arrays, fresh, on_pytorch)
  assert found['model'] is fresh_model
  on_pytorch.state.restore_hidden(found['hidden'])
  for number in range(4, 8):
    step(found['model'], found['state'], number)
  for ours, theirs in zip(fresh_model.parameters(), model.parameters(), strict=True):
    assert torch.equal(ours, theirs)
  for ours, theirs in zip(fresh_model.buffers(), model.buffers(), strict=True):
    assert torch.equal(ours, theirs)


def test_gradients_that_are_gathered_over_steps_are_kept():
  model, fresh = network(), network()
  model(torch.ones(3, 4)).sum().backward()
  found = again(model, fresh)
  for ours, theirs in zip(found.parameters(), model.parameters(), strict=True):
    assert torch.equal(ours.grad, theirs.grad)


def test_views_of_one_storage_stay_views_of_one():
  base = torch.arange(6.0)
  x = {'base': base, 'view': base[2:4], 'transposed': base.view(2, 3).T}
  found = again(x, {})
  found['view'] += 100
  assert found['base'].tolist() == [0, 1, 102, 103, 4, 5]
  assert found['transposed'].tolist() == [[0, 103], [1, 4], [102, 5]]


def test_a_view_of_a_parameter_that_was_made_on_the_way():
  model, fresh = network(), network()
  state = {'block': model[0].weight.detach()[:2]}
  found = through_json({'m': model, 's': state}, {'m': fresh, 's': {}})
  found['s']['block'].zero_()
  assert not fresh[0].weight[:2].any()
  assert fresh[0].weight[2:].any()


def test_what_shared_a_storage_and_no_more_does():
  one = torch.zeros(2)
  found = again([torch.ones(2), torch.full((2,), 2.0)], [one, one])
  assert [t.tolist() for t in found] == [[1, 1], [2, 2]]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64, torch.bool, torch.int16])
def test_types_of_tensors(dtype):
  x = torch.tensor([[1, 0], [2, 3]]).to(dtype)
  assert torch.equal(again(x), x)
  assert again(x).dtype == dtype
  assert again(x[:0]).shape == (0, 2)


def test_a_generator_of_pytorch_goes_on():
  x = torch.Generator().manual_seed(3)
  torch.rand(5, generator=x)
  found = again(x, torch.Generator())
  assert torch.equal(torch.rand(4, generator=found), torch.rand(4, generator=x))


# JAX.


@struct.dataclass
class State:
  count: int
  mean: Any
  function: Any = struct.field(pytree_node=False, default=None)


def test_training_in_jax_goes_on_to_the_last_digit():
  tx = optax.chain(
    optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(0.1, 9)), optax.ema(0.9)
  )
  start = {'w': jnp.ones((3, 2)), 'b': jnp.zeros(2)}

  @jax.jit
  def update(params, state, number):
    x = jax.random.normal(jax.random.key(number), (5, 3))
    gradient = jax.grad(lambda p: jnp.square(x @ p['w'] + p['b'] - 1).sum())(params)
    change, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, change), state

  params, state = start, tx.init(start)
  for number in range(3):
    params, state = update(params, state, number)
  found = through_json(
    {'p': params, 's': (state, tx.update)}, {'p': start, 's': (tx.init(start), tx.update)}, on_jax
  )
  assert found['s'][1] is tx.update
  there, back = (params, state), (found['p'], found['s'][0])
  for number in range(3, 6):
    there, back = update(*there, number), update(*back, number)
  assert jax.tree.structure(there) == jax.tree.structure(back)
  jax.tree.map(np.testing.assert_array_equal, there, back)


def test_classes_of_flax_and_frozen_dicts():
  x = State(3, FrozenDict({'a': jnp.ones(2)}), len)
  found = again(x, State(0, FrozenDict({'a': jnp.zeros(2)}), max), on_jax)
  assert (found.count, found.function, found.mean['a'].tolist()) == (3, max, [1, 1])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float32', 'int32', 'bool', 'uint8'])
def test_types_of_arrays(dtype):
  x = jnp.array([[1, 0], [2, 3]]).astype(dtype)
  found = again(x, None, on_jax)
  assert (found.dtype, found.weak_type) == (x.dtype, x.weak_type)
  np.testing.assert_array_equal(found, x)


def test_keys_and_weak_types():
  found = again({'key': jax.random.key(5), 'weak': jnp.asarray(0.1)}, None, on_jax)
  assert jax.random.normal(found['key']) == jax.random.normal(jax.random.key(5))
  assert found['weak'].weak_type
  assert found['weak'] == jnp.asarray(0.1)


def test_arrays_come_back_where_they_were():
  mesh = Mesh(np.array(jax.devices()), ('batch',))
  sharding = NamedSharding(mesh, PartitionSpec('batch'))
  bound = jax.device_put(np.arange(4.0), sharding)
  assert again(bound, None, on_jax).sharding == sharding
  assert not again(jnp.ones(2), None, on_jax).committed
  one = jax.device_put(np.ones(2), jax.devices()[0])
  assert again(one, None, on_jax).committed
