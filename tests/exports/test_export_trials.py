"""What an export takes from a folder of logs, whoever wrote them and however they ended."""

import json
import math
import os
import time

import pytest
from recorded import START, algoperf_trial, lines, numbers, row, sample, trial

from algorithmic_efficiency.exports import trials
from algorithmic_efficiency.exports.trials import Reader
from algorithmic_efficiency.records.tail import Tail


def read(folder, **options):
  """All points of a trial, and the warnings."""
  warnings = []
  reader = Reader(folder, 'x/run_1', warnings.append, **options)
  return [*reader.new(), *reader.rest()], warnings


def test_every_numeric_column_with_its_step_and_its_time(tmp_path):
  folder = trial(tmp_path, samples=[])
  points, warnings = read(folder)
  assert [point.step for point in points] == [1, 10, 20]
  assert [point.time for point in points] == [START + 1 / 3 + s / 5 for s in (1, 10, 20)]
  assert [point.values for point in points] == [numbers(row(s)) for s in (1, 10, 20)]
  assert not warnings


def test_numbers_that_are_not_finite_come_back_as_such(tmp_path):
  rows = [row(1, **{'train/loss': 'NaN', 'a': 'Infinity', 'b': '-Infinity', 'c': 'text'})]
  (point,), _ = read(trial(tmp_path, rows=rows, samples=[]))
  assert math.isnan(point.values['train/loss'])
  assert (point.values['a'], point.values['b']) == (math.inf, -math.inf)
  assert 'c' not in point.values


def test_samples_stand_between_the_rows_at_their_own_times(tmp_path):
  points, _ = read(trial(tmp_path))
  assert [point.time for point in points] == sorted(point.time for point in points)
  samples = [point for point in points if not point.is_row]
  assert [(p.step, p.time) for p in samples] == [(0, START), (500, START + 0.5), (1000, START + 1)]
  assert samples[1].values == {
    'telemetry/seconds': 0.5, 'telemetry/gpu.0.power.watts': 101.0,
  }  # fmt: skip


@pytest.mark.parametrize(('period', 'kept'), [(0.0, 11), (0.3, 4), (1.0, 2), (None, 0)])
def test_samples_can_be_thinned(tmp_path, period, kept):
  folder = trial(tmp_path, rows=[], samples=[sample(k / 10) for k in range(11)])
  points, _ = read(folder, telemetry_period_sec=period)
  assert len(points) == kept


@pytest.mark.parametrize('torn', [1, 20, 60])
def test_a_torn_last_line_costs_that_line_and_a_warning(tmp_path, torn):
  folder = trial(tmp_path, samples=[])
  path = folder / 'metrics.jsonl'
  text = path.read_text()
  path.write_text(text + lines([row(30)])[:torn])
  points, warnings = read(folder)
  assert [point.step for point in points] == [1, 10, 20]
  assert warnings == ['x/run_1: left out the torn last line of metrics.jsonl']
  path.write_text(text.rstrip('\n'))  # cut between a line and its end
  points, warnings = read(folder)
  assert ([point.step for point in points], warnings) == ([1, 10, 20], [])


def test_an_unreadable_line_in_the_middle_costs_no_other(tmp_path):
  folder = trial(tmp_path, samples=[])
  (folder / 'metrics.jsonl').write_text(lines([row(1)]) + 'nonsense\n\x00\n' + lines([row(9)]))
  points, warnings = read(folder)
  assert [point.step for point in points] == [1, 9]
  assert warnings == ['x/run_1: left out 2 unreadable lines of metrics.jsonl']


@pytest.mark.parametrize('gone', ['telemetry.jsonl', 'hparams.json', 'trial.json', 'all of them'])
def test_files_that_are_missing_are_no_fault(tmp_path, gone):
  folder = trial(tmp_path)
  names = ['telemetry.jsonl', 'hparams.json', 'trial.json', '../metadata.json']
  for name in names if gone == 'all of them' else [gone]:
    (folder / name).unlink()
  points, warnings = read(folder)
  reader = Reader(folder, 'x/run_1', warnings.append)
  assert sum(point.is_row for point in points) == 3
  assert len(reader.trial().key) == 16
  assert reader.status().word == ('complete' if (folder / 'trial.json').exists() else 'unknown')
  assert not warnings


def test_a_file_that_cannot_be_read_is_told(tmp_path):
  folder = trial(tmp_path)
  (folder / 'hparams.json').write_text('{"learning_rate": 0.0')
  warnings = []
  found = Reader(folder, 'x/run_1', warnings.append).trial()
  assert found.hparams == {}
  assert len(warnings) == 1
  assert warnings[0].startswith('x/run_1: hparams.json cannot be read (')


def test_a_trial_that_failed_before_its_first_row(tmp_path):
  folder = trial(tmp_path, status='failed', reason='the loss is no number', goal_reached=False)
  (folder / 'metrics.jsonl').unlink()
  points, warnings = read(folder, telemetry_period_sec=None)
  status = Reader(folder, 'x/run_1', warnings.append).status()
  assert points == []
  assert warnings == ['x/run_1: no evaluation was recorded']
  assert status == ('failed', 'the loss is no number', False)


def test_a_trial_whose_process_is_gone_was_killed(tmp_path):
  folder = trial(tmp_path, status='running', reason='')
  lock = folder.with_name('.run_1.lock')
  lock.write_text('{}')
  reader = Reader(folder, 'x/run_1', pytest.fail)
  assert reader.status().word == 'running'
  before = reader.fingerprint()
  os.utime(lock, (time.time() - 3600,) * 2)
  assert reader.status() == ('killed', 'its process ended without a word', True)
  assert reader.fingerprint() != before


def test_algoperf_logs_are_read_with_the_times_of_their_file(tmp_path):
  folder = algoperf_trial(tmp_path)
  os.utime(folder / 'eval_measurements.csv', (START, START))
  points, warnings = read(folder)
  assert [point.step for point in points] == [100, 200, 300]
  assert [point.time for point in points] == [START - 24.5, START - 12.25, START]
  assert points[0].values['score'] == 10.5
  assert math.isnan(points[1].values['validation/ssim'])
  assert isinstance(points[0].values['global_step'], int)
  assert not warnings
  assert Reader(folder, 'x', pytest.fail).status().word == 'unknown'


def test_a_torn_row_of_a_csv_file_is_left_out(tmp_path):
  folder = algoperf_trial(tmp_path)
  path = folder / 'eval_measurements.csv'
  path.write_text(path.read_text()[:-30])
  points, warnings = read(folder)
  assert [point.step for point in points] == [100, 200]
  assert warnings == ['x/run_1: left out a torn or broken row of eval_measurements.csv']


def test_trials_are_found_in_natural_order_and_not_among_the_exports(tmp_path):
  for number in (10, 2, 1):
    trial(tmp_path, number)
  algoperf_trial(tmp_path / 'study_0')
  (tmp_path / 'digits_jax/run_1/checkpoints/trial.json').mkdir(parents=True)
  trial(tmp_path / 'exports')
  found = trials.find(tmp_path, leave_out=tmp_path / 'exports')
  assert [str(path.relative_to(tmp_path)) for path in found] == [
    'digits_jax/run_1', 'digits_jax/run_2', 'digits_jax/run_10',
    'study_0/fastmri_pytorch/trial_1',
  ]  # fmt: skip
  assert trials.find(found[0]) == [found[0]]  # a trial itself


def test_the_key_is_the_runs_and_not_the_places(tmp_path):
  keys = [
    Reader(folder, name, pytest.fail).trial().key
    for folder, name in (
      (trial(tmp_path / 'a'), 'x'), (trial(tmp_path / 'a', 2), 'x'),
      (trial(tmp_path / 'b', workload='digits_pytorch'), 'x'),
    )
  ]  # fmt: skip
  moved = tmp_path / 'elsewhere'
  (tmp_path / 'a').rename(moved)
  assert len(set(keys)) == 3
  assert Reader(moved / 'digits_jax/run_1', 'y', pytest.fail).trial().key == keys[0]


def test_the_output_lies_in_the_logs_but_beside_algoperfs(tmp_path):
  trial(tmp_path / 'logs')
  algoperf_trial(tmp_path / 'study_0')
  assert trials.default_output(tmp_path / 'logs') == tmp_path / 'logs' / 'exports'
  assert trials.default_output(tmp_path / 'study_0') == tmp_path / 'study_0_exports'


def test_a_running_trial_is_read_as_it_grows(tmp_path):
  folder = trial(tmp_path, rows=[row(1)], samples=[sample(0)], status='running')
  reader = Reader(folder, 'x/run_1', pytest.fail)
  assert [point.is_row for point in reader.new(until=START + 0.7)] == [False, True]
  with (folder / 'telemetry.jsonl').open('a') as file:
    file.write(lines([sample(0.6), sample(0.8)]))
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write(lines([row(2)])[:20])
  assert [point.step for point in reader.new(until=START + 0.7)] == [600]
  assert reader.holds_back  # a row of that time may still be on its way
  with (folder / 'metrics.jsonl').open('a') as file:
    file.write(lines([row(2)])[20:])
  assert [point.step for point in reader.new()] == [2, 800]
  assert not reader.replaced()
  (folder / 'new').write_text(lines([row(1)]))
  (folder / 'new').replace(folder / 'metrics.jsonl')  # as a resume does
  assert reader.replaced()


def test_the_rest_of_a_file_is_told_once(tmp_path):
  path = tmp_path / 'file.jsonl'
  tail = Tail(path)
  assert tail.rest() == (None, False)
  path.write_text('{"a": 1}\n{"a": 2}')
  assert tail.new() == [{'a': 1}]
  assert tail.rest() == ({'a': 2}, False)
  assert tail.rest() == (None, False)
  path.write_text(path.read_text() + '\n' + json.dumps([3]))
  assert tail.rest()[1]
