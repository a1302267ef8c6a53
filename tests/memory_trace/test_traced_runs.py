"""Runs whose memory is traced, by the command; slow since each starts a framework."""

import csv
import json
import subprocess

import numpy as np
import pytest

from algorithmic_efficiency.memory_trace import refs
from algorithmic_efficiency.memory_trace.trace_file import Trace

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(bool(refs.why_not()), reason='needs clear_refs and smaps of Linux'),
]


def run(command, framework, **flags):
  command.run(framework, **flags)
  folder = flags.get('log_dir', command.log_dir) / f'digits_{framework}' / 'run_1'
  with (folder / 'metrics.csv').open(newline='') as file:
    return folder, list(csv.DictReader(file))


@pytest.mark.parametrize('framework', ['jax', 'pytorch'])
def test_windows_of_steps_are_traced_and_the_clock_leaves_the_pauses_out(command, framework):
  folder, rows = run(command, framework, trace_memory='refs_split:5steps', max_global_steps=20)
  state = json.loads((folder / 'trial.json').read_text())
  told = state['memory_traced']
  samples = list(Trace(folder / told['path']).samples())
  assert [s.window.step for s in samples][:4] == [5, 10, 15, 20]
  assert len(samples) == told['windows']
  for sample in samples:
    assert 0 < sample.touched.touched < sample.touched.resident < sample.touched.virtual
    assert sample.touched.units is not None
  pauses = sum(s.window.paused_ns for s in samples) * 1e-9
  assert told['left_out_sec'] >= pauses
  last = rows[-1]
  assert last['memory_traced'] == 'TRUE'
  assert 0 < float(last['accumulated_memory_trace_time']) <= told['left_out_sec']
  # Accounts and pauses together are no longer than what lies between the first mark and the end.
  trace = Trace(folder / told['path'])
  assert trace.header['window_steps'] == 5
  assert json.loads((folder.parent / 'metadata.json').read_text())['trace_memory'] == (
    'refs_split:5steps'
  )


def test_the_numbers_trained_are_those_of_a_plain_run(command, tmp_path):
  _, traced = run(command, 'jax', trace_memory='refs:0.05', log_dir=tmp_path / 'logs')
  first = {k: traced[-1][k] for k in ('validation/loss', 'test/loss', 'global_step')}
  (tmp_path / 'logs').rename(tmp_path / 'traced')
  _, plain = run(command, 'jax', log_dir=tmp_path / 'logs')
  assert first == {k: plain[-1][k] for k in first}
  assert 'memory_traced' not in plain[-1]
  losses = np.array([float(row['validation/loss']) for row in plain])
  assert np.isfinite(losses).all()


def test_a_backend_that_cannot_be_used_is_told_in_one_line(command):
  from algorithmic_efficiency.memory_trace import backends

  reason = backends.load('damon', sample_sec=1.0).probe()
  if not reason:
    pytest.skip('DAMON can be used here')
  arguments = command.arguments('jax', trace_memory='damon:1')
  done = subprocess.run(arguments, capture_output=True, text=True)
  assert done.returncode == 2
  assert 'the backend damon cannot be used' in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr
