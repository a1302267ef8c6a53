"""Tests that launchers' variables are understood."""

import pytest

from algorithmic_efficiency.frameworks import environment

NAMES = [name for pairs in environment._VARIABLES.values() for pair in pairs for name in pair]


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
  for name in NAMES:
    monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize('framework', ['jax', 'pytorch'])
def test_without_a_launcher_a_process_is_alone(framework):
  assert environment.this_process(framework) == (0, 1, '')
  assert environment.is_first(framework)


@pytest.mark.parametrize(
  ('framework', 'index', 'count'),
  [
    ('pytorch', 'RANK', 'WORLD_SIZE'),
    ('jax', 'JAX_PROCESS_ID', 'JAX_NUM_PROCESSES'),
    ('jax', 'SLURM_PROCID', 'SLURM_STEP_NUM_TASKS'),
    ('jax', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
  ],
)
def test_each_launcher_is_understood(framework, index, count, monkeypatch):
  monkeypatch.setenv(index, '2')
  assert environment.this_process(framework) == (0, 1, '')  # one name alone says nothing
  monkeypatch.setenv(count, '4')
  assert environment.this_process(framework) == (2, 4, index)
  assert not environment.is_first(framework)
  assert not environment.is_first(None)  # before the framework is known
  other = {'jax': 'pytorch', 'pytorch': 'jax'}[framework]
  assert environment.is_first(other)


@pytest.mark.parametrize('index', ['4', '-1', 'two'])
def test_variables_that_make_no_sense_are_told(index, monkeypatch):
  monkeypatch.setenv('RANK', index)
  monkeypatch.setenv('WORLD_SIZE', '4')
  with pytest.raises(ValueError, match=index):
    environment.this_process('pytorch')
  assert environment.is_first('pytorch')  # somebody must say so
