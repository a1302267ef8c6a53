"""Tests of keys, devices and compiled functions: what is placed where, and on how many."""

import functools
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import Command

from algorithmic_efficiency.frameworks import on_jax, on_pytorch

SEVERAL_DEVICES = '--xla_force_host_platform_device_count=8'
INPUTS = np.random.default_rng(3).standard_normal((32, 4), dtype=np.float32)
NUMBERS = np.uint32([[0, 0], [2**32 - 1, 2**32 - 1], [2, 4], [6, 8]])


@pytest.mark.parametrize('implementation', ['threefry2x32', 'rbg'])
def test_keys_in_jax_are_keys(implementation):
  with jax.default_prng_impl(implementation):
    keys = on_jax.keys(NUMBERS)
    drawn = [tuple(jax.random.bits(key, (3,)).tolist()) for key in keys]
    first, second = jax.random.split(keys[2])
  assert len(set(drawn)) == len(NUMBERS)
  assert not np.array_equal(first, second)


def test_keys_keep_the_leading_dimensions():
  assert np.shape(on_jax.keys(NUMBERS.reshape(2, 2, 2)))[:2] == (2, 2)
  assert np.shape(on_pytorch.keys(NUMBERS.reshape(2, 2, 2))) == (2, 2, 2)


def test_keys_in_pytorch_are_pairs_of_seeds():
  keys = on_pytorch.keys(NUMBERS)
  state = torch.get_rng_state()
  drawn = set()
  for first, second in keys:
    assert isinstance(first, int) and isinstance(second, int)
    torch.manual_seed(first)
    np.random.RandomState(second)  # takes none above 2**32 - 1
    drawn.add(tuple(torch.randn(3).tolist()))
  torch.set_rng_state(state)
  assert len(drawn) == len(NUMBERS)


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
def test_placing_keeps_the_values(framework):
  batch = {'inputs': INPUTS, 'targets': np.arange(32, dtype=np.int32)}
  for placed in (framework.place(batch), next(iter(framework.place_all(iter([batch]))))):
    assert set(placed) == {'inputs', 'targets'}
    assert np.array_equal(placed['inputs'], INPUTS)
    assert np.array_equal(placed['targets'], batch['targets'])


def test_class_numbers_become_what_losses_of_pytorch_take():
  placed = on_pytorch.place({'inputs': INPUTS, 'targets': np.arange(32, dtype=np.int32)})
  assert (placed['inputs'].dtype, placed['targets'].dtype) == (torch.float32, torch.int64)


def test_waiting_lasts_until_all_of_a_tree_is_computed():
  grow = jax.jit(lambda x: functools.reduce(lambda y, _: jnp.tanh(y @ y), range(10), x))
  x = jnp.ones((500, 500))
  tree = {'a': [grow(x)], 'b': (grow(x + 1), None, 3)}
  on_jax.wait(tree, None, [grow(x + 2)])
  assert tree['a'][0].is_ready()
  assert tree['b'][0].is_ready()
  assert on_pytorch.wait(torch.nn.Linear(2, 2), None, {'optimizer': None}) is None


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
def test_a_predictor_gives_numpy(framework):
  def predict(params, model_state, batch):
    assert model_state is None
    return batch['inputs'] * params, batch['inputs'].sum()

  run = framework.predictor(predict)
  doubled, total = run(2.0, None, framework.place({'inputs': INPUTS}))
  assert isinstance(doubled, np.ndarray)
  assert isinstance(total, np.ndarray | np.generic)
  np.testing.assert_allclose(doubled, 2 * INPUTS)
  np.testing.assert_allclose(total, INPUTS.sum(), rtol=1e-5)


def test_freeing_memory_makes_the_next_call_compile_anew():
  traces = []
  function = jax.jit(lambda x: traces.append(1) or x + 1)
  function(1.0), function(2.0)
  assert len(traces) == 1
  on_jax.free_memory()
  function(3.0)
  assert len(traces) == 2


def test_one_process_of_pytorch_has_one_device():
  assert on_pytorch.num_devices() == 1
  assert on_pytorch.describe_devices().startswith('1 x ')


ON_SEVERAL_DEVICES = """
import json, numpy as np, jax
from algorithmic_efficiency.frameworks import on_jax
class Net:
  def init(self, keys, inputs, train):
    weights = jax.random.normal(keys['params'], (inputs.shape[1], 3))
    return {'params': {'kernel': weights}, 'batch_stats': {'mean': weights.mean(axis=0)}}
params, state = on_jax.init(Net(), np.zeros((1, 5), np.float32), 0)
batch = {'inputs': np.arange(80, dtype=np.float32).reshape(16, 5), 'targets': np.arange(16)}
placed = on_jax.place(batch)
queued = next(iter(on_jax.place_all(iter([batch]))))
print(json.dumps({
  'devices': on_jax.num_devices(),
  'described': on_jax.describe_devices(),
  'pieces': [[s.device.id, s.data.tolist()] for s in placed['targets'].addressable_shards],
  'queued': [s.data.shape for s in queued['inputs'].addressable_shards],
  'replicated': [x.is_fully_replicated and len(x.devices()) for x in jax.tree.leaves(params)],
  'state': [x.is_fully_replicated and len(x.devices()) for x in jax.tree.leaves(state)],
}))
"""


def test_on_several_devices_a_batch_is_split_and_parameters_are_whole_on_each(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', SEVERAL_DEVICES)
  done = subprocess.run(
    [sys.executable, '-c', ON_SEVERAL_DEVICES], capture_output=True, text=True, timeout=100
  )
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout)
  assert found['devices'] == 8
  assert found['described'].startswith('8 x ')
  assert sorted(found['pieces']) == [[i, [2 * i, 2 * i + 1]] for i in range(8)]
  assert found['queued'] == [[2, 5]] * 8
  assert found['replicated'] == [8]
  assert found['state'] == [8]


@pytest.mark.slow
def test_several_devices_give_the_losses_of_one(tmp_path):
  # Eight, since they do not divide the 300 examples that an evaluation of digits looks at.
  space = tmp_path / 'space.json'
  space.write_text('[{"learning_rate": 0.001, "one_minus_beta_1": 0.1, "epsilon": 1e-8}]')
  flags = {'tuning_search_space': space, 'data': 'synthetic', 'max_global_steps': 3}
  commands = {'': Command(tmp_path / 'one'), SEVERAL_DEVICES: Command(tmp_path / 'several')}
  processes = [
    subprocess.Popen(
      command.arguments('jax', eval_period_steps=1, **flags),
      env={**os.environ, 'XLA_FLAGS': xla_flags},
      stdout=subprocess.PIPE,
      text=True,
    )
    for xla_flags, command in commands.items()
  ]
  printed = [process.communicate(timeout=100)[0] for process in processes]
  assert [process.returncode for process in processes] == [0, 0], printed
  assert 'on 8 x ' in printed[1]
  losses = [
    [[float(row[f'{split}/loss']) for split in ('train', 'test')] for row in rows]
    for rows in (command.rows('digits_jax') for command in commands.values())
  ]
  assert np.shape(losses) == (2, 3, 2)
  np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
  assert losses[0][0][0] > losses[0][1][0] > losses[0][2][0]
