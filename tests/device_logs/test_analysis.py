"""Tests of idle power, activity and joules, on traces whose truth is known."""

import json
import random
import subprocess
import sys

import pytest
from conftest import ROOT

from algorithmic_efficiency.device_logs import analysis


def trace(idle=60.0, busy=300.0, begin=100.0, end=400.0, total=500, period=1.0, noise=1.0, seed=0):
  """Samples of a device that works between two times."""
  draw = random.Random(seed)
  times = [i * period for i in range(int(total / period) + 1)]
  return [(t, (busy if begin <= t <= end else idle) + draw.uniform(-noise, noise)) for t in times]


def test_idle_activity_and_joules_are_found():
  system = analysis.analyse('a', {'gpu.0': trace()})
  (device,) = system.devices
  assert device.idle_watts == pytest.approx(60, abs=0.5)
  assert (device.begin, device.end) == (100, 400)
  assert device.gross_joules == pytest.approx(300 * 300, rel=0.001)
  assert device.net_joules == pytest.approx(240 * 300, rel=0.003)
  assert device.coverage_percent == 100
  assert device.max_watts == pytest.approx(300, abs=1.1)


def test_a_device_that_did_nothing_is_named_and_left_out():
  system = analysis.analyse('a', {'gpu.0': trace(), 'gpu.1': trace(busy=62, seed=1)})
  assert [d.name for d in system.active] == ['gpu.0']
  assert system.devices[1].why_inactive.startswith('its power stayed between')
  summary = analysis.summary(system)
  assert list(summary['inactive']) == ['gpu.1']
  assert summary['gross_joules'] == pytest.approx(90_000, rel=0.001)


def test_a_system_that_did_nothing_has_no_figures():
  summary = analysis.summary(analysis.analyse('a', {'gpu.0': trace(busy=60)}))
  assert 'gross_joules' not in summary
  assert list(summary['inactive']) == ['gpu.0']


def test_a_gap_is_coverage_that_is_missing():
  samples = [(t, w) for t, w in trace() if not 200 < t < 260]
  (device,) = analysis.analyse('a', {'gpu.0': samples}).devices
  assert device.coverage_percent == pytest.approx(80, abs=0.5)
  assert device.gross_joules == pytest.approx(240 * 300, rel=0.01)


def test_a_few_peaks_are_seen_over_their_scatter():
  samples = [(float(t), 53.0 + (5 * (t % 2)) + (80 if 50 <= t < 55 else 0)) for t in range(200)]
  (device,) = analysis.analyse('a', {'gpu.0': samples}).devices
  assert (device.begin, device.end) == (50, 54)


def test_phases_are_put_where_the_power_rises():
  system = analysis.analyse('a', {'gpu.0': trace()})
  analysis.align(system, [
    ('loaders_init', None, 20.0), ('train', 1, 100.0), ('eval', 1, 10.0), ('train', 2, 90.0),
    ('eval', 2, 10.0), ('train', 3, 90.0),
  ])  # fmt: skip
  assert system.phases[0] == ('loaders_init', None, 80.0, 100.0)
  assert system.phases[1] == ('train', 1, 100.0, 200.0)
  summary = analysis.summary(system)
  assert [e['epoch'] for e in summary['epochs']] == [1, 2, 3]
  assert summary['gross_joules_per_epoch'] == pytest.approx(90 * 300, rel=0.01)
  assert summary['net_joules_per_epoch'] == pytest.approx(90 * 240, rel=0.01)
  assert 'it tells of 300 s, the devices worked 300 s' in summary['notes'][0]


def test_slices_of_a_run_are_no_epochs():
  phases = [
    ('train', None, 100.0, 250.0),
    ('eval', None, 250.0, 280.0),
    ('train', None, 280.0, 400.0),
  ]
  system = analysis.analyse('a', {'gpu.0': trace()}, phases)
  system.epochs = 2.5
  summary = analysis.summary(system)
  assert summary['gross_joules_per_epoch'] == pytest.approx(270 * 300 / 2.5, rel=0.01)


def script(*arguments, code=0):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts' / 'analyse_power.py', *map(str, arguments)],
    capture_output=True, text=True, timeout=100,
  )  # fmt: skip
  assert done.returncode == code, done.stderr + done.stdout
  return done


def log(path, samples):
  lines = ['index, timestamp, power.draw [W]']
  for t, w in samples:
    lines.append(f'0, 2024/01/02 00:{int(t) // 60:02}:{t % 60:06.3f}, {w:.2f} W')
  path.write_text('\n'.join(lines) + '\n')
  return path


def test_the_command_compares_two_systems(tmp_path):
  pytest.importorskip('matplotlib')
  one = log(tmp_path / 'one.txt', trace())
  two = log(tmp_path / 'two.txt', trace(idle=100, busy=350, begin=50, end=150, seed=2))
  run = tmp_path / 'run.txt'
  run.write_text('Begin CSV\ntype,epoch,time,loss,dsc\nloaders_init,,5.0,,\n'
                 'train,1,120.0,0.5,\ntrain,2,90.0,0.4,\ntrain,3,90.0,0.3,\nEnd CSV\n')  # fmt: skip
  done = script(f'One={one},{run}', f'Two={two}', f'--output_dir={tmp_path}/out')
  first, second = json.loads((tmp_path / 'out/summary.json').read_text())
  assert first['gross_joules_per_epoch'] == pytest.approx(27_000, rel=0.01)
  assert second['net_joules'] == pytest.approx(25_000, rel=0.01)
  assert (tmp_path / 'out/power.png').stat().st_size > 10_000
  assert len((tmp_path / 'out/summary.csv').read_text().splitlines()) == 3
  assert 'net of 60 W idle' in done.stdout


@pytest.mark.parametrize('system', ['nothing', 'A=none.txt', 'A={empty}'])
def test_the_command_tells_what_is_wrong_in_a_line(tmp_path, system):
  empty = tmp_path / 'empty.txt'
  empty.write_text('index, timestamp\n')
  done = script(system.format(empty=empty), f'--output_dir={tmp_path}/out', code=2)
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('analyse_power: error:')
