"""A job as a cluster runs it: what it records, hands on and exits with. A stand-in trains."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from algorithmic_efficiency.launch import command, endings, requeue, task
from algorithmic_efficiency.launch.plan import Algorithm, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

STAND_IN = Path(__file__).with_name('stand_in_runner.py')


@pytest.fixture
def job_of(tmp_path, monkeypatch):
  """A job whose runs do what `deeds` says, one after the other."""

  def make(deeds, retries=0):
    algorithm = Algorithm('a', 'baselines/mnist/mnist_jax/submission.py')
    plan = Plan('p', (algorithm,), ('digits',), ('jax',), retries=retries)
    folder = PlanFolder(tmp_path / 'logs')
    folder.save(plan)
    job = plan.jobs()[0]
    words = [sys.executable, '-S', str(STAND_IN), str(folder.trial(job).path), deeds]
    monkeypatch.setattr(command, 'words', lambda *_, **__: words)
    return folder, job

  return make


def run(folder, job_id='1_0'):
  said = []
  return task.run(folder.root, 0, 'slurm', said.append, {'job_id': job_id}), said


def outcomes(folder, job):
  return [a.get('outcome') for a in folder.attempts(job)]


@pytest.mark.parametrize(
  ('deed', 'code', 'outcome'),
  [
    ('complete', 0, 'complete'), ('fail', 1, 'failed'), ('refuse', 2, 'refused'),
    ('die', 137, 'killed'), ('vanish', 1, 'broken'),
  ],
)  # fmt: skip
def test_each_end_has_its_code(job_of, deed, code, outcome):
  folder, job = job_of(deed)
  assert run(folder)[0] == code
  assert outcomes(folder, job) == [outcome]


def test_what_is_finished_is_not_run_again(job_of):
  folder, job = job_of('complete')
  run(folder)
  code, said = run(folder)
  assert (code, said) == (0, [f'{job.name}: ended before: complete'])
  assert len(folder.attempts(job)) == 1


def test_a_failed_trial_begins_anew_while_retries_last(job_of):
  folder, job = job_of('fail', retries=1)
  assert run(folder)[0] == 1
  assert requeue.after(folder.root, 0, 'slurm', '1_0', 1) == 75
  assert run(folder)[0] == 1
  assert requeue.after(folder.root, 0, 'slurm', '1_0', 1) == 1
  assert run(folder)[1] == [f'{job.name}: ended before: failed']
  assert outcomes(folder, job) == ['failed', 'failed']


def is_stand_in(process):
  try:
    return any(STAND_IN.name in word for word in process.cmdline())
  except psutil.ZombieProcess:  # of another test
    return False


@pytest.mark.parametrize('outcome', ['saved', 'stopped'])
def test_sigterm_is_handed_on(job_of, outcome):
  folder, job = job_of('wait')
  waits = folder.trial(job).path / 'waits'

  def stop():
    while not waits.exists():
      time.sleep(0.01)
    if outcome == 'stopped':  # it dies of it, before it has anything to save
      [child] = [c for c in psutil.Process().children() if is_stand_in(c)]
      child.suspend()  # it cannot end before this process has heard
      os.kill(os.getpid(), signal.SIGTERM)
      child.kill()
    else:
      os.kill(os.getpid(), signal.SIGTERM)

  thread = threading.Thread(target=stop)
  thread.start()
  assert run(folder)[0] == 75
  thread.join()
  assert outcomes(folder, job) == [outcome]
  assert requeue.after(folder.root, 0, 'slurm', '1_0', 75) == 75


def test_who_is_stopped_before_it_began_goes_back_but_not_for_ever(job_of):
  folder, job = job_of('complete')
  assert requeue.after(folder.root, 0, 'slurm', '1_0', 143) == 75
  assert outcomes(folder, job) == [endings.STOPPED]
  assert requeue.after(folder.root, 0, 'slurm', '2_0', 1) == 1
  assert outcomes(folder, job) == [endings.STOPPED, endings.NOT_STARTED]
  assert run(folder)[0] == 0


def test_an_attempt_that_could_not_say_how_it_ended_is_lost(job_of):
  folder, job = job_of('complete')
  begun = {'attempt': 1, 'engine': 'slurm', 'job_id': '1_0', 'started': 1.0}
  other = {**begun, 'job_id': '0_0'}
  folder.record(job, [other, begun])
  assert run(folder)[0] == 0
  assert outcomes(folder, job) == [None, endings.LOST, 'complete']
