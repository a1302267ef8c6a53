"""The experiments about baselines, scores and exports, small: their tables and their pictures."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / 'experiments'
PNG = b'\x89PNG'

pytestmark = pytest.mark.slow


def run(script: str, *arguments: object) -> str:
  done = subprocess.run(
    [sys.executable, EXPERIMENTS / script, *map(str, arguments)], capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def read(path: Path) -> list[dict[str, str]]:
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_baselines_on_digits(tmp_path):
  folder = 'baselines_on_digits'
  said = run(f'{folder}/measure_baselines.py', '--smoke', f'--runs={tmp_path / "runs"}',
             f'--output={tmp_path}')  # fmt: skip
  assert '4 studies of 2 trials' in said
  scores = {row['submission']: row for row in read(tmp_path / 'jax' / 'scores.csv')}
  assert set(scores) == {'adamw_jax', 'sgd_nesterov_jax'}
  assert all(row['num_trials'] == '4' and row['device_hours'] for row in scores.values())
  assert {row['hyperparameter'] for row in read(tmp_path / 'jax' / 'hyperparameters.csv')} >= {
    'learning_rate', 'weight_decay',
  }  # fmt: skip
  run(f'{folder}/plot_baselines.py', f'--tables={tmp_path}')
  assert (tmp_path / 'plot_baselines.png').read_bytes().startswith(PNG)


def test_time_to_target_by_seed(tmp_path):
  folder, table = 'time_to_target_by_seed', tmp_path / 'results.csv'
  run(f'{folder}/measure_seeds.py', '--smoke', f'--runs={tmp_path / "runs"}', f'--output={table}')
  rows = read(table)
  assert [(row['submission'], row['trial']) for row in rows] == [
    (name, str(trial)) for name in ('adamw', 'sgd_nesterov') for trial in (1, 2, 3)
  ]
  assert len({row['steps'] for row in rows}) > 1  # seeds differ
  run(f'{folder}/plot_seeds.py', f'--table={table}')
  luck = read(tmp_path / 'luck.csv')
  assert [row['seeds'] for row in luck] == ['1', '3', '5']
  assert all(0 <= float(row['pairs_in_order']) <= 1 for row in luck)
  assert (tmp_path / 'plot_seeds.png').read_bytes().startswith(PNG)


def test_scoring_speed(tmp_path):
  table = tmp_path / 'results.csv'
  run('scoring_speed/measure_scoring.py', '--smoke', f'--output={table}')
  assert read(table)[0]['trials'] == '70'
  run('scoring_speed/plot_scoring.py', f'--table={table}')
  assert (tmp_path / 'plot_scoring.png').read_bytes().startswith(PNG)


def test_export_cost(tmp_path):
  pytest.importorskip('tensorboard', reason='needs the extra "tensorboard"')
  table = tmp_path / 'results.csv'
  said = run('export_cost/measure_export.py', '--smoke', f'--output={table}')
  assert 'steps a second over none 1.000 (1.000 to 1.000)' in said  # the bare run over itself
  rows = read(table)
  assert [row['export'] for row in rows] == ['none', 'tensorboard']
  for row in rows:
    assert float(row['steps_a_second']) > 0
    assert float(row['processor_sec']) > 0
  run('export_cost/plot_export.py', f'--table={table}')
  assert (tmp_path / 'plot_export.png').read_bytes().startswith(PNG)
