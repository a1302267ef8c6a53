"""The main job, end to end: the command is run as a user runs it and its files are read."""

import csv
import gzip
import json
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from algorithmic_efficiency.logging_utils import concatenate_csvs
from algorithmic_efficiency.records import columns

from conftest import BASELINE, ROOT, Command

FRAMEWORKS = ('jax', 'pytorch')

# As the contract has them, in their order; what stands between them is free.
CONTRACT_COLUMNS = (
  'workload',
  'framework',
  'run_idx',
  'accumulated_submission_time',
  'global_step',
  'epoch',
  'accuracy',
  'loss',
  'train/loss',
  'validation/loss',
  'test/loss',
  'batch_size',
  'hparam.learning_rate',
  'workload.eval_period_time_sec',
  'steps_per_epoch',
  'global_start_time',
  'goal_reached',
  'note',
  'cpu.util.avg_percent_since_last',
  'mem.total',
  'net.bytes_sent_since_boot',
)
CONTRACT_METADATA = {
  'workload',
  'log_dir',
  'datetime',
  'python_version',
  'python_compiler',
  'os_platform',
  'cpu_model_name',
  'cpu_count',
  'workload.eval_period_time_sec',
  'workload.max_allowed_runtime_sec',
  'workload.num_train_examples',
  'workload.num_eval_examples',
  'workload.target_value',
  'workload.train_mean',
  'workload.train_stddev',
  'note',
}


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_two_trials_reach_their_target_and_leave_the_whole_record(framework, command):
  out = command.run(
    framework,
    num_tuning_trials=2,
    rng_seed=2022,
    max_global_steps=None,
    eval_period_steps=38,
    record_extra_metadata='note=a, b',
  )
  name = f'digits_{framework}'
  folder = command.log_dir / name
  assert re.search(r'^ +1  complete +yes', out, flags=re.M), out
  assert re.search(r'^ +2  complete +yes', out, flags=re.M), out
  for trial in (1, 2):
    rows = command.rows(name, trial)
    header = list(rows[0])
    assert [c for c in header if c in CONTRACT_COLUMNS] == list(CONTRACT_COLUMNS)
    assert not [c for c in header if columns.find(c) is None and c != 'note']
    assert rows[0]['global_step'] == '1'
    assert rows[-1]['goal_reached'] == 'TRUE' and rows[-2]['goal_reached'] == 'FALSE'
    assert float(rows[-1]['accuracy']) >= 0.97 > float(rows[-2]['test/accuracy']) - 0.05
    assert rows[-1]['accuracy'] == rows[-1]['validation/accuracy']
    assert {row['note'] for row in rows} == {'a, b'}
    assert {row['run_idx'] for row in rows} == {str(trial)}
    times = [float(row['accumulated_submission_time']) for row in rows]
    assert times == sorted(times) and times[0] > 0
    state = command.state(name, trial)
    assert state['status'] == 'complete' and state['goal_reached'] is True
    spent = state['seconds']
    assert spent['submission'] == pytest.approx(times[-1], abs=0.05)
  metadata = command.metadata(name)
  assert metadata.keys() >= CONTRACT_METADATA
  assert not [k for k in metadata if columns.find(k, columns.METADATA) is None and k != 'note']
  packages = (folder / 'packages.txt').read_text()
  assert packages.startswith('# Python packages\n') and '\n# OS packages\n' in packages
  assert f'numpy=={np.__version__}' in packages


def test_all_metrics_joins_the_trials(command):
  command.run('jax', num_tuning_trials=2)
  command.run('pytorch')
  table = concatenate_csvs(command.log_dir)
  with table.open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert len(rows) == 2 + 2 + 2
  assert {row['source'] for row in rows} == {
    'digits_jax/run_1/metrics.csv',
    'digits_jax/run_2/metrics.csv',
    'digits_pytorch/run_1/metrics.csv',
  }
  before = table.read_bytes()
  assert concatenate_csvs(command.log_dir).read_bytes() == before


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_one_seed_gives_the_same_losses_to_the_last_digit(framework, tmp_path):
  losses = []
  for name in ('first', 'second'):
    command = Command(tmp_path / name)
    command.run(framework, num_tuning_trials=2, eval_period_steps=10, rng_seed=0)
    for trial in (1, 2):
      rows = command.rows(f'digits_{framework}', trial)
      losses.append([(row['global_step'], row['loss'], row['train/loss']) for row in rows])
  assert losses[0] == losses[2] and losses[1] == losses[3]
  assert losses[0] != losses[1]
  assert [step for step, *_ in losses[0]] == ['1', '10', '20']


def test_another_seed_gives_other_losses_and_seed_0_is_a_seed(tmp_path):
  seen = []
  for seed in (0, 1):
    command = Command(tmp_path / str(seed))
    command.run('jax', rng_seed=seed)
    assert command.metadata('digits_jax')['rng_seed'] == seed
    seen.append([row['loss'] for row in command.rows('digits_jax')])
  assert seen[0] != seen[1]


def test_a_seed_that_is_not_given_is_drawn_and_recorded(tmp_path):
  seeds = []
  for name in ('first', 'second'):
    command = Command(tmp_path / name)
    command.run('jax', rng_seed=None, max_global_steps=1)
    seeds.append(command.metadata('digits_jax')['rng_seed'])
    assert command.rows('digits_jax')[0]['rng_seed'] == str(seeds[-1])
  assert seeds[0] != seeds[1]


def test_a_slice_of_the_trials_agrees_with_the_whole(tmp_path):
  whole, part = Command(tmp_path / 'whole'), Command(tmp_path / 'part')
  whole.run('jax', num_tuning_trials=3, max_global_steps=2)
  part.run('jax', num_tuning_trials=3, max_global_steps=2, hparam_start_index=2)
  assert sorted(p.name for p in (part.log_dir / 'digits_jax').glob('run_*')) == ['run_3']
  ours, theirs = (c.rows('digits_jax', 3)[-1] for c in (part, whole))
  for column in ('hparam.learning_rate', 'hparam.epsilon', 'trial_seed', 'loss'):
    assert ours[column] == theirs[column]
  # The rest of the trials may be added to the same folder by another command.
  part.run('jax', num_tuning_trials=3, max_global_steps=2, hparam_end_index=2)
  assert part.rows('digits_jax', 1)[-1]['loss'] == whole.rows('digits_jax', 1)[-1]['loss']


SPELLINGS = {
  'the contract': ['algorithmic_efficiency/submission_runner.py', '--workload=digits_jax'],
  'the root': ['submission_runner.py', '--workload=digits', '--framework=jax'],
  'the module': ['-m', 'algorithmic_efficiency.submission_runner', '--workload=digits_jax'],
}


@pytest.mark.parametrize('spelling', SPELLINGS)
def test_every_spelling_of_the_command_does_the_same(spelling, tmp_path):
  command = [
    sys.executable,
    *SPELLINGS[spelling],
    '--submission_path=baselines/mnist/mnist_jax/submission.py',
    '--tuning_search_space=baselines/mnist/tuning_search_space.json',
    f'--log_dir={tmp_path}',
    '--max_global_steps=1',
  ]
  subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
  assert (tmp_path / 'digits_jax' / 'run_1' / 'metrics.csv').is_file()


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_a_run_imports_only_its_own_framework(framework, command):
  stranger = {'jax': 'torch', 'pytorch': 'jax'}[framework]
  script = (
    'import sys, atexit\n'
    f'names = ({stranger!r}, "tensorflow", "sklearn", "pandas", "matplotlib", "scipy.stats")\n'
    'say = lambda: print("imported:", [n for n in names if n in sys.modules])\n'
    'atexit.register(say)\n'
    'from algorithmic_efficiency import submission_runner\n'
    'submission_runner.main()\n'
  )
  arguments = command.arguments(framework, max_global_steps=1)[2:]
  done = subprocess.run(
    [sys.executable, '-c', script, *arguments], capture_output=True, text=True, cwd=ROOT
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.endswith('imported: []\n'), done.stdout[-300:]


def test_synthetic_data_never_reaches_its_goal(command, tmp_path):
  # A submission that knows the answer would reach any target; on synthetic data it must not count.
  easy = tmp_path / 'space.json'
  easy.write_text('[{"learning_rate": 0.01, "one_minus_beta_1": 0.1, "epsilon": 1e-8}]')
  command.run('jax', data='synthetic', tuning_search_space=easy, max_global_steps=30)
  rows = command.rows('digits_jax')
  assert {row['goal_reached'] for row in rows} == {'FALSE'}
  assert {row['data'] for row in rows} == {'synthetic'}
  assert command.metadata('digits_jax')['data'] == 'synthetic'
  assert command.metadata('digits_jax')['data_source'] == 'synthetic'


def test_algoperf_layout(tmp_path):
  command = Command(tmp_path)
  flags = {'experiment_dir': tmp_path, 'experiment_name': 'study_1', 'log_dir': None}
  command.run('jax', num_tuning_trials=2, max_global_steps=3, **flags)
  trial = tmp_path / 'study_1' / 'digits_jax' / 'trial_2'
  names = {path.name for path in trial.iterdir()}
  assert names >= {
    'hparams.json',
    'meta_data_0.json',
    'flags_0.json',
    'measurements.csv',
    'eval_measurements.csv',
    'metrics.csv',
  }
  with (trial / 'eval_measurements.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0]) == sorted(rows[0])
  assert rows[0].keys() >= {
    'accumulated_eval_time',
    'accumulated_logging_time',
    'accumulated_submission_time',
    'global_step',
    'preemption_count',
    'score',
    'test/accuracy',
    'test/num_examples',
    'total_duration',
    'train/loss',
    'validation/accuracy',
  }
  assert [row['global_step'] for row in rows] == ['1', '3']
  assert rows[-1]['score'] == rows[-1]['accumulated_submission_time']
  assert set(json.loads((trial / 'hparams.json').read_text())) == {
    'learning_rate',
    'one_minus_beta_1',
    'epsilon',
  }


def test_resume_keeps_finished_trials_and_runs_the_rest(command):
  command.run('jax', num_tuning_trials=2, max_global_steps=3)
  folder = command.log_dir / 'digits_jax'
  kept = (folder / 'run_1' / 'metrics.csv').read_bytes()
  expected = [row['loss'] for row in command.rows('digits_jax', 2)]
  # As a kill in the middle of trial 2 leaves it.
  state = folder / 'run_2' / 'trial.json'
  state.write_text(state.read_text().replace('"complete"', '"running"'))
  text = (folder / 'run_2' / 'metrics.jsonl').read_text()
  (folder / 'run_2' / 'metrics.jsonl').write_text(text.splitlines(keepends=True)[0])
  out = command.run('jax', num_tuning_trials=2, max_global_steps=3, resume='true')
  assert 'trial 1 is complete already; skipped.' in out
  assert (folder / 'run_1' / 'metrics.csv').read_bytes() == kept
  assert [row['loss'] for row in command.rows('digits_jax', 2)] == expected
  assert (folder / 'run_2' / 'metrics.jsonl.attempt_1').exists()


def write_idx(path: Path, array: np.ndarray) -> None:
  """An IDX file as MNIST has them: magic, sizes, bytes; gzip."""
  header = struct.pack('>BBBB', 0, 0, 8, array.ndim) + struct.pack(f'>{array.ndim}I', *array.shape)
  path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), 1))


@pytest.fixture(scope='module')
def mnist_dir(tmp_path_factory) -> Path:
  """Files like MNIST's: each class a fixed random image with a little noise."""
  folder = tmp_path_factory.mktemp('data') / 'mnist'
  folder.mkdir()
  draw = np.random.default_rng(0)
  faces = draw.integers(0, 180, (10, 28, 28))
  for part, count in (('train', 60_000), ('t10k', 10_000)):
    labels = draw.integers(0, 10, count)
    noise = draw.integers(0, 70, (count, 28, 28), dtype=np.uint8)
    write_idx(folder / f'{part}-images-idx3-ubyte.gz', faces[labels] + noise)
    write_idx(folder / f'{part}-labels-idx1-ubyte.gz', labels)
  return folder.parent


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_mnist_trains_from_the_original_files(framework, mnist_dir, command):
  command.run(
    framework, workload='mnist', data_dir=mnist_dir, max_global_steps=60, eval_period_steps=30
  )
  name = f'mnist_{framework}'
  rows = command.rows(name)
  assert command.metadata(name)['data_source'] == 'idx files'
  assert float(rows[-1]['loss']) < float(rows[0]['loss'])
  assert (rows[0]['train/num_examples'], rows[0]['test/num_examples']) == ('10000', '10000')
  assert float(rows[0]['steps_per_epoch']) == 50_000 / 1024
  assert rows[0]['workload.train_mean'] == '0.1307'


def test_the_experiment_runs_and_draws(tmp_path):
  experiment = ROOT / 'experiments' / 'simple_example_mnist_loss'
  environment = {'DATA': 'embedded', 'LOG_DIR': str(tmp_path / 'logs'), 'PYTHON': sys.executable}
  import os

  subprocess.run(
    ['bash', str(experiment / 'measure_loss.sh'), '--max_global_steps=80'],
    check=True,
    capture_output=True,
    env={**os.environ, **environment},
    cwd=tmp_path,
  )
  assert 'trial 1/2' in (tmp_path / 'logs' / 'console_output.log').read_text()
  subprocess.run(
    [
      sys.executable,
      str(experiment / 'plot_loss.py'),
      f'--table={tmp_path}/logs/all_metrics.csv',
      f'--figure={tmp_path}/plot_loss.png',
    ],
    check=True,
    capture_output=True,
  )
  assert (tmp_path / 'plot_loss.png').read_bytes().startswith(b'\x89PNG')


def test_relative_paths_count_from_the_folder_of_the_command(tmp_path, command, monkeypatch):
  shutil.copytree(BASELINE / 'mnist_jax', tmp_path / 'elsewhere' / 'mine')
  shutil.copy(BASELINE / 'tuning_search_space.json', tmp_path / 'elsewhere' / 'space.json')
  monkeypatch.chdir(tmp_path / 'elsewhere')
  command.log_dir = Path('logs')
  command.run(
    'jax', submission_path='mine', tuning_search_space='space.json', max_global_steps=1
  )
  assert len(command.rows('digits_jax')) == 1
