"""Tests of the sampler as a process: its lines, its end, and what happens when one is killed."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_gpus
import pytest
from conftest import ROOT

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.appended_file import AppendedFile
from algorithmic_efficiency.telemetry import sidecar
from algorithmic_efficiency.telemetry.sample import Telemetry

MODULE = 'algorithmic_efficiency.telemetry.sidecar'


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def of_kind(path, kind):
  return [line for line in lines(path) if line['kind'] == kind]


def wait_for(condition, seconds=20.0):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end, 'it did not happen'
    time.sleep(0.01)


@contextlib.contextmanager
def sampler(path, *flags, gpus=None, parent=None):
  """A sampler that watches this process, once it has written its first sample."""
  environment = os.environ if gpus is None else fake_gpus.environment(**gpus)
  arguments = [f'--file={path}', f'--parent={parent or os.getpid()}', *flags]
  process = subprocess.Popen(
    [sys.executable, '-m', MODULE, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE
  )
  try:
    wait_for(lambda: path.exists() and of_kind(path, 'sample'))
    yield process
  finally:
    process.kill()
    process.communicate()


def test_header_samples_and_footer(tmp_path):
  path = tmp_path / 'telemetry.jsonl'
  with sampler(path, '--hz=10', gpus={'count': 2}) as process:
    time.sleep(1.0)
    process.terminate()
    assert process.wait(10) == 0
  begin, *samples, end = lines(path)
  assert (begin['kind'], begin['schema'], begin['hz']) == ('begin', 1, 10)
  assert [(d['name'], d['uuid'], d['in_job']) for d in begin['devices']] == [
    ('gpu.0', 'GPU-00000000-aaaa', True), ('gpu.1', 'GPU-10000000-aaaa', True),
  ]  # fmt: skip
  assert {'boot_id', 'time', 'monotonic_sec', 'units', 'absent'} <= set(begin)
  assert {line['kind'] for line in samples} == {'sample'}
  assert (end['kind'], end['reason'], end['samples']) == ('end', 'asked to', len(samples))
  assert 0 < end['cpu_sec'] < 5
  assert 5e6 < end['max_rss_bytes'] < 1e8
  times = [line['monotonic_sec'] for line in samples]
  assert all(0.05 < b - a < 1 for a, b in itertools.pairwise(times))
  for line in samples:
    watts = fake_gpus.watts(line['monotonic_sec'])
    assert line['gpu.0.power.watts'] == pytest.approx(watts, abs=30)
    unknown = [name for name in line if columns.find(name) is None]
    assert set(unknown) <= {'kind', 'monotonic_sec', 'time'}
  # Seldom read: what changes slowly or costs much.
  assert sum('cpu.freq.current' in line for line in samples) <= 1 < len(samples)
  assert 1 <= sum('proc.count' in line for line in samples) <= len(samples) / 2


def test_only_the_devices_asked_for_are_read(tmp_path):
  path = tmp_path / 'telemetry.jsonl'
  with sampler(path, '--devices=gpu.1', gpus={'count': 3}):
    sample = of_kind(path, 'sample')[0]
  assert 'gpu.1.power.watts' in sample
  assert not any(name.startswith(('gpu.0.', 'gpu.2.')) for name in sample)


@pytest.mark.parametrize('hz', [2, 10])
def test_it_ends_within_a_period_of_the_process_it_watches(tmp_path, hz):
  path = tmp_path / 'telemetry.jsonl'
  program = f"""
import os, subprocess, sys, time
process = subprocess.Popen([sys.executable, '-m', '{MODULE}', '--file={path}', '--hz={hz}',
                            f'--parent={{os.getpid()}}'], start_new_session=True)
print(process.pid, flush=True)
time.sleep(100)
"""
  parent = subprocess.Popen(
    [sys.executable, '-c', program], stdout=subprocess.PIPE, text=True, cwd=ROOT
  )
  assert parent.stdout is not None
  pid = int(parent.stdout.readline())
  wait_for(lambda: path.exists() and of_kind(path, 'sample'))
  killed = time.monotonic()
  parent.kill()
  parent.communicate()
  wait_for(lambda: of_kind(path, 'end'))
  (end,) = of_kind(path, 'end')
  assert end['reason'] == 'the process it watched has ended'
  assert end['monotonic_sec'] - killed < 1 / hz + 0.5  # and what a busy machine takes
  wait_for(lambda: not _is_alive(pid))


def _is_alive(pid):
  try:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] not in 'ZX'
  except FileNotFoundError:
    return False


def test_ticks_that_were_missed_are_not_made_up_for(tmp_path):
  path = tmp_path / 'telemetry.jsonl'
  with sampler(path, '--hz=20') as process:
    process.send_signal(signal.SIGSTOP)
    before = len(of_kind(path, 'sample'))
    time.sleep(1.0)
    process.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    process.terminate()
    process.wait(10)
  samples, (end,) = of_kind(path, 'sample'), of_kind(path, 'end')
  assert end['missed'] >= 15
  times = [line['monotonic_sec'] for line in samples[before:]]
  assert len(times) <= 10
  assert all(b - a > 0.02 for a, b in itertools.pairwise(times[1:]))


def test_a_killed_sampler_leaves_whole_lines(tmp_path):
  path = tmp_path / 'telemetry.jsonl'
  with sampler(path, '--hz=100') as process:
    time.sleep(0.3)
    process.kill()
    process.wait()
  assert path.read_bytes().endswith(b'\n')
  assert len(of_kind(path, 'sample')) > 3


def test_a_file_that_cannot_be_made_is_told(tmp_path):
  done = subprocess.run(
    [sys.executable, '-m', MODULE, f'--file={tmp_path}/none/t.jsonl'], cwd=ROOT,
    capture_output=True, text=True, timeout=30,
  )  # fmt: skip
  assert done.returncode == 1
  assert done.stderr.count('\n') == 1
  assert 'cannot be written' in done.stderr


class Full:
  """A disk that refuses some lines."""

  def __init__(self, file, refused):
    self.file, self.refused, self.count = file, refused, 0

  def append(self, line, durable=False):
    self.count += 1
    if self.count in self.refused:
      raise sidecar.MeasurementError('full')
    self.file.append(line, durable)


def test_a_full_disk_costs_lines_and_not_the_sampler(tmp_path):
  path = tmp_path / 'telemetry.jsonl'
  file = Full(AppendedFile(path), refused={2, 3})
  made = sidecar.Sampler(file, 0.1, Telemetry([]), os.getppid(), stop=-1)
  for number in range(5):
    made.write({'kind': 'sample', 'number': number})
  assert made.lost_lines == 2
  assert [line['number'] for line in lines(path)] == [0, 3, 4]


def test_the_systems_clock_may_jump(tmp_path, monkeypatch):
  path = tmp_path / 'telemetry.jsonl'
  made = sidecar.Sampler(AppendedFile(path), 0.1, Telemetry([]), os.getppid(), stop=-1)
  wall = iter([1000.0, 5.0, 2000.0])
  monkeypatch.setattr(time, 'time', lambda: next(wall))
  for _ in range(3):
    made._sample()
  samples = lines(path)
  assert [line['time'] for line in samples] == [1000.0, 5.0, 2000.0]
  times = [line['monotonic_sec'] for line in samples]
  assert times == sorted(times)
  assert times[-1] - times[0] < 1


class Slow:
  NAME = 'something slow'
  EVERY_SEC = 0.0

  def probe(self):
    return True, ''

  def read(self):
    time.sleep(0.3)
    return {'mem.total': 1}


def test_a_source_that_is_too_slow_is_dropped_and_that_is_told():
  telemetry = Telemetry([Slow()])
  assert [telemetry.read_due(), telemetry.read_due()] == [{'mem.total': 1}] * 2
  assert telemetry.read_due() == {}
  assert telemetry.dropped == ['something slow']
  assert telemetry.costs['something slow'][0] == 2
