"""Tests of watching runs: what is shown of trials that run, have ended, failed, or just begin."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

pytest.importorskip('rich', reason='rich is not installed')


def watch(folder, *flags, code=0):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts' / 'watch.py', folder, *flags],
    capture_output=True, text=True, timeout=60, env={**os.environ, 'COLUMNS': '140'},
  )  # fmt: skip
  assert done.returncode == code, done.stderr
  return done.stdout + done.stderr


def trial(folder, name, status, row=None, sample=None, **state):
  path = folder / 'digits_jax' / name
  path.mkdir(parents=True)
  (path / 'trial.json').write_text(json.dumps({'status': status, **state}))
  if row:
    (path / 'metrics.jsonl').write_text(
      json.dumps({'global_step': 1}) + '\n' + json.dumps(row) + '\n'
    )
  if sample:
    lines = [{'kind': 'begin'}, sample, {'kind': 'note', 'text': 'x'}]
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (path / 'telemetry.jsonl').write_text(text + '{"kind": "sample", "half')


ROW = {
  'global_step': 12_345, 'validation/loss': 0.12344, 'validation/accuracy': 0.9712,
  'workload.target_metric_name': 'accuracy', 'accumulated_submission_time': 12.34,
  'workload.max_allowed_runtime_sec': 60.0, 'energy.joules_since_start': 12_345.0,
}  # fmt: skip
SAMPLE = {
  'kind': 'sample', 'time': time.time() + 1000, 'gpu.0.compute.util': 0.5, 'gpu.0.mem.used': 250.0,
  'gpu.0.mem.total': 1000.0, 'gpu.0.power.watts': 312.4, 'gpu.0.temp.current': 61.0,
  'cpu.util.avg_percent_since_last': 25.0, 'mem.used': 2**30, 'mem.total': 2**31, 'gpu.count': 1,
  'gpu.avg.power.watts': 312.4,
}  # fmt: skip


def test_trials_and_devices(tmp_path):
  trial(tmp_path, 'run_1', 'complete', ROW, goal_reached=True)
  trial(tmp_path, 'run_2', 'running', ROW, SAMPLE)
  trial(tmp_path, 'run_10', 'failed', reason='loss is NaN at step 7')
  shown = watch(tmp_path, '--once')
  for text in (
    'complete, goal', 'running', '12,345', '0.1234', 'accuracy 0.9712', '12.3 s of 60', '12.3 kJ',
    '312 W', '250 of 1,000 MiB', '61 °C', '50%', '1,024 of 2,048 MiB', 'loss is NaN at step 7',
  ):  # fmt: skip
    assert text in shown, text
  assert shown.index('run_2') < shown.index('run_10')
  assert 'gpu.avg' not in shown


def test_a_trial_that_is_silent_is_told(tmp_path):
  trial(tmp_path, 'run_1', 'running', ROW, {**SAMPLE, 'time': time.time() - 100})
  assert 'silent' in watch(tmp_path, '--once')


def test_nothing_yet(tmp_path):
  assert 'No trial below' in watch(tmp_path, '--once')
  assert 'is no folder' in watch(tmp_path / 'none', code=2)


@pytest.mark.slow
def test_a_real_run_is_shown_while_it_runs(command):
  flags = {'telemetry': 'continuous', 'max_global_steps': 2_000_000, 'eval_period_steps': 2000}
  process = subprocess.Popen(command.arguments('jax', **flags), stdout=subprocess.DEVNULL)
  try:
    path = command.log_dir / 'digits_jax/run_1/metrics.jsonl'
    end = time.monotonic() + 60
    while not (path.exists() and path.read_text().count('\n') >= 1):
      assert time.monotonic() < end
      time.sleep(0.05)
    shown = watch(command.log_dir, '--once')
    assert 'running' in shown or 'complete' in shown
    assert 'accuracy 0.' in shown
  finally:
    process.kill()
    process.wait()
