"""The command's flags are an interface: this list changes only on purpose."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FLAGS = {
  'batch_size',
  'data',
  'data_dir',
  'device',
  'edition',
  'eval_timeout_sec',
  'telemetry',
  'telemetry_hz',
  'telemetry_idle_sec',
  'eval_period_steps',
  'experiment_dir',
  'experiment_name',
  'export',
  'extra_metadata',
  'framework',
  'hparam_end_index',
  'hparam_start_index',
  'log_dir',
  'max_global_steps',
  'num_checkpoints_kept',
  'num_tuning_trials',
  'overwrite',
  'profile_steps',
  'record_extra_metadata',
  'resume',
  'rng_seed',
  'save_checkpoints',
  'submission_api',
  'submission_path',
  'torch_compile',
  'trace_memory',
  'tuning_ruleset',
  'tuning_search_space',
  'use_wandb',
  'workload',
}
SPELLINGS = (
  ['submission_runner.py'],
  ['algorithmic_efficiency/submission_runner.py'],
  ['-m', 'algorithmic_efficiency.submission_runner'],
)


def help_of(spelling: list[str], flag: str = '--helpshort', folder: Path = ROOT) -> str:
  """What the command prints about itself."""
  done = subprocess.run(
    [sys.executable, *spelling, flag], capture_output=True, text=True, cwd=folder, timeout=60
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.mark.parametrize('spelling', SPELLINGS)
@pytest.mark.parametrize('flag', ['--help', '--helpshort'])
def test_help_lists_exactly_the_flags(spelling, flag):
  listed = re.findall(r'^  --(\w+)', help_of(spelling, flag), flags=re.M)
  assert sorted(listed) == sorted(FLAGS)


def test_help_is_readable():
  text = help_of(SPELLINGS[0])
  assert text.startswith('Trains a workload')
  assert max(map(len, text.splitlines())) <= 102
  assert len(text.splitlines()) < 70


def test_help_works_from_any_folder(tmp_path):
  assert help_of([str(ROOT / 'submission_runner.py')], folder=tmp_path) == help_of(SPELLINGS[0])


def test_help_imports_no_framework():
  script = (
    'import sys\n'
    'sys.argv = ["submission_runner", "--helpshort"]\n'
    'from algorithmic_efficiency import submission_runner\n'
    'try:\n'
    '  submission_runner.main()\n'
    'finally:\n'
    '  heavy = {"jax", "torch", "tensorflow", "flax", "numpy", "scipy"} & set(sys.modules)\n'
    '  sys.stderr.write("heavy:" + ",".join(sorted(heavy)))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, cwd=ROOT, timeout=60
  )
  assert done.stderr.endswith('heavy:'), done.stderr


def test_the_console_command_is_the_same():
  from importlib.metadata import entry_points

  found = [e for e in entry_points(group='console_scripts') if e.name == 'submission_runner']
  if not found:
    pytest.skip('the package is not installed, so there is no console command')
  assert found[0].value == 'algorithmic_efficiency.submission_runner:main'
