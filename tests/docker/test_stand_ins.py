"""The stand-ins of scripts/containers: what they alter in a container's configuration."""

import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / 'scripts' / 'containers'


@pytest.fixture
def load(monkeypatch):
  def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module

  return load


def test_what_root_may_not_give_is_not_asked_for(load):
  config = {
    'process': {
      'capabilities': {'bounding': ['CAP_KILL', 'CAP_SYS_RESOURCE'], 'effective': ['CAP_KILL']},
      'rlimits': [
        {'type': 'RLIMIT_MEMLOCK', 'hard': (1 << 64) - 1, 'soft': (1 << 64) - 1},
        {'type': 'RLIMIT_NOFILE', 'hard': 1024, 'soft': 512},
        {'type': 'RLIMIT_STACK', 'hard': 1 << 26, 'soft': 1 << 26},
      ],
      'oomScoreAdj': -500,
    }
  }
  load('limited_runtime').lower(config, {'RLIMIT_MEMLOCK': 8 << 20, 'RLIMIT_NOFILE': 20000})
  assert config['process'] == {
    'capabilities': {'bounding': ['CAP_KILL'], 'effective': ['CAP_KILL']},
    'rlimits': [
      {'type': 'RLIMIT_MEMLOCK', 'hard': 8 << 20, 'soft': 8 << 20},
      {'type': 'RLIMIT_NOFILE', 'hard': 1024, 'soft': 512},
      {'type': 'RLIMIT_STACK', 'hard': 1 << 26, 'soft': 1 << 26},
    ],
  }


@pytest.mark.parametrize('arguments', [['--bundle', '/b'], ['--bundle=/b'], ['-b', '/b']])
def test_the_bundle_is_where_runc_is_told(load, arguments):
  assert load('limited_runtime').bundle(['create', *arguments, 'name']) == Path('/b')


@pytest.mark.parametrize(
  ('environment', 'numbers'),
  [
    (['HABANA_VISIBLE_DEVICES=0,2'], [0, 2]),
    (['PATH=/bin', 'HABANA_VISIBLE_DEVICES=all'], list(range(8))),
    (['HABANA_VISIBLE_DEVICES='], []),
    (['PATH=/bin'], []),
  ],
)
def test_a_container_gets_the_gaudis_it_asks_for(load, monkeypatch, environment, numbers):
  load('limited_runtime')
  config = {'process': {'env': environment}, 'linux': {}}
  load('habana_runtime').add_devices(config)
  paths = [device['path'] for device in config['linux']['devices']]
  assert paths == [f'/dev/accel/accel{number}' for number in numbers]
