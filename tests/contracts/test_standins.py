"""Tests that submissions of every published style run, on one device and on several."""

import csv
import functools
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import QUICKLY
from run_standins import ON_CIFAR, settings_of, stopped_and_gone_on_with

from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.runner.study import Study
from algorithmic_efficiency.submissions import conventions, loader

# Authors could not know what is deprecated today.
pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')

HERE = Path(__file__).parent / 'standins'
STANDINS = sorted(path.parent.name for path in HERE.glob('*/submission.py'))
V05 = {'jax_pmap_nadamw', 'jax_pmap_averaging'}
WITH_DROPOUT = ['jax_pmap_nadamw', 'jax_jit_sharded', 'pytorch_nadamw', 'pytorch_dropout']
DRIVER = Path(__file__).with_name('run_standins.py')
FOUR_DEVICES = '--xla_force_host_platform_device_count=4'


def framework_of(standin):
  return standin.partition('_')[0]


def rows_of(standin, folder, **changes):
  """The rows of one trial in this process, which must be complete."""
  study = Study(settings.check(settings_of(standin, folder, **changes)))
  (outcome,) = study.run()
  assert outcome['status'] == 'complete', outcome['reason']
  return recorded(study.plan.folder.trial(0).path)


def recorded(folder):
  with (folder / 'metrics.csv').open(newline='') as file:
    return list(csv.DictReader(file))


@functools.cache
def alone(name):
  """The rows of a stand-in on one device; on digits, or on cifar if the name ends so."""
  standin, _, workload = name.partition(':')
  with tempfile.TemporaryDirectory() as folder:
    return rows_of(standin, Path(folder), **(ON_CIFAR if workload else {}))


def losses_of(rows):
  losses = [float(row[f'{split}/loss']) for row in rows for split in ('train', 'test')]
  assert all(map(math.isfinite, losses))
  return losses


def test_there_is_a_stand_in_of_every_style():
  listed = [line.split('`')[1] for line in (HERE / 'README.md').read_text().splitlines()
            if line.startswith('| `')]  # fmt: skip
  assert sorted(listed) == STANDINS
  assert {framework_of(standin) for standin in STANDINS} == {'jax', 'pytorch'}


@pytest.mark.parametrize('standin', STANDINS)
def test_it_trains(standin):
  rows = alone(standin)
  assert [row['global_step'] for row in rows] == ['1', '30']
  losses = losses_of(rows)
  assert losses[2] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize('standin', STANDINS)
def test_it_goes_on_to_the_last_digit_after_it_was_stopped(standin, tmp_path):
  study = stopped_and_gone_on_with(standin, tmp_path, at=12)
  (outcome,) = study.run()
  assert outcome['status'] == 'complete', outcome['reason']
  assert outcome['preemptions'][0]['global_step'] == 13
  rows = recorded(study.plan.folder.trial(0).path)
  assert losses_of(rows) == losses_of(alone(standin))


@pytest.mark.slow
@pytest.mark.parametrize('standin', ['jax_pmap_averaging', 'pytorch_schedule_free'])
def test_a_seed_reproduces_it(standin, tmp_path):
  seeds = (3, -(2**40), -(2**40))  # negative and of 64 bits
  found = [
    losses_of(rows_of(standin, tmp_path / str(number), rng_seed=seed, max_global_steps=5))
    for number, seed in enumerate(seeds)
  ]
  assert found[0] != found[1] == found[2]


@pytest.mark.parametrize(
  'standin',  # a ResNet is compiled for many seconds in JAX
  [pytest.param(s, marks=pytest.mark.slow) if s.startswith('jax') else s for s in STANDINS],
)
def test_it_trains_a_network_with_batch_norm(standin, tmp_path):
  rows = rows_of(standin, tmp_path, **ON_CIFAR)
  assert [row['global_step'] for row in rows] == ['1', '2', '3']
  before, _, after = losses_of(rows)[::2]
  assert before != after


@pytest.mark.parametrize('standin', STANDINS)
def test_its_convention_is_found_in_its_source_and_can_be_overridden(standin):
  path, framework = HERE / standin / 'submission.py', framework_of(standin)
  assert conventions.find(path, framework) == ('v05' if standin in V05 else 'v06')
  assert [conventions.find(path, framework, choice) for choice in ('v05', 'v06')] == ['v05', 'v06']


def test_the_wrong_convention_is_told_with_its_place(tmp_path):
  study = Study(settings.check(settings_of('jax_pmap_nadamw', tmp_path, submission_api='v06')))
  (outcome,) = study.run()
  assert outcome['status'] == 'failed'
  assert 'submission.py, line' in outcome['reason']


@pytest.mark.slow
@pytest.mark.parametrize('standin', WITH_DROPOUT)
def test_dropout_comes_from_the_hyperparameters(standin, tmp_path):
  (point,) = json.loads((HERE / standin / 'tuning_search_space.json').read_text())
  found = []
  for rate in (0.0, 0.6):
    space = tmp_path / f'{len(found)}.json'
    space.write_text(json.dumps([{**point, 'dropout_rate': rate}]))
    folder = tmp_path / f'logs_{len(found)}'
    rows = rows_of(standin, folder, tuning_search_space=str(space), max_global_steps=10)
    found.append(losses_of(rows))
  without, dropped = found
  assert abs(dropped[2] - without[2]) > 1e-3


@pytest.mark.parametrize('standin', ['jax_jit_own_mesh', 'pytorch_dropout'])
def test_it_may_end_training(standin, tmp_path, monkeypatch):
  monkeypatch.setenv('STANDIN_STOPS', '1')
  rows = rows_of(standin, tmp_path)
  assert [row['global_step'] for row in rows] == ['1', '8']  # the step that raised counts
  state = json.loads(next(tmp_path.glob('*/run_1/trial.json')).read_text())
  assert (state['status'], state['reason']) == ('complete', 'the submission ended training')


def test_siblings_of_one_name_do_not_meet():
  one = loader.load(HERE / 'jax_jit_own_mesh' / 'submission.py')
  other = loader.load(HERE / 'pytorch_dropout' / 'submission.py')
  assert (one.get_batch_size('digits'), other.get_batch_size('digits')) == (64, 60)
  assert next(one.data_selection(None, iter([[1]]), *[None] * 6).__iter__()) == 1
  assert other.data_selection(None, iter([2]), None) == 2  # imports `helpers` only now
  assert one.get_batch_size.__globals__['helpers'].NAME == 'own mesh'
  assert 'helpers' not in sys.modules


def test_removed_names_are_lent_to_old_submissions_alone():
  submission = loader.load(HERE / 'jax_pmap_nadamw' / 'submission.py', 'v05', 'jax')
  lent = submission.update_params.__globals__['jax']
  assert lent.tree_map is jax.tree_util.tree_map
  assert not hasattr(jax, 'tree_map')
  new = loader.load(HERE / 'jax_jit_sharded' / 'submission.py', 'v06', 'jax')
  assert new.update_params.__globals__['jax'] is jax


# Several devices.


def start(arguments, **environment):
  return subprocess.Popen(
    [sys.executable, *map(str, arguments)],
    env={**os.environ, **environment},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(*processes):
  """What they printed; all must have succeeded."""
  printed = [process.communicate(timeout=200) for process in processes]
  assert [process.returncode for process in processes] == [0] * len(processes), printed
  return [out for out, _ in printed]


def assert_as_alone(name, folder):
  """The record there is that of one device: losses to rounding, and every example once."""
  workload = name.partition(':')[2] or 'digits'
  expected = alone(name)
  found = recorded(folder / f'{workload}_{framework_of(name)}' / 'run_1')
  counts = {row[f'{s}/num_examples'] for row in found for s in ('train', 'validation', 'test')}
  assert counts == {'256' if workload == 'cifar' else '300'}
  np.testing.assert_allclose(losses_of(found), losses_of(expected), rtol=1e-4)


@pytest.mark.slow
def test_four_devices_of_jax_train_as_one_does(tmp_path):
  on_four_devices([s for s in STANDINS if s.startswith('jax')], tmp_path)


def on_four_devices(standins, tmp_path):
  """Trains them there, each once more with a stop if it is on digits."""
  finish(start([DRIVER, tmp_path, *standins], XLA_FLAGS=f'{FOUR_DEVICES} {QUICKLY}'))
  for name in (n for n in standins if ':' not in n):
    whole, stopped = (tmp_path / f'{name}{end}' / 'digits_jax/run_1' for end in ('', '_stopped'))
    assert losses_of(recorded(stopped)) == losses_of(recorded(whole))
  for name in standins:
    assert_as_alone(name, tmp_path / name)


@pytest.mark.slow
def test_two_processes_of_jax_train_as_one_does(tmp_path):
  in_two_processes(['jax_pmap_nadamw', 'jax_jit_sharded'], tmp_path)
  metadata = json.loads((tmp_path / 'jax_jit_sharded/digits_jax/metadata.json').read_text())
  assert (metadata['num_processes'], metadata['num_devices']) == (2, 2)


def in_two_processes(standins, tmp_path):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  names = {'JAX_COORDINATOR_ADDRESS': address, 'JAX_NUM_PROCESSES': '2'}
  arguments = [DRIVER, tmp_path, *standins]
  finish(*(start(arguments, **names, JAX_PROCESS_ID=str(index)) for index in (0, 1)))
  for name in standins:
    assert_as_alone(name, tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize('several', [on_four_devices, in_two_processes])
@pytest.mark.parametrize('name', ['jax_pmap_nadamw:cifar', 'jax_jit_sharded:cifar'])
def test_batch_norm_of_jax_trains_on_several_devices_as_on_one(name, several, tmp_path):
  several([name], tmp_path)


def torchrun(count, arguments):
  options = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={count}']
  return start([*options, *arguments])


@pytest.mark.slow
def test_two_processes_of_pytorch_train_as_one_does(tmp_path):
  standins = ['pytorch_schedule_free', 'pytorch_muon', 'pytorch_shampoo', 'pytorch_nadamw:cifar']
  finish(torchrun(2, [DRIVER, tmp_path, *standins]))
  for name in standins:
    assert_as_alone(name, tmp_path / name)


@pytest.mark.slow
def test_the_command_below_torchrun_has_one_record_and_one_voice(command):
  flags = {n: v for n, v in vars(settings_of('pytorch_nadamw', command.log_dir)).items() if v}
  arguments = command.arguments(**flags)[1:]
  (printed,) = finish(torchrun(4, arguments))
  assert_as_alone('pytorch_nadamw', command.log_dir)
  assert printed.count('on 4 x cpu') == 1
  assert printed.count('record: ') == 2
  assert command.metadata('digits_pytorch')['num_processes'] == 4
