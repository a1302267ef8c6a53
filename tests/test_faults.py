"""Runs that go wrong on the way: algorithms that fail, disks that fill up, users who stop them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from wrong_commands import sub

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.run_folder import FINISHED, RunFolder
from algorithmic_efficiency.runner.interrupts import Interrupted, Interrupts

# `act` decides by the hyperparameter `deed` what goes wrong, in step 5 if nothing else is said.
DEEDS = """
import atexit, os, pathlib, sys, time
from algorithmic_efficiency import spec

MARK = pathlib.Path(os.environ.get('MARK', 'mark'))


def mark_and_wait(number=1):
  MARK.with_name(f'{MARK.name}_{number}').touch()
  time.sleep(100)


def act(deed, step, params):
  if deed == 'nan' and step == 2:
    for parameter in params.parameters():
      parameter.data *= float('nan')
  if step < 5:
    return params
  if deed == 'raise':
    raise ValueError('it went wrong\\nin two lines')
  if deed == 'exit':
    sys.exit(0)
  if deed == 'nothing':
    return None
  if deed == 'complete':
    raise spec.TrainingCompleteError
  if deed == 'fill':
    fill()
  if deed == 'wait' and step == 5:
    mark_and_wait()
  if deed == 'swallow' and step == 5:
    try:
      mark_and_wait()
    except BaseException:
      pass
  if deed == 'stubborn':
    try:
      mark_and_wait()
    except BaseException:
      mark_and_wait(2)
  return params


def fill():
  full = pathlib.Path(os.environ['FILL'])
  if full.is_dir():
    with (full / 'filler').open('ab', buffering=0) as file:
      try:
        while True:
          file.write(bytes(1000))
      except OSError:
        return
  import resource
  resource.setrlimit(resource.RLIMIT_FSIZE, (full.stat().st_size + 1000, resource.RLIM_INFINITY))
"""
RETURNED = 'return optimizer_state, current_param_container, model_state'
ACTING = DEEDS + sub(
  RETURNED,
  """params = act(hyperparameters.deed, global_step, current_param_container)
  return None if params is None else (optimizer_state, params, model_state)""",
).replace(
  'return {}',
  """if hyperparameters.deed == 'evaluate':
    atexit.register(os.abort)  # at the end JAX crashes if a thread of its still compiles
    workload.evaluate = lambda params, state: mark_and_wait()
  return {}""",
)


def command(folder: Path, text: str, deeds: list[str], log_dir: Path, **flags: object) -> list[str]:
  """A command that runs a trial for each deed, evaluated after steps 1, 4, 8, … and the last."""
  (folder / 'submission.py').write_text(text)
  (folder / 'space.json').write_text(json.dumps([{'deed': deed} for deed in deeds]))
  values = {
    'framework': 'jax',
    'workload': 'digits',
    'submission_path': folder / 'submission.py',
    'tuning_search_space': folder / 'space.json',
    'num_tuning_trials': len(deeds),
    'log_dir': log_dir,
    'rng_seed': 0,
    'max_global_steps': 8,
    'eval_period_steps': 4,
    **flags,
  }
  given = [f'--{name}={value}' for name, value in values.items()]
  return [sys.executable, str(ROOT / 'submission_runner.py'), *given]


def steps_recorded(trial: Path) -> list[int]:
  """The steps of the trial's rows, after a look at whether every line is whole."""
  lines = (trial / 'metrics.jsonl').read_text().splitlines(keepends=True)
  assert all(line.endswith('\n') for line in lines)
  steps = [json.loads(line)['global_step'] for line in lines]
  text = (trial / 'metrics.csv').read_text()
  rows = list(csv.reader(text.splitlines()))
  assert text.endswith('\n')
  assert {len(row) for row in rows} == {len(rows[0])}
  place = rows[0].index('global_step')
  assert [int(row[place]) for row in rows[1:]] in (steps, steps[:-1])  # metrics.jsonl comes first
  return steps


def state(trial: Path) -> dict[str, Any]:
  """trial.json."""
  return json.loads((trial / 'trial.json').read_text())


@pytest.fixture(scope='module')
def failing(tmp_path_factory) -> tuple[subprocess.CompletedProcess[str], Path]:
  """A study whose trials fail in all ways but the last two; and its folder."""
  folder = tmp_path_factory.mktemp('failing')
  deeds = ['nan', 'raise', 'exit', 'nothing', 'complete', 'ok']
  line = command(folder, ACTING, deeds, folder / 'logs', framework='pytorch')
  done = subprocess.run(line, capture_output=True, text=True, timeout=100)
  return done, folder / 'logs' / 'digits_pytorch'


RAISING = ACTING[: ACTING.index('raise ValueError')].count('\n') + 1  # the line
REASONS = {
  1: 'train/loss is nan at step 4',
  2: f'ValueError: it went wrong (submission.py, line {RAISING}) after 5 steps',
  3: f'SystemExit: 0 (submission.py, line {RAISING + 2}) after 5 steps',
  4: 'update_params returned NoneType, not (optimizer_state, parameters, model_state)',
}


def test_failed_trials_are_told_in_a_line_each(failing):
  done, _ = failing
  assert done.returncode == 1
  expected = [f'warning: trial {number} failed: {why}.' for number, why in REASONS.items()]
  assert done.stderr.splitlines() == expected


@pytest.mark.parametrize('number', REASONS)
def test_a_failed_trial_leaves_its_reason_and_the_next_goes_on(number, failing):
  trial = failing[1] / f'run_{number}'
  assert state(trial)['status'] == 'failed'
  assert state(trial)['reason'] == REASONS[number]
  assert steps_recorded(trial) == [1, 4]
  assert (trial / 'error.txt').read_text().startswith('Traceback (most recent call last):')


def test_the_traceback_is_kept_for_the_author(failing):
  text = (failing[1] / 'run_2' / 'error.txt').read_text()
  assert f'submission.py", line {RAISING}, in act' in text
  assert text.endswith('ValueError: it went wrong\nin two lines\n')


def test_losses_that_are_no_numbers_are_on_record(failing):
  rows = (failing[1] / 'run_1' / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(rows[-1])['train/loss'] == 'NaN'


def test_a_submission_that_ends_itself_gets_a_last_evaluation(failing):
  trial = failing[1] / 'run_5'
  assert state(trial)['status'] == 'complete'
  assert state(trial)['reason'] == 'the submission ended training'
  assert steps_recorded(trial) == [1, 4, 6]
  assert steps_recorded(failing[1] / 'run_6') == [1, 4, 8]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
  """A folder of 2 MB; any folder where nothing may be mounted."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['sh', '-c', f'mount -t tmpfs -o size=2m tmpfs {folder}']
  mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
  yield folder
  if mounted:
    subprocess.run(['umount', str(folder)], check=True)


def test_a_disk_that_fills_up_ends_the_run_in_one_line_and_keeps_the_rows(small_disk, tmp_path):
  trial = small_disk / 'digits_jax' / 'run_1'
  full = small_disk if small_disk.is_mount() else trial / 'metrics.jsonl'
  deeds = ['fill', 'fill']
  limits = {'max_global_steps': 100, 'eval_period_steps': 2}
  line = command(tmp_path, ACTING, deeds, small_disk, **limits)
  reading, writing = os.pipe()
  os.close(reading)  # and nobody reads stdout
  environment = {**os.environ, 'FILL': str(full)}
  done = subprocess.run(
    line, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=100, env=environment
  )
  os.close(writing)
  *warnings, line = done.stderr.splitlines()
  assert line.startswith(f"submission_runner: error: '{trial}/metrics.")
  assert line.endswith('go on with --resume.')
  assert all('no checkpoint could be written' in warning for warning in warnings)
  assert len(warnings) <= 1
  assert done.returncode == 1
  steps = steps_recorded(trial)
  assert steps[:3] == [1, 2, 4]
  assert steps == [1, *range(2, steps[-1] + 1, 2)]
  assert len(steps) < 50
  assert state(trial)['status'] not in FINISHED  # --resume takes it up again
  assert not (small_disk / 'digits_jax' / 'run_2').exists()


# Each with the framework, the submission's deed, the signals it gets and the run's exit code.
STOPS: dict[str, tuple[str, str, list[signal.Signals], int]] = {
  'in training': ('pytorch', 'wait', [signal.SIGINT], 130),
  'in an evaluation': ('jax', 'evaluate', [signal.SIGTERM], 75),
  'at the start': ('jax', 'ok', [signal.SIGINT], 130),
  'at the start by SIGTERM': ('jax', 'ok', [signal.SIGTERM], 143),
  'against its will': ('pytorch', 'swallow', [signal.SIGTERM], 75),
  'at once': ('pytorch', 'stubborn', [signal.SIGINT, signal.SIGINT], -signal.SIGINT),
}


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
  """Returns when the file is there."""
  end = time.monotonic() + 60
  while not path.exists():
    assert process.poll() is None, process.communicate()
    assert time.monotonic() < end, f'{path.name} did not come'
    time.sleep(0.02)


@pytest.fixture(scope='module')
def stopped(tmp_path_factory) -> Iterator[dict[str, tuple[int, str, Path]]]:
  """By name of the stop: the exit code, stderr and the run's folder."""
  started = []
  for name, (framework, deed, signals, _) in STOPS.items():
    folder = tmp_path_factory.mktemp('stopped')
    line = command(folder, ACTING, [deed, deed], folder / 'logs', framework=framework)
    environment = {**os.environ, 'MARK': str(folder / 'mark')}
    if name.startswith('at the start'):
      (folder / 'jax.py').write_text(f'{DEEDS}\nmark_and_wait()\n')  # what is imported in its place
      environment['PYTHONPATH'] = str(folder)
    process = subprocess.Popen(
      line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    started.append((name, process, signals, folder))
  outcomes = {}
  try:
    for name, process, signals, folder in started:
      for number, signum in enumerate(signals, start=1):
        wait_for(folder / f'mark_{number}', process)
        process.send_signal(signum)
      _, stderr = process.communicate(timeout=60)
      outcomes[name] = process.returncode, stderr, folder / 'logs'
    yield outcomes
  finally:
    for _, process, _, _ in started:
      with process:
        process.kill()


@pytest.mark.parametrize('name', STOPS)
def test_a_signal_ends_the_run_with_its_code_and_one_line(name, stopped):
  code, stderr, _ = stopped[name]
  assert code == STOPS[name][-1]
  if code > 0:
    assert stderr.startswith('submission_runner: stopped: Interrupted;')
    assert '--resume' in stderr
  assert stderr.count('\n') == (code > 0)


@pytest.mark.parametrize(
  ('name', 'reason', 'steps'),
  [
    ('in training', 'SIGINT at step 5', [1, 4]),
    ('in an evaluation', 'SIGTERM at step 1, saved', None),
    ('against its will', 'SIGTERM at step 6, saved', [1, 4]),
  ],
)
def test_an_interrupted_trial_says_so_and_is_readable(name, reason, steps, stopped):
  folder = RunFolder(stopped[name][2], f'digits_{STOPS[name][0]}')
  trial = folder.trial(0).path
  assert (state(trial)['status'], state(trial)['reason']) == ('interrupted', reason)
  assert steps is None or steps_recorded(trial) == steps
  assert json.loads(folder.metadata.read_text())['rng_seed'] == 0
  assert not folder.trial(1).path.exists()
  assert not list(folder.path.rglob('*.tmp'))
  with pytest.raises(UsageError, match=r'did not finish \(run_1\); --resume'):
    folder.refuse_to_mix(range(1))


def test_a_second_signal_leaves_what_was_recorded(stopped):
  trial = stopped['at once'][2] / 'digits_pytorch' / 'run_1'
  assert steps_recorded(trial) == [1, 4]
  assert state(trial)['status'] == 'running'


@pytest.mark.parametrize('name', ['at the start', 'at the start by SIGTERM'])
def test_a_run_stopped_at_the_start_leaves_nothing(name, stopped):
  assert not stopped[name][2].exists()


def test_a_signal_in_a_destructor_is_heard_and_shows_no_traceback(capfd):
  class Hostile:
    def __del__(self):
      signal.raise_signal(signal.SIGINT)

  interrupts = Interrupts()
  with interrupts.caught():
    hostile = Hostile()
    del hostile
    with pytest.raises(Interrupted, match='SIGINT'):
      interrupts.check()
  assert capfd.readouterr().err == ''
