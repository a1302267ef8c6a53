"""Measuring layers: loops long enough, power from what tells it and never from anywhere else."""

import csv
import json
import time
from pathlib import Path

import pytest

from algorithmic_efficiency.layer_power.columns import STUDY_FEATURES
from algorithmic_efficiency.layer_power.meter import Meter
from algorithmic_efficiency.telemetry.devices import Device
from tests import scripts_in_process

ROOT = Path(__file__).resolve().parents[2]
MEASURE = ROOT / 'scripts' / 'measure_layers.py'


class Supply:
  """Telemetry of a device that draws `idle` watts, and `busy` while the flag is up."""

  def __init__(self, counts, idle=10.0, busy=60.0):
    self.counts, self.idle, self.busy = counts, idle, busy
    self.running = False
    self._joules, self._since = 0.0, time.perf_counter()

  def _turn(self):
    now = time.perf_counter()
    self._joules += (self.busy if self.running else self.idle) * (now - self._since)
    self._since = now

  def run(self, seconds):
    self._turn()
    self.running = True
    time.sleep(seconds)
    self._turn()
    self.running = False

  def devices(self):
    return [Device('gpu.0')]

  def counters(self):
    self._turn()
    return {'gpu.0': self._joules} if self.counts else {}

  def read(self):
    return {'gpu.0.power.watts': self.busy if self.running else self.idle}


@pytest.fixture
def short(monkeypatch):
  seconds = {'counter': 0.2, 'sampled': 0.3, 'none': 0.05}
  monkeypatch.setattr('algorithmic_efficiency.layer_power.meter._SECONDS', seconds)


@pytest.mark.parametrize('counts', [True, False])
def test_power_is_that_of_the_loop(short, counts):
  supply = Supply(counts)
  meter = Meter(supply, idle_sec=0.2, repeats=3)
  found = meter.measure(lambda: supply.run(0.01), lambda: None)
  assert found.power_source == ('counter' if counts else 'sampled')
  assert found.power == pytest.approx(60, rel=0.15)
  assert found.power_above_idle == pytest.approx(50, rel=0.2)
  assert found.runtime == pytest.approx(10, rel=0.3)
  assert found.calls >= 15


def test_without_a_source_there_is_no_power():
  found = Meter(None, idle_sec=1.0, repeats=3).measure(lambda: time.sleep(0.001), lambda: None)
  assert (found.power, found.power_above_idle, found.power_source) == (None, None, 'none')
  assert found.runtime == pytest.approx(1.1, rel=0.5)
  assert found.calls * found.runtime >= 25  # a loop of 50 ms, give or take


def test_the_device_is_waited_for():
  queued = []

  def wait():
    time.sleep(0.001 * len(queued))
    queued.clear()

  # Queueing takes nothing, so the device is seconds behind if it is not waited for now and then.
  found = Meter(None, repeats=3, min_sec=0.05).measure(lambda: queued.append(1), wait)
  assert found.runtime >= 0.9


def run(*arguments):
  return scripts_in_process.run(MEASURE, *arguments)


def table(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_lenet_by_the_command_and_again(tmp_path):
  pytest.importorskip('torch')
  command = [
    '--networks=lenet',
    '--repeats=2',
    '--repeats_in_network=3',
    f'--output_dir={tmp_path}',
  ]
  done = run(*command)
  assert done.returncode == 0, done.stderr
  layers, (network,) = table(tmp_path / 'layers.csv'), table(tmp_path / 'networks.csv')
  assert len(layers) == 11
  for row in layers:
    assert float(row['runtime']) > 0
    assert float(row['runtime_in_network']) > 0
    if row['power_source'] == 'none':
      assert row['power'] == row['power_above_idle'] == ''
  total = sum(float(row['runtime']) for row in layers)
  assert float(network['sum_alone']) == pytest.approx(total)
  assert (network['parameters'], network['num_distinct']) == ('61706', '11')
  lines = (tmp_path / 'measured.jsonl').read_text().splitlines()
  assert [json.loads(line)['kind'] for line in lines].count('alone') == 11
  study = table(tmp_path / 'study' / 'lenet' / 'convolutional.csv')
  assert list(study[0])[:13] == list(STUDY_FEATURES['conv'])
  assert [row['kernel_0'] for row in study] == ['5', '5']
  # A kill within the last line: that one is measured again, nothing else.
  (tmp_path / 'measured.jsonl').write_text('\n'.join(lines)[:-9])
  assert run(*command).returncode == 0
  again = (tmp_path / 'measured.jsonl').read_text().splitlines()
  assert again[: len(lines) - 1] == lines[:-1]
  assert [json.loads(line)['kind'] for line in again[len(lines) :]] == ['network']
  assert table(tmp_path / 'layers.csv')[0]['runtime'] == layers[0]['runtime']


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['--networks=resnet19'], "there is no network 'resnet19'"),
    (['--networks=lenet', '--batch_sizes=0'], "'0' is not positive integers"),
    (['--networks=lenet', '--device=cuda'], '--device=cuda is not to be had here'),
    (['--networks=lenet', '--framework=jax'], 'give module:callable'),
    (['--networks=lenet', '--input_shape=3,8,8'], 'cannot be traced'),
  ],
)
def test_wrong_commands(tmp_path, arguments, says):
  pytest.importorskip('torch')
  pytest.importorskip('jax')
  if '--device=cuda' in arguments:
    import torch

    if torch.cuda.is_available():
      pytest.skip('there is a GPU')
  done = run(*arguments, f'--output_dir={tmp_path / "out"}')
  assert done.returncode == 2
  assert says in done.stderr.splitlines()[-1]


def test_shapes_alone_take_no_run(tmp_path):
  pytest.importorskip('torch')
  done = run('--networks=lenet', '--shapes_only', '--batch_sizes=1,4', f'--output_dir={tmp_path}')
  assert done.returncode == 0, done.stderr
  assert 'lenet, batch 4: 61,706 parameters, 0.002 GMACs; 2 conv' in done.stdout
  rows = table(tmp_path / 'layers.csv')
  assert len(rows) == 22
  assert {row['runtime'] for row in rows} == {''}
  assert not (tmp_path / 'measured.jsonl').exists()
