"""Plans below a real SLURM: requeues, preemptions, time limits, kills, two nodes, and errors.

`scripts/containers/with_slurm.sh` brings a cluster where there is none; these tests need two nodes
with partitions `low` and `high` as it has them. Trials train for real, and one that was disturbed
must have the losses of one that was not.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import slowly

from algorithmic_efficiency.launch import slurm_client
from algorithmic_efficiency.launch.command import ROOT
from algorithmic_efficiency.launch.plan_folder import PlanFolder

pytestmark = pytest.mark.slurm
STEPS, EVERY = 3000, 100
POINT = {'learning_rate': 1e-6, 'one_minus_beta_1': 0.95, 'epsilon': 1e-8}  # reaches no target


@pytest.fixture(scope='module', autouse=True)
def cluster():
  try:
    said = subprocess.run(
      ['sinfo', '--noheader', '--format=%P %D'], capture_output=True, text=True, timeout=60
    )
  except FileNotFoundError:
    pytest.skip('SLURM is not installed')
  if said.returncode:
    pytest.skip(f'no SLURM controller answers: {said.stderr.strip()}')
  if {'low* 2', 'high 2'} - set(said.stdout.splitlines()):
    pytest.skip(f'not the cluster of scripts/containers/slurm.sh: {said.stdout.strip()}')


class Launched:
  """The launcher as a process, and what it leaves."""

  def __init__(self, log_dir, space, *flags, engine='slurm', steps=STEPS, **given):
    self.log_dir, self.folder = log_dir, PlanFolder(log_dir)
    for framework in ('jax', 'pytorch'):
      slowly.write_submission(log_dir.parent, framework, after_step=3 * EVERY)
    values = {
      'workloads': 'digits', 'frameworks': 'jax', 'cpus': 1, 'tuning_search_space': space,
      'submission_path': log_dir.parent / 'slowly_{framework}' / 'submission.py', **given,
    }  # fmt: skip
    runner = {'max_global_steps': steps, 'eval_period_steps': EVERY, 'telemetry': 'row'}
    words = [sys.executable, str(ROOT / 'scripts' / 'launch.py'), f'--log_dir={log_dir}']
    words += [f'--engine={engine}', *(f'--{name}={value}' for name, value in values.items())]
    words += [f'--flag={name}={value}' for name, value in runner.items()]
    self.process = subprocess.Popen(
      [*words, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )

  def end(self, expect=0, *, hurry=True):
    """Waits for it; what it printed."""
    if hurry:
      slowly.let_go(self.log_dir.parent)
    said, _ = self.process.communicate(timeout=200)
    assert self.process.returncode == expect, f'{said}\n{self.slurm_logs()}'
    return said

  def slurm_logs(self):
    return '\n'.join(path.read_text() for path in sorted(self.log_dir.glob('slurm/*.log')))

  def jobs(self):
    return self.folder.load().jobs()

  def outcomes(self, trial=0):
    return [a.get('outcome') for a in self.folder.attempts(self.jobs()[trial])]

  def losses(self, trial=0):
    lines = self.folder.trial(self.jobs()[trial]).metrics_jsonl.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row['global_step'], row['train/loss'], row['validation/loss']) for row in rows]

  def until_it_trains(self, trial=0):
    """Waits for some rows of a trial, and returns what SLURM calls it."""

    def trains():
      return self.folder.plan_file.exists() and self.folder.trial(self.jobs()[trial]).num_rows() > 2

    wait_for(trains)
    return self.folder.attempts(self.jobs()[trial])[-1]['job_id']

  def runners(self, trial=0):
    """Processes that train a trial."""
    mine = {f'--log_dir={self.log_dir}/slowly/study_1', f'--hparam_start_index={trial}'}
    found = []
    for process in psutil.process_iter():
      with contextlib.suppress(psutil.Error):
        words = process.cmdline()
        if mine <= set(words) and 'algorithmic_efficiency.submission_runner' in words:
          found.append(process)
    return found


def wait_for(condition, seconds=120):
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until, 'waited in vain'
    time.sleep(0.1)


def slurm(*words):
  return slurm_client.call(words).strip()


@pytest.fixture(scope='module')
def space(tmp_path_factory):
  path = tmp_path_factory.mktemp('space') / 'points.json'
  path.write_text(json.dumps([POINT] * 4))
  return path


@pytest.fixture
def launch(tmp_path, space):
  """Starts launchers whose jobs end with the test."""
  started = []

  def start(*flags, name='logs', **given):
    started.append(Launched(tmp_path / name, space, *flags, **given))
    return started[-1]

  yield start
  for one in started:
    if one.process.poll() is None:
      one.process.terminate()
      one.process.communicate(timeout=30)
    arrays = one.log_dir / 'slurm' / 'submitted.json'
    if arrays.exists():
      ids = [array['job_id'] for array in json.loads(arrays.read_text())['arrays']]
      subprocess.run(['scancel', '--quiet', *ids], timeout=60, check=False)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory, space):
  """The losses of four trials that nobody disturbs."""
  run = Launched(tmp_path_factory.mktemp('quiet'), space, '--slots=2', engine='processes', trials=4)
  run.end()
  return [run.losses(trial) for trial in range(4)]


def test_an_array_goes_on_after_requeue_signal_and_kill(launch, undisturbed):
  """One put back from outside, one told to stop, one killed with a retry left, one left alone."""
  run = launch('--slurm_wait', trials=4, retries=1)
  slurm('scontrol', 'requeue', run.until_it_trains(0))
  # It may send the signal again, to the next attempt, where it finds the job ending already.
  signalling = subprocess.Popen(['scancel', '--signal=TERM', run.until_it_trains(1)])
  wait_for(lambda: run.outcomes(1)[:1] == ['saved'])
  signalling.kill()
  signalling.wait()
  run.until_it_trains(2)
  for process in run.runners(2):
    process.kill()
  said = run.end()
  assert '4 complete' in said
  assert [run.outcomes(trial) for trial in range(4)] == [
    ['saved', 'complete'], ['saved', 'complete'], ['killed', 'complete'], ['complete'],
  ], run.slurm_logs()  # fmt: skip
  assert [run.losses(trial) for trial in range(4)] == undisturbed
  assert not run.runners()


def test_a_job_with_more_right_to_the_node_is_let_through(launch, undisturbed, tmp_path):
  run = launch('--slurm_wait', '--sbatch=--nodelist=node1')
  run.until_it_trains()
  wrapped = f'touch {tmp_path}/high; sleep 1'
  high = ['--partition=high', '--exclusive', '--nodelist=node1', f'--output={tmp_path}/high.log']
  slurm('sbatch', *high, f'--wrap={wrapped}')
  wait_for((tmp_path / 'high').exists, 40)
  assert run.outcomes() == ['saved']
  assert '1 complete' in run.end()
  assert run.outcomes() == ['saved', 'complete']
  assert run.losses() == undisturbed[0]


def test_the_time_limit_is_no_end_and_a_cancelled_job_stays_so(launch, undisturbed, tmp_path):
  limited = launch(
    '--slurm_wait', '--sbatch=--time=1', '--slurm_signal_sec=40', name='limited', steps=10**6
  )
  cancelled = launch('--slurm_wait', name='cancelled', retries=3)
  slurm('scancel', cancelled.until_it_trains())
  said = cancelled.end(expect=1)
  assert "SLURM's last word is CANCELLED" in said
  assert cancelled.outcomes() == ['saved']
  # --resume submits it anew, and does not while it is in the queue.
  slowly.hold(tmp_path)
  launch('--resume', name='cancelled', retries=3).end(hurry=False)
  again = launch('--resume', name='cancelled', retries=3)
  assert '1 are in the queue' in again.end(hurry=False)
  assert '1 complete' in launch('--resume', '--slurm_wait', name='cancelled', retries=3).end()
  assert cancelled.outcomes() == ['saved', 'complete']
  assert cancelled.losses() == undisturbed[0]
  assert launch('--resume', name='cancelled').end().endswith('1 had ended before\n')
  wait_for(lambda: 'saved' in limited.outcomes())
  rows = len(limited.losses())
  wait_for(lambda: len(limited.losses()) > rows + 1)
  slurm('scancel', limited.until_it_trains())
  limited.end(expect=1)
  assert limited.outcomes()[-2:] == ['saved', 'saved']
  both = min(len(undisturbed[0]), len(limited.losses())) - 1
  assert limited.losses()[:both] == undisturbed[0][:both]


def test_retries_end(launch):
  """Killed as soon as it is there: once more with a retry left, then no more."""
  run = launch('--slurm_wait', retries=1)
  killed = set()
  while run.process.poll() is None:
    for process in run.runners():
      process.kill()
      killed.add(process.pid)
    time.sleep(0.1)
  run.end(expect=1)
  assert run.outcomes() == ['killed', 'killed']
  assert len(killed) == 2


def test_a_launcher_that_is_stopped_leaves_the_jobs_running(launch):
  run = launch('--slurm_wait', steps=EVERY)
  wait_for(lambda: run.folder.plan_file.exists() and run.outcomes() == [None])
  run.process.terminate()  # a shell that runs tests beside itself has SIGINT ignored
  said = run.end(expect=143)
  assert 'scancel ' in said
  assert '1 complete' in launch('--resume', '--slurm_wait', steps=EVERY).end()
  assert run.outcomes() == ['complete']  # it was not submitted twice


def two_processes(log_dir, space, framework):
  """The same trial by two processes of this machine, without SLURM."""
  words = [
    f'--workload=digits_{framework}', f'--framework={framework}', f'--log_dir={log_dir}',
    f'--submission_path=baselines/mnist/mnist_{framework}/submission.py', '--device=cpu',
    f'--tuning_search_space={space}', '--max_global_steps=40', '--eval_period_steps=10',
    '--rng_seed=3757552657', '--telemetry=off',
  ]  # fmt: skip
  if framework == 'pytorch':
    launcher = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
    calls = [([*launcher, '-m', 'algorithmic_efficiency.submission_runner'], {})]
  else:
    variables = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{19000 + os.getpid() % 1000}'}
    variables['JAX_NUM_PROCESSES'] = '2'
    calls = [
      (['-m', 'algorithmic_efficiency.submission_runner'], {**variables, 'JAX_PROCESS_ID': str(i)})
      for i in range(2)
    ]
  started = [
    subprocess.Popen([sys.executable, *call, *words], cwd=ROOT, env={**os.environ, **added},
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for call, added in calls
  ]  # fmt: skip
  assert [process.wait(timeout=120) for process in started] == [0] * len(started)
  path = log_dir / f'digits_{framework}' / 'run_1' / 'metrics.jsonl'
  return [json.loads(line)['validation/loss'] for line in path.read_text().splitlines()]


def test_two_nodes_train_one_trial(launch, tmp_path, space):
  given = {'nodes_per_trial': 2, 'frameworks': 'jax,pytorch', 'steps': 40}
  run = launch('--slurm_wait', '--flag=eval_period_steps=10', **given)
  assert '2 complete' in run.end()
  for trial, framework in enumerate(('jax', 'pytorch')):
    record = run.folder.run_root(run.jobs()[trial]) / f'digits_{framework}' / 'metadata.json'
    assert json.loads(record.read_text())['num_processes'] == 2
    expected = two_processes(tmp_path / framework, space, framework)
    assert [row[2] for row in run.losses(trial)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--sbatch=--partition=gpus'], 'there is no partition gpus; sinfo lists them'),
    (['--memory=9000g'], 'no node has'),
    (['--accelerator=cuda', '--devices_per_trial=64'], 'no node has'),
    (['--accelerator=cuda', '--slurm_gres=abacus'], 'has no such gres'),
    (['--sbatch=--colour=red'], 'sbatch has no option --colour=red'),
    (['--slurm_container=apptainer', '--slurm_image=/none.sif'], "image '/none.sif' is not there"),
    (['--slurm_image=a.sif'], '--slurm_container is none'),
    (['--slurm_signal_sec=0'], '--slurm_signal_sec is 0'),
    (['--sbatch=partition'], 'does not begin with -'),
    (['--sbatch=--array=1-3'], '--array is set by the launcher'),
  ],
)
def test_a_wrong_command_is_one_line(launch, flags, said):
  told = launch(*flags).end(expect=2)
  assert told.splitlines()[-1].startswith(('launch: error: ', 'launch.py: error: '))
  assert said in told.splitlines()[-1]
  assert 'Traceback' not in told


@pytest.mark.parametrize('flag', ['--cpus=4096', '--nodes_per_trial=9'])
def test_what_slurm_takes_in_and_never_begins_is_told(launch, flag):
  assert 'will not begin them: the partition has no node' in launch(flag).end()


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--slurm_python=/no/python'], '/no/python is not on'),
    (['--slurm_container=apptainer', '--slurm_image={image}'], 'apptainer is not on'),
  ],
)
def test_a_node_without_what_is_needed_says_so(launch, tmp_path, flags, said):
  image = tmp_path / 'image.sif'
  image.touch()
  if 'apptainer' in said and os.access('/usr/bin/apptainer', os.X_OK):
    pytest.skip('apptainer is here')
  run = launch('--slurm_wait', *(flag.format(image=image) for flag in flags))
  told = run.end(expect=1)
  assert 'not started: ' in told
  assert said in told


def test_a_controller_that_is_away(launch, monkeypatch, tmp_path):
  conf = slurm('scontrol', 'show', 'config')
  nowhere = tmp_path / 'slurm.conf'
  real = next(line for line in conf.splitlines() if line.startswith('SLURM_CONF')).split('=')[1]
  text = Path(real.strip()).read_text()
  lines = [line for line in text.splitlines() if not line.startswith('SlurmctldPort')]
  nowhere.write_text('\n'.join([*lines, 'SlurmctldPort=1', 'MessageTimeout=2']))
  monkeypatch.setenv('SLURM_CONF', str(nowhere))
  told = launch().end(expect=1)
  assert "launch: error: SLURM's controller does not answer" in told
