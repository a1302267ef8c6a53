"""Kills and stops of several processes; minutes, so only by `-m slow`."""

import json
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

EXPERIMENT = ROOT / 'experiments' / 'kill_and_resume'
sys.path[:0] = [str(EXPERIMENT), str(EXPERIMENT.parent)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_killed_runs_of_one_and_of_two_processes_go_on_to_the_last_digit(tmp_path):
  done = subprocess.run(
    [sys.executable, str(EXPERIMENT / 'measure_resume.py'), '--smoke',
     f'--output={tmp_path}/results.csv'],
    capture_output=True, text=True, timeout=800,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout + done.stderr
  assert '4 kills, 4 records the same to the last digit' in done.stdout


@pytest.mark.parametrize(('framework', 'code'), [('jax', 75), ('pytorch', 1)])
def test_two_processes_stop_at_one_step_and_go_on(framework, code, tmp_path):
  """SIGTERM comes to one of them alone (of PyTorch's, to torchrun, whose own code is 1)."""
  import launching
  import measure_resume

  def command(name, resume=False):
    return measure_resume.command(framework, 2, tmp_path / name, resume)

  launching.run(command('alone'), framework, 2)
  processes = launching.start(command('stopped'), framework, 2)
  trial = tmp_path / 'stopped' / f'digits_{framework}' / 'run_1'
  end = time.monotonic() + 120
  while not (trial / 'checkpoints' / 'step_200').exists():
    assert time.monotonic() < end
    time.sleep(0.02)
  processes[-1].send_signal(signal.SIGTERM)
  for process in processes:
    process.communicate(timeout=30)  # what schedulers wait for
  assert [process.returncode for process in processes] == [code] * len(processes)
  state = json.loads((trial / 'trial.json').read_text())
  assert state['status'] == 'interrupted'
  assert state['reason'].endswith(', saved')
  launching.run(command('stopped', resume=True), framework, 2)
  rows = measure_resume.rows_of(tmp_path / 'stopped', framework)
  assert len(rows) == 31
  assert rows == measure_resume.rows_of(tmp_path / 'alone', framework)


def test_an_evaluation_that_hears_nothing_ends_the_process(command, tmp_path):
  (tmp_path / 'deaf.py').write_text(
    'import signal, sys, time\n'
    'from algorithmic_efficiency.workloads.workload import Workload\n'
    'def evaluate(self, *_):\n'
    '  signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})\n'
    '  time.sleep(100)\n'
    'Workload.evaluate = evaluate\n'
    'from algorithmic_efficiency.submission_runner import main\n'
    'main()\n'
  )
  line = command.arguments('pytorch', eval_timeout_sec=0.5)
  line[1] = str(tmp_path / 'deaf.py')
  began = time.monotonic()
  done = subprocess.run(line, capture_output=True, text=True, timeout=60)
  assert done.returncode == 1
  assert time.monotonic() - began < 30
  assert done.stderr == (
    'submission_runner: error: trial 1/1: the evaluation at step 1 took longer than 0.5 s '
    '(--eval_timeout_sec) and could not be broken off.\n'
  )
  assert command.state('digits_pytorch')['status'] == 'failed'
