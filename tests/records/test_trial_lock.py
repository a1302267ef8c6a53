"""Tests that a trial has one owner at a time, and that a dead one is no obstacle."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.trial_lock import TrialLock, all_taken, any_is_alive

HOLDER = """
import sys, time
from pathlib import Path
from algorithmic_efficiency.records.trial_lock import TrialLock
lock = TrialLock(Path(sys.argv[1]))
lock.take()
print('taken', flush=True)
time.sleep(60)
"""


@pytest.fixture
def path(tmp_path):
  return tmp_path / '.run_1.lock'


@pytest.fixture
def holder(path):
  """Another process that holds the lock."""
  environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
  process = subprocess.Popen(
    [sys.executable, '-c', HOLDER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
  )
  assert process.stdout.readline() == 'taken\n'
  yield process
  process.kill()
  process.communicate()


def test_somebody_alive_is_named(path, holder):
  with pytest.raises(UsageError, match=rf"run_1 in '.*' is being run by process {holder.pid} on"):
    TrialLock(path).take()
  holder.kill()
  holder.wait()
  lock = TrialLock(path)
  lock.take()
  assert lock.last_seen == pytest.approx(time.time(), abs=30)
  lock.release()
  assert not path.exists()


def test_locks_are_looked_at_without_being_taken(path, holder):
  assert any_is_alive([path.with_name('none'), path])
  os.utime(path, (0, 0))
  assert not any_is_alive([path.with_name('none'), path])


def test_it_can_be_taken_again_after_it_was_released(path):
  for _ in range(2):
    lock = TrialLock(path)
    lock.take()
    assert lock.last_seen is None
    lock.release()


def test_one_process_cannot_take_it_twice(path):
  first = TrialLock(path)
  first.take()
  with pytest.raises(UsageError, match=f'process {os.getpid()} '):
    TrialLock(path).take()
  first.release()


@pytest.mark.parametrize(('age', 'alive'), [(1.0, True), (3600.0, False)])
def test_on_another_machine_the_last_touch_decides(age, alive, path):
  path.write_text(json.dumps({'pid': 7, 'host': 'elsewhere', 'since': 0}))
  os.utime(path, (time.time() - age,) * 2)
  lock = TrialLock(path)
  if alive:
    with pytest.raises(UsageError, match='process 7 on elsewhere'):
      lock.take()
  else:
    lock.take()
    assert lock.last_seen == pytest.approx(time.time() - age, abs=5)
    lock.release()


@pytest.mark.parametrize('text', ['', '{"pid": ', '[1]'])
def test_a_file_that_was_cut_short_is_no_obstacle(text, path):
  path.write_text(text)
  with all_taken([path]) as locks:
    assert list(locks) == [path]
  assert not path.exists()


def test_while_they_are_held_there_are_signs_of_life(path):
  with all_taken([path]):
    os.utime(path, (0, 0))
    end = time.monotonic() + 10
    while path.stat().st_mtime == 0:
      assert time.monotonic() < end
      time.sleep(0.05)
    assert path.stat().st_mtime == pytest.approx(time.time(), abs=5)
  assert 'locks' not in {thread.name for thread in threading.enumerate()}


def test_several_are_taken_together_or_none(tmp_path, path, holder):
  other = tmp_path / '.run_0.lock'
  with pytest.raises(UsageError, match='run_1'), all_taken([other, path]):
    pass
  assert not other.exists()
