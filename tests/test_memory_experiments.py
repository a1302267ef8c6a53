"""The experiments that trace a CNN's memory; minutes in sum, so only by `-m slow`."""

import csv
import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXPERIMENTS = ROOT / 'experiments'
FRAMEWORKS = {'jax', 'pytorch'}


def run(*arguments, fails=False):
  command = [sys.executable, *map(str, arguments)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert (done.returncode != 0) == fails, done.stdout + done.stderr
  return done.stdout + done.stderr


def rows_of(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def measured(name, folder, *more):
  script = EXPERIMENTS / f'cnn_memory_{name}' / f'measure_{name}.py'
  return run(script, '--smoke', f'--traces={folder / "traces"}', f'--output={folder}', *more)


def drawn(name, folder, *pictures):
  told = run(EXPERIMENTS / f'cnn_memory_{name}' / f'plot_{name}.py', f'--folder={folder}')
  for picture in pictures or (name,):
    assert (folder / f'plot_{picture}.png').read_bytes().startswith(b'\x89PNG')
  return told


def assert_sizes_are_sound(rows):
  for row in rows:
    touched, resident, virtual = (
      float(row[f'{kind}_mib']) for kind in ('working_set_mean', 'resident', 'virtual')
    )
    assert 0 < touched < resident < virtual
    assert float(row['working_set_p5_mib']) <= touched <= float(row['working_set_max_mib'])
    assert int(row['windows']) > 0


def assert_reuses_ascend(rows):
  for row in rows:
    for end in ('least', 'most'):
      sizes = [float(row[f'reuse_{part}_{end}_mib']) for part in (50, 90, 95, 99)]
      assert sizes == sorted(sizes) or all(size != size for size in sizes)
    for part in (50, 90, 95, 99):
      assert not float(row[f'reuse_{part}_least_mib']) > float(row[f'reuse_{part}_most_mib'])
      assert not float(row[f'reuse_{part}_most_mib']) > float(row['unique_mib'])


def test_a_life_is_traced_beside_what_idles_and_filtered(tmp_path):
  basic, filtered = tmp_path / 'basic', tmp_path / 'filters'
  measured('basic', basic)
  assert measured('basic', basic).count('measured before') == 2
  rows = {row['what']: row for row in rows_of(basic / 'results.csv')}
  assert set(rows) == FRAMEWORKS | {
    'sleep', 'python', 'python, jax', 'python, torch', 'container',
  }  # fmt: skip
  training = [rows[framework] for framework in FRAMEWORKS]
  assert_sizes_are_sound(row for row in rows.values() if not row['reason'])
  assert_reuses_ascend(training)
  for idle in ('sleep', 'python', 'python, jax', 'python, torch'):
    for row in training:
      assert float(rows[idle]['working_set_mean_mib']) < float(row['working_set_mean_mib']) / 4
  stages = {(row['framework'], row['stage']) for row in rows_of(basic / 'windows.csv')}
  assert {stage for framework, stage in stages if framework == 'jax'} >= {'build', 'training'}
  told = drawn('basic', basic, 'sizes', 'working_set', 'reuse', 'heat_map')
  assert 'reuse 95 most mib' in told

  command = EXPERIMENTS / 'cnn_memory_filters' / 'measure_filters.py'
  told = run(command, '--smoke', f'--traces={basic / "traces"}', f'--output={filtered}')
  assert told.count('measured before') == 2  # the traces of above
  rows = rows_of(filtered / 'results.csv')
  assert_sizes_are_sound(rows)
  assert_reuses_ascend(rows)
  for framework in FRAMEWORKS:
    kept = {
      row['filter']: float(row['working_set_mean_mib'])
      for row in rows
      if row['framework'] == framework and row['when'] == 'afterwards'
    }
    assert len(kept) == 7
    whole = kept['none']
    assert kept['drop all three'] <= kept['drop executable'] < whole
    assert kept['heap only'] < kept['heap and anonymous'] < whole
    assert any(row['when'] == 'sampling' for row in rows if row['framework'] == framework)
  assert 'while sampling' not in drawn('filters', filtered)


def test_threads_are_measured_and_drawn(tmp_path):
  measured('threads', tmp_path)
  rows = rows_of(tmp_path / 'results.csv')
  cores = len(os.sched_getaffinity(0))
  assert {row['threads'] for row in rows} >= {'1', str(cores)}
  assert {row['framework'] for row in rows} == FRAMEWORKS
  assert_sizes_are_sound(rows)
  assert_reuses_ascend(rows)
  for row in rows:
    trial = tmp_path / 'traces' / f'{row["framework"]}_b16_t{row["threads"]}_r1' / 'trial.json'
    told = json.loads(trial.read_text())['told']
    assert len(told['cores']) == int(row['threads'])
  assert 'speed-up' in drawn('threads', tmp_path)


def test_windows_of_steps_have_these_steps(tmp_path):
  measured('batch_size', tmp_path)
  rows = rows_of(tmp_path / 'results.csv')
  kinds = ('0.5 s', '1 step', '1 step, kept', '128 images, kept')
  assert {(row['framework'], row['batch_size'], row['window']) for row in rows} == {
    (framework, size, kind) for framework in FRAMEWORKS for size in ('16', '64') for kind in kinds
  }
  assert_sizes_are_sound(rows)
  for row in rows:
    if row['window'] == '128 images, kept':  # 8 and 2 steps, each not much shorter than the median
      steps = 128 / int(row['batch_size'])
      assert float(row['window_sec']) > 0.3 * steps * float(row['step_sec'])
  for framework in FRAMEWORKS:
    for size in ('16', '64'):
      kept, gone = (
        float(row['working_set_mean_mib'])
        for kind in ('1 step, kept', '1 step')
        for row in rows
        if (row['framework'], row['batch_size'], row['window']) == (framework, size, kind)
      )
      assert kept > 0.95 * gone  # what was freed within the step is seen as well
  assert 'to the power of' in drawn('batch_size', tmp_path)


def test_lengths_of_windows_are_measured_and_joined(tmp_path):
  measured('sample_time', tmp_path)
  rows = rows_of(tmp_path / 'results.csv')
  for framework in FRAMEWORKS:
    for how, least in (
      ('measured', {'0.2', '0.5', '1.0'}),
      ('joined', {'0.2'}),
      ('fine, pages', {'0.2'}),
    ):
      own = [row for row in rows if (row['framework'], row['how']) == (framework, how)]
      assert {row['asked_sec'] for row in own} >= least, (framework, how)
      for row in own:
        assert float(row['window_sec']) >= 0.9 * float(row['asked_sec'])
  told = drawn('sample_time', tmp_path)
  assert 'linear fits better' in told or 'logarithmic fits better' in told


def test_a_wrong_number_of_threads_is_told():
  train = EXPERIMENTS / 'cnn_memory_basic' / 'train_cnn.py'
  assert 'give 1 to that' in run(train, '--framework=jax', '--threads=0', fails=True)


def test_a_plot_without_its_table_says_what_is_missing(tmp_path):
  plot = EXPERIMENTS / 'cnn_memory_threads' / 'plot_threads.py'
  assert 'run the measure_* beside first' in run(plot, f'--folder={tmp_path}', fails=True)
