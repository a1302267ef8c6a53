"""Plans as processes of this machine, with real training: killed, gone on with, and the same."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import slowly

from algorithmic_efficiency.launch.command import ROOT

pytestmark = pytest.mark.slow
SCRIPT = ROOT / 'scripts' / 'launch.py'


def command(logs, *more):
  flags = {
    'log_dir': logs, 'engine': 'processes', 'workloads': 'digits', 'frameworks': 'jax',
    'submission_path': 'baselines/mnist/mnist_{framework}/submission.py',
    'tuning_search_space': 'baselines/mnist/tuning_search_space.json',
  }  # fmt: skip
  return [sys.executable, str(SCRIPT), *(f'--{n}={v}' for n, v in flags.items()), *more]


def run(words):
  return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=200)


def losses(logs):
  rows = (logs / 'slowly' / 'study_1' / 'digits_jax' / 'run_1' / 'metrics.jsonl').read_text()
  return [json.loads(row)['validation/loss'] for row in rows.splitlines()]


def outcomes(logs):
  files = sorted((logs / 'jobs').glob('*.json'))
  return [[a.get('outcome') for a in json.loads(f.read_text())['attempts']] for f in files]


def wait_for(path):
  until = time.monotonic() + 120
  while time.monotonic() < until and not (path.exists() and path.stat().st_size):
    time.sleep(0.02)
  assert path.exists()


def test_a_killed_launcher_and_killed_training_change_no_number(tmp_path):
  """The launcher is killed, then, after --resume, the training; the third time it ends."""
  path = slowly.write_submission(tmp_path, 'jax', after_step=20)
  words = [
    f'--submission_path={path}', '--flag=max_global_steps=200', '--flag=eval_period_steps=20',
    '--retries=1', '--seed=5',
  ]  # fmt: skip
  plain, killed = tmp_path / 'plain', tmp_path / 'killed'
  slowly.let_go(tmp_path)
  assert run(command(plain, *words)).returncode == 0
  slowly.hold(tmp_path)
  row = killed / 'slowly' / 'study_1' / 'digits_jax' / 'run_1' / 'metrics.jsonl'
  launcher = subprocess.Popen(
    command(killed, *words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  wait_for(row)
  left = [p for p in psutil.Process(launcher.pid).children() if p.is_running()]
  launcher.kill()
  launcher.wait()
  again = subprocess.Popen(
    [sys.executable, str(SCRIPT), f'--log_dir={killed}', '--resume', '--engine=processes'],
    cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  record = next((killed / 'jobs').glob('*.json'), None)
  assert record is not None
  until = time.monotonic() + 100
  while time.monotonic() < until and again.poll() is None:
    attempts = json.loads(record.read_text())['attempts']
    if len(attempts) == 2:
      os.kill(attempts[1]['pid'], signal.SIGKILL)
      break
    time.sleep(0.02)
  slowly.let_go(tmp_path)
  out, errors = again.communicate(timeout=200)
  assert again.returncode == 0, out + errors
  assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in left)
  assert outcomes(killed) == [['lost', 'killed', 'complete']]
  assert losses(killed) == losses(plain)
  assert len(losses(plain)) == 11
  status = run([sys.executable, str(SCRIPT), f'--log_dir={killed}', '--status'])
  assert status.stdout.splitlines()[-1] == '1 complete'


def test_both_frameworks_run_side_by_side_on_cores_of_their_own(tmp_path):
  logs = tmp_path / 'logs'
  out = run(command(logs, '--frameworks=jax,pytorch', '--slots=2', '--flag=max_global_steps=20'))
  assert out.returncode == 0, out.stderr
  assert out.stdout.splitlines()[-1] == '2 complete'
  assert outcomes(logs) == [['complete'], ['complete']]
