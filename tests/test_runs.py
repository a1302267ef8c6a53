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
from conftest import BASELINE, ROOT, SPACE, Command

from algorithmic_efficiency.logging_utils import concatenate_csvs
from algorithmic_efficiency.records import columns

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


STUDY = {
  'tuning_search_space': SPACE,
  'num_tuning_trials': 2,
  'rng_seed': 2022,
  'max_global_steps': None,
  'eval_period_steps': 38,
}


@pytest.fixture(scope='module')
def studies(tmp_path_factory) -> Command:
  """A study in each framework, as the quick start runs them, in one log_dir."""
  command = Command(tmp_path_factory.mktemp('studies') / 'logs')
  for framework in FRAMEWORKS:
    out = command.run(framework, **STUDY, record_extra_metadata='note=a, b')
    (command.log_dir / f'{framework}.txt').write_text(out)
  return command


def losses(command: Command, framework: str, trial: int) -> list[tuple[str, str, str]]:
  """(step, validation loss, training loss) of every row, as written."""
  rows = command.rows(f'digits_{framework}', trial)
  return [(row['global_step'], row['loss'], row['train/loss']) for row in rows]


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_two_trials_reach_their_target(framework, studies):
  out = (studies.log_dir / f'{framework}.txt').read_text()
  for trial in (1, 2):
    assert re.search(rf'^ +{trial}  complete +yes', out, flags=re.M), out
    rows = studies.rows(f'digits_{framework}', trial)
    assert rows[0]['global_step'] == '1'
    assert [row['goal_reached'] for row in rows[-2:]] == ['FALSE', 'TRUE']
    assert float(rows[-1]['validation/accuracy']) >= 0.97
    assert max(float(row['test/accuracy']) for row in rows) >= 0.96
    state = studies.state(f'digits_{framework}', trial)
    assert state['status'] == 'complete' and state['goal_reached'] is True


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_rows_have_the_columns_of_the_contract(framework, studies):
  for trial in (1, 2):
    rows = studies.rows(f'digits_{framework}', trial)
    header = list(rows[0])
    assert [c for c in header if c in CONTRACT_COLUMNS] == list(CONTRACT_COLUMNS)
    assert not [c for c in header if columns.find(c) is None and c != 'note']
    assert all(row['accuracy'] == row['validation/accuracy'] for row in rows)
    assert {row['note'] for row in rows} == {'a, b'}
    assert {row['run_idx'] for row in rows} == {str(trial)}
    times = [float(row['accumulated_submission_time']) for row in rows]
    assert times == sorted(times) and times[0] > 0
    spent = studies.state(f'digits_{framework}', trial)['seconds']
    assert spent['submission'] == pytest.approx(times[-1], abs=0.05)
    assert spent['evaluation'] == pytest.approx(float(rows[-1]['accumulated_eval_time']), abs=0.05)


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_metadata_and_packages(framework, studies):
  metadata = studies.metadata(f'digits_{framework}')
  assert metadata.keys() >= CONTRACT_METADATA
  assert not [k for k in metadata if columns.find(k, columns.METADATA) is None and k != 'note']
  packages = (studies.log_dir / f'digits_{framework}' / 'packages.txt').read_text()
  assert packages.startswith('# Python packages\n') and '\n# OS packages\n' in packages
  assert f'numpy=={np.__version__}' in packages


def test_all_metrics_joins_the_trials(studies):
  table = concatenate_csvs(studies.log_dir)
  with table.open(newline='') as file:
    rows = list(csv.DictReader(file))
  names = [f'digits_{f}/run_{t}/metrics.csv' for f in FRAMEWORKS for t in (1, 2)]
  assert list(dict.fromkeys(row['source'] for row in rows)) == names
  counts = [len(losses(studies, f, t)) for f in FRAMEWORKS for t in (1, 2)]
  assert len(rows) == sum(counts)
  before = table.read_bytes()
  assert concatenate_csvs(studies.log_dir).read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_one_seed_gives_the_same_losses_to_the_last_digit(framework, studies, command):
  command.run(framework, **STUDY)
  for trial in (1, 2):
    assert losses(command, framework, trial) == losses(studies, framework, trial)
  assert losses(command, framework, 1)[0] != losses(command, framework, 2)[0]


@pytest.mark.slow
def test_another_seed_gives_other_losses_and_seed_0_is_a_seed(studies, command):
  command.run('jax', rng_seed=0, max_global_steps=1)
  assert command.metadata('digits_jax')['rng_seed'] == 0
  assert command.rows('digits_jax')[0]['rng_seed'] == '0'
  assert losses(command, 'jax', 1)[0] != losses(studies, 'jax', 1)[0]


@pytest.mark.slow
def test_a_slice_of_the_trials_agrees_with_the_whole(studies, command):
  command.run('jax', **STUDY, hparam_start_index=1)
  folder = command.log_dir / 'digits_jax'
  assert [path.name for path in folder.glob('run_*')] == ['run_2']
  ours, theirs = (c.rows('digits_jax', 2)[-1] for c in (command, studies))
  for column in ('hparam.learning_rate', 'hparam.epsilon', 'trial_seed', 'loss'):
    assert ours[column] == theirs[column]
  # The rest of the trials may be added to the same folder by another command.
  command.run('jax', **STUDY, hparam_end_index=1)
  assert losses(command, 'jax', 1) == losses(studies, 'jax', 1)


SPELLINGS = {
  'the contract': ['algorithmic_efficiency/submission_runner.py', '--workload=digits_jax'],
  'the module': ['-m', 'algorithmic_efficiency.submission_runner', '--workload=digits_jax'],
}


@pytest.mark.slow
@pytest.mark.parametrize('spelling', SPELLINGS)
def test_other_spellings_of_the_command_do_the_same(spelling, tmp_path):
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


@pytest.mark.slow
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


@pytest.mark.slow
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
  assert 'goes on from step 1 ' in out  # the checkpoint after the row that is lost is of no use


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_relative_paths_count_from_the_folder_of_the_command(tmp_path, command, monkeypatch):
  shutil.copytree(BASELINE / 'mnist_jax', tmp_path / 'elsewhere' / 'mine')
  shutil.copy(BASELINE / 'tuning_search_space.json', tmp_path / 'elsewhere' / 'space.json')
  monkeypatch.chdir(tmp_path / 'elsewhere')
  command.log_dir = Path('logs')
  command.run('jax', submission_path='mine', tuning_search_space='space.json', max_global_steps=1)
  assert len(command.rows('digits_jax')) == 1
