"""Tests of a trial's telemetry through the command: rows, phases, energy, with made-up GPUs."""

import csv
import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import fake_gpus
import pytest

from algorithmic_efficiency.telemetry.nvidia import Nvidia
from algorithmic_efficiency.telemetry.sample import Telemetry
from algorithmic_efficiency.telemetry.session import _devices


def run(command, framework='jax', expect=0, gpus=None, **flags):
  """The rows of one trial on made-up GPUs."""
  done = subprocess.run(
    command.arguments(framework, **{'telemetry': 'continuous', 'telemetry_hz': 20, **flags}),
    env=fake_gpus.environment(**(gpus or {'count': 2})), capture_output=True, text=True,
    timeout=120,
  )  # fmt: skip
  assert done.returncode == expect, done.stderr + done.stdout
  command.stderr = done.stderr
  return rows(command, framework)


def rows(command, framework='jax'):
  path = command.log_dir / f'digits_{framework}' / 'run_1' / 'metrics.csv'
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def trial_lines(command, name, framework='jax'):
  path = command.log_dir / f'digits_{framework}' / 'run_1' / name
  return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """A run of three hundred steps with two GPUs that count."""
  from conftest import Command

  command = Command(tmp_path_factory.mktemp('whole') / 'logs')
  run(command, max_global_steps=300, eval_period_steps=100)
  return command


def number(row, name):
  return float(row[name])


def test_rows_carry_energy_by_counter(whole):
  for row in rows(whole):
    assert row['energy.source'] == row['gpu.0.energy.source'] == 'counter'
    assert row['energy.devices'] == 'gpu.0 gpu.1'
    both = sum(number(row, f'gpu.{i}.energy.joules_since_start') for i in range(2))
    assert number(row, 'energy.joules_since_start') == pytest.approx(both)
    parts = number(row, 'energy.submission_joules') + number(row, 'energy.evaluation_joules')
    assert 0 < parts <= both + 1e-6
  last = rows(whole)[-1]
  since_last = sum(number(row, 'energy.joules_since_last') for row in rows(whole))
  assert since_last == pytest.approx(number(last, 'energy.joules_since_start'))


def test_the_energy_is_that_of_the_formula(whole):
  marks = trial_lines(whole, 'phases.jsonl')
  evaluations = [mark for mark in marks if mark['phase'] == 'evaluation']
  assert [mark['step'] for mark in evaluations] == [1, 100, 200, 300]
  total = 0.0
  for mark in evaluations:
    truth = fake_gpus.joules(mark['end']) - fake_gpus.joules(mark['begin'])
    assert mark['joules']['gpu.0'] == pytest.approx(truth, abs=0.2)
    total += truth
  found = number(rows(whole)[-1], 'gpu.1.energy.evaluation_joules')
  assert found == pytest.approx(total, abs=0.5)


def test_counter_and_integral_agree(whole):
  last = rows(whole)[-1]
  counted = number(last, 'gpu.0.energy.joules_since_start')
  assert number(last, 'gpu.0.energy.coverage_percent') > 90
  if 'gpu.0.energy.counter_and_integral_differ' in last:
    integrated = number(last, 'gpu.0.energy.integrated_joules_since_start')
    assert integrated == pytest.approx(counted, rel=0.1)


def test_phases_follow_each_other_on_the_clock_of_the_samples(whole):
  marks = [m for m in trial_lines(whole, 'phases.jsonl') if m['phase'] != 'compile']
  assert {m['phase'] for m in marks} == {
    'step', 'prepare_for_eval', 'evaluation', 'recording', 'checkpoint',
  }  # fmt: skip
  between = [m for m in marks if m['phase'] not in ('prepare_for_eval',)]
  for before, after in itertools.pairwise(between):
    assert before['begin'] <= before['end'] <= after['end']
    assert after['begin'] >= before['end'] - 1e-3
  steps = [m for m in marks if m['phase'] == 'step']
  assert sum(m['steps'] for m in steps) == 300
  for m in steps:
    assert 0 < m['data_sec'] + m['step_sec'] <= m['end'] - m['begin'] + 1e-6
  samples = [s['monotonic_sec'] for s in trial_lines(whole, 'telemetry.jsonl')]
  assert samples[0] < marks[-1]['begin'] < samples[-1] + 1


def test_host_time_of_the_phases_is_part_of_the_submissions(whole):
  for row in rows(whole):
    parts = [number(row, f'phase.{n}_sec') for n in ('data', 'step', 'prepare_for_eval')]
    assert 0 < sum(parts) <= number(row, 'accumulated_submission_time') + 1e-3
  assert sum(parts) > 0.7 * number(row, 'accumulated_submission_time')


def test_the_sampler_leaves_its_cost(whole):
  end = trial_lines(whole, 'telemetry.jsonl')[-1]
  assert (end['kind'], end['reason']) == ('end', 'asked to')


def test_the_jobs_gpus_are_those_that_cuda_shows(command, monkeypatch):
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', 'GPU-1')
  row = run(command, max_global_steps=2, gpus={'count': 3})[-1]
  assert row['energy.devices'] == 'gpu.1'
  assert row['gpu.count'] == '3'  # the machine's, as the contract has it
  begin = trial_lines(command, 'telemetry.jsonl')[0]
  assert [d['in_job'] for d in begin['devices']] == [False, True, False]


def test_of_the_devices_that_cuda_shows_those_trained_on_count(monkeypatch):
  monkeypatch.setattr(fake_gpus.pynvml, 'nvmlLib', fake_gpus.Driver(count=3))
  monkeypatch.setattr(fake_gpus.pynvml, '_nvmlGetFunctionPointer_cache', {})
  telemetry = Telemetry([Nvidia(environ={'CUDA_VISIBLE_DEVICES': '0,2'})])
  assert _devices(telemetry, []) == ['gpu.0', 'gpu.2']
  assert _devices(telemetry, ['GPU-20000000-aaaa']) == ['gpu.2']
  assert _devices(telemetry, ['unknown']) == ['gpu.0', 'gpu.2']


@pytest.mark.slow
def test_without_a_counter_the_samples_are_integrated(command):
  flags = {'max_global_steps': 3000, 'eval_period_steps': 1000}
  row = run(command, gpus={'count': 1, 'counts_energy': False}, **flags)[-1]
  assert row['energy.source'] == 'integrated'
  marks = trial_lines(command, 'phases.jsonl')
  begin = min(m['begin'] for m in marks if m['phase'] == 'step')
  end = [m['end'] for m in marks if m['phase'] == 'recording'][-2]
  truth = fake_gpus.joules(end) - fake_gpus.joules(begin)
  assert number(row, 'energy.joules_since_start') == pytest.approx(truth, rel=0.15)


@pytest.mark.slow
def test_a_counter_that_lies_is_flagged(command):
  flags = {'max_global_steps': 3000, 'eval_period_steps': 1000}
  row = run(command, gpus={'count': 1, 'scale': 1.5}, **flags)[-1]
  if number(row, 'gpu.0.energy.coverage_percent') < 95:
    pytest.skip('the machine was too busy for the sampler')
  assert row['gpu.0.energy.counter_and_integral_differ'] == 'TRUE'


def test_rows_alone_need_no_sampler(command):
  row = run(command, max_global_steps=5, telemetry='row')[-1]
  assert row['energy.source'] == 'counter'
  assert not (command.log_dir / 'digits_jax/run_1/telemetry.jsonl').exists()


def test_off_is_off(command):
  row = run(command, max_global_steps=5, telemetry='off')[-1]
  assert not [n for n in row if n.startswith(('gpu', 'cpu', 'mem', 'energy', 'phase', 'net'))]
  names = os.listdir(command.log_dir / 'digits_jax' / 'run_1')
  assert not {'telemetry.jsonl', 'phases.jsonl'} & set(names)
  assert 'gpu_model_name' not in command.metadata('digits_jax')


@pytest.mark.slow
def test_net_energy_needs_the_idle_power_measured(command):
  row = run(command, max_global_steps=5, telemetry_idle_sec=1.5)[-1]
  idle = command.metadata('digits_jax')['gpu.0.idle_watts']
  assert 100 < idle < 300
  net = number(row, 'energy.net_joules_since_start')
  assert net < number(row, 'energy.joules_since_start')


@pytest.mark.slow
def test_a_killed_sampler_is_told_and_started_again(command):
  process = subprocess.Popen(
    command.arguments(
      'jax', telemetry='continuous', telemetry_hz=20, max_global_steps=6000,
      eval_period_steps=1000,
    ),
    env=fake_gpus.environment(count=1), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
    text=True,
  )  # fmt: skip
  path = command.log_dir / 'digits_jax/run_1/telemetry.jsonl'
  end = time.monotonic() + 60
  while not (path.exists() and path.read_text().count('\n') > 3):
    assert time.monotonic() < end
    time.sleep(0.01)
  for name in os.listdir('/proc'):
    if name.isdigit() and f'--parent={process.pid}' in _command_line(name):
      os.kill(int(name), signal.SIGKILL)
  _, told = process.communicate(timeout=120)
  assert process.returncode == 0, told
  assert 'the sampler of the hardware has ended (signal 9); starting another.' in told
  lines = trial_lines(command, 'telemetry.jsonl')
  assert [line['kind'] for line in lines].count('begin') == 2
  assert lines[-1]['kind'] == 'end'
  assert rows(command)[-1]['energy.source'] == 'counter'


def _command_line(pid):
  try:
    return Path(f'/proc/{pid}/cmdline').read_text()
  except OSError:
    return ''


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_joules(command):
  flags = {'max_global_steps': 400, 'eval_period_steps': 200}
  whole = run(command, **flags)
  checkpoints = command.log_dir / 'digits_jax/run_1/checkpoints'
  state = command.log_dir / 'digits_jax/run_1/trial.json'
  (checkpoints / 'step_400').rename(checkpoints / 'unused')  # as if killed before its last
  content = json.loads(state.read_text())
  state.write_text(json.dumps({**content, 'status': 'running', 'global_step': 200}))
  again = run(command, resume=True, **flags)
  at_200 = number(whole[1], 'energy.joules_since_start')
  assert number(again[1], 'energy.joules_since_start') == at_200
  last = number(again[-1], 'energy.joules_since_start')
  assert last > at_200
  assert number(again[-1], 'energy.joules_since_last') == pytest.approx(last - at_200)
  kinds = [line['kind'] for line in trial_lines(command, 'telemetry.jsonl')]
  assert kinds.count('begin') == kinds.count('end') == 2
