"""Jobs over slots, in small real processes: none lost, none run twice, every end told apart."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import command, endings, on_processes, progress
from algorithmic_efficiency.launch.dispatch import Dispatcher
from algorithmic_efficiency.launch.plan import Algorithm, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

RUNNER = Path(__file__).with_name('stand_in_runner.py')


@pytest.fixture
def launch(tmp_path, monkeypatch):
  """Runs jobs that do what `deeds` says, one after another when they are tried again."""

  def build(deeds, slots=2, retries=0, told=None, during=None):
    plan = Plan('p', (Algorithm('a', 'x'),), ('digits',), ('jax',), trials=len(deeds),
                retries=retries)  # fmt: skip
    folder = PlanFolder(tmp_path / 'logs')
    folder.save(plan)

    def words(plan, job, folder):
      return [sys.executable, '-S', str(RUNNER), str(folder.trial(job).path), deeds[job.trial]]

    monkeypatch.setattr(command, 'words', words)
    lines = progress.Lines(folder, len(deeds), 0, (told if told is not None else []).append)

    def tell(dispatcher, event):
      lines(dispatcher, event)
      if during is not None:
        during(dispatcher, event)

    engine = on_processes.Processes(plan, folder)
    places = [Slot(index) for index in range(slots)]
    left = [job for job in plan.jobs() if folder.finished(job) is None]
    return Dispatcher(plan, folder, engine, places, tell, left), folder, plan

  return build


def outcomes(dispatcher):
  return [dispatcher.ended[name].outcome for name in sorted(dispatcher.ended)]


def attempts(folder, plan):
  return [[a['outcome'] for a in folder.attempts(job)] for job in plan.jobs()]


def test_every_end_is_told_apart(launch):
  deeds = ['complete', 'fail', 'refuse', 'die', 'vanish']
  told = []
  dispatcher, folder, plan = launch(deeds, told=told)
  dispatcher.run()
  assert outcomes(dispatcher) == ['complete', 'failed', 'refused', 'killed', 'broken']
  reasons = [dispatcher.ended[job.name].reason for job in plan.jobs()]
  assert reasons[:4] == ['done', 'it went wrong', 'No such thing.', 'ended by SIGKILL']
  assert len([line for line in told if 'begins on' in line]) == 5
  assert told[-1].endswith('[5/5]')
  assert attempts(folder, plan) == [['complete'], ['failed'], ['refused'], ['killed'], ['broken']]
  lines = progress.summary(dispatcher.ended, 0)
  assert lines[0] == '1 complete, 1 failed, 1 refused, 1 killed, 1 broken'
  assert len(lines) == 5


def test_what_was_killed_or_failed_is_tried_again_as_often_as_asked(launch):
  deeds = ['die,complete', 'fail,complete', 'die,die,die,complete', 'refuse,complete']
  dispatcher, folder, plan = launch(deeds, retries=2)
  dispatcher.run()
  assert outcomes(dispatcher) == ['complete', 'complete', 'killed', 'refused']
  assert attempts(folder, plan) == [
    ['killed', 'complete'], ['failed', 'complete'], ['killed'] * 3, ['refused'],
  ]  # fmt: skip
  assert (folder.trial(plan.jobs()[1]).path / 'trial.json.attempt_1').exists()


def test_slots_run_one_job_each_and_all_of_them(launch):
  most = 0

  def look(dispatcher, _):
    nonlocal most
    most = max(most, len(dispatcher.running))

  dispatcher, folder, plan = launch(['complete'] * 9, slots=3, during=look)
  dispatcher.run()
  assert most == 3
  assert attempts(folder, plan) == [['complete']] * 9
  assert all(len(folder.trial(job).path.joinpath('ran').read_text().split()) == 1
             for job in plan.jobs())  # fmt: skip


def test_ctrl_c_stops_all_and_resume_goes_on(launch):
  dispatcher, folder, plan = launch(['wait', 'wait', 'complete'], slots=2)

  def interrupt(d, event):
    ready = [a for a in d.running.values() if (folder.trial(a.job).path / 'waits').exists()]
    if event.kind == 'tick' and len(ready) == 2:
      raise KeyboardInterrupt

  dispatcher._tell = interrupt
  with pytest.raises(KeyboardInterrupt):
    dispatcher.run()
  assert not dispatcher.running
  assert outcomes(dispatcher) == ['stopped', 'stopped']
  assert attempts(folder, plan) == [['stopped'], ['stopped'], []]
  again, folder, plan = launch(['complete'] * 3)
  again.run()
  assert attempts(folder, plan) == [['stopped', 'complete']] * 2 + [['complete']]


def test_what_does_not_stop_is_killed(launch, monkeypatch):
  monkeypatch.setattr('algorithmic_efficiency.launch.dispatch._GRACE_SEC', 0.3)
  dispatcher, folder, plan = launch(['stubborn'], slots=1)

  def interrupt(d, event):
    if event.kind == 'tick' and (folder.trial(plan.jobs()[0]).path / 'waits').exists():
      raise KeyboardInterrupt

  dispatcher._tell = interrupt
  began = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    dispatcher.run()
  assert time.monotonic() - began < 20
  assert attempts(folder, plan) == [['stopped']]


def test_a_record_that_cannot_be_written_stops_all(launch, monkeypatch):
  dispatcher, folder, _ = launch(['wait', 'wait'])
  record, count = folder.record, 0

  def full(job, entries):
    nonlocal count
    count += 1
    if count > 1:
      raise OSError(28, 'No space left on device')
    record(job, entries)

  monkeypatch.setattr(folder, 'record', full)
  with pytest.raises(MeasurementError, match='No space left on device'):
    dispatcher.run()
  assert not dispatcher.running


def test_a_first_job_that_cannot_be_started_ends_the_plan(launch, monkeypatch):
  dispatcher, _, _ = launch(['complete', 'complete'])
  monkeypatch.setattr(command, 'words', lambda *_: ['/nowhere/python'])
  with pytest.raises(UsageError, match='cannot be started: the command cannot be started'):
    dispatcher.run()


def test_a_process_that_leaves_children_takes_them_along(launch, monkeypatch, tmp_path):
  dispatcher, _, _ = launch(['complete'])
  child = tmp_path / 'child'
  code = (
    'import subprocess, sys; '
    f'p = subprocess.Popen(["sleep", "60"]); open({str(child)!r}, "w").write(str(p.pid))'
  )
  monkeypatch.setattr(command, 'words', lambda *_: [sys.executable, '-S', '-c', code])
  dispatcher.run()
  pid = int(child.read_text())
  for _ in range(100):
    if _is_over(pid):
      return
    time.sleep(0.05)
  os.kill(pid, signal.SIGKILL)
  pytest.fail('the child was left behind')


def _is_over(pid):
  try:
    return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
  except FileNotFoundError:
    return True


def test_the_log_line_says_how_far_a_trial_is(launch, monkeypatch, request):
  # Who starts tests in the background may have had SIGINT ignored.
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
  monkeypatch.setattr(progress, '_LINE_EVERY_SEC', 0.0)
  told = []
  dispatcher, folder, plan = launch(['wait'], slots=1, told=told)
  trial = folder.trial(plan.jobs()[0])

  def write():
    trial.path.mkdir(parents=True, exist_ok=True)
    row = {'global_step': 1200, 'validation/loss': 0.25}
    trial.metrics_jsonl.write_text(json.dumps(row) + '\n{"half')
    until = time.monotonic() + 10
    while time.monotonic() < until and not any('step 1,200' in line for line in told):
      time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

  thread = threading.Thread(target=write)
  thread.start()
  with pytest.raises(KeyboardInterrupt):
    dispatcher.run()
  thread.join()
  assert any('step 1,200, loss 0.2500' in line for line in told)


@pytest.mark.parametrize('code, word', [(-9, 'SIGKILL'), (143, 'SIGTERM'), (139, 'SIGSEGV')])
def test_signals_are_named(tmp_path, code, word):
  plan = Plan('p', (Algorithm('a', 'x'),), ('digits',), ('jax',))
  ending = endings.ending(PlanFolder(tmp_path), plan.jobs()[0], endings.Exit(code))
  assert ending.outcome == 'killed'
  assert word in ending.reason
