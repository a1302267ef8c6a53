"""Plans on a Ray cluster of two nodes, which is made here: what runs, what is lost, what is told.

Ray is 285 MB and not in the environment of scripts/test.sh: pip install
"algorithmic-efficiency[ray]", then bash scripts/test.sh tests/launch/test_ray.py. Without it
everything here that needs it is skipped.
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from unittest import mock

import psutil
import pytest
import slowly

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import ray_engine, ray_worker
from algorithmic_efficiency.launch.plan import Algorithm, Plan, Resources
from algorithmic_efficiency.launch.plan_folder import PlanFolder

ROOT = Path(__file__).resolve().parents[2]
LAUNCH = ROOT / 'scripts' / 'launch.py'
PLAN = (
  '--engine=ray', '--workloads=digits', '--frameworks=jax', '--flag=telemetry=off',
  '--submission_path=baselines/mnist/mnist_{framework}/submission.py',
  '--tuning_search_space=baselines/mnist/tuning_search_space.json',
)  # fmt: skip
SHORT = (*PLAN, '--flag=max_global_steps=20')

needs_ray = [
  pytest.mark.ray,
  pytest.mark.skipif(importlib.util.find_spec('ray') is None, reason='Ray is not installed'),
]


class Cluster:
  """Two nodes with a core each; a process keeps them."""

  def __init__(self, folder: Path) -> None:
    with (folder / 'err').open('w') as errors:
      self._keeper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name('ray_cluster.py'))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
      )  # fmt: skip
    self.address = self.ask('')
    if not self.address:
      pytest.skip('no Ray cluster can be started here: ' + (folder / 'err').read_text()[-300:])

  def ask(self, line: str) -> str:
    """Gives an order to the keeper, which answers in a line."""
    assert self._keeper.stdin is not None
    assert self._keeper.stdout is not None
    if line:
      self._keeper.stdin.write(f'{line}\n')
      self._keeper.stdin.flush()
    return self._keeper.stdout.readline().strip()

  def end(self) -> None:
    """Ends all of it."""
    tree = psutil.Process(self._keeper.pid).children(recursive=True)
    self._keeper.communicate(timeout=60)
    for process in psutil.wait_procs(tree, timeout=10)[1]:
      process.kill()


@pytest.fixture(scope='module')
def cluster(tmp_path_factory) -> Generator[Cluster, None, None]:
  made = Cluster(tmp_path_factory.mktemp('ray'))
  yield made
  made.end()


def start(cluster: Cluster | None, log_dir: Path, *words: str) -> subprocess.Popen[str]:
  address = [f'--ray_address={cluster.address}'] if cluster else []
  return subprocess.Popen(
    [sys.executable, str(LAUNCH), f'--log_dir={log_dir}', *address, *words],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip


def long(folder: Path) -> tuple[str, ...]:
  """A plan whose runs last five seconds at least, on whatever machine."""
  path = slowly.write_submission(folder, 'jax', pause_sec=0.005)
  words = ('--flag=data=synthetic', '--flag=max_global_steps=1000', '--flag=eval_period_steps=100')
  return (*PLAN, f'--submission_path={path}', *words)


def end(process: subprocess.Popen[str], code: int) -> tuple[str, str]:
  out, errors = process.communicate(timeout=150)
  assert process.returncode == code, out + errors
  assert 'Traceback' not in errors
  assert 'raylet' not in out + errors
  return out, errors


def wait_for(what: Callable[[], object], seconds: float = 60) -> None:
  until = time.monotonic() + seconds
  while not what():
    assert time.monotonic() < until, 'it did not come about'
    time.sleep(0.05)


def runs(log_dir: Path) -> list[psutil.Process]:
  """The runs of a plan, on whatever node."""
  found = []
  for process in psutil.process_iter(['cmdline']):
    words = process.info['cmdline'] or []
    if any('submission_runner' in w for w in words) and any(str(log_dir) in w for w in words):
      found.append(process)
  return found


def attempts(log_dir: Path) -> dict[str, list[str]]:
  folder = PlanFolder(log_dir)
  return {job.name: [a['outcome'] for a in folder.attempts(job)] for job in folder.load().jobs()}


def rows(log_dir: Path) -> int:
  return sum(path.read_text().count('\n') for path in log_dir.rglob('metrics.jsonl'))


def test_a_plans_resources_are_those_of_rays_tasks():
  wanted = ray_engine.need(Resources('cuda', devices=2, cpus=1.5, memory_bytes=1 << 30))
  assert wanted == {'CPU': 1.5, 'GPU': 2.0, 'memory': float(1 << 30)}
  assert ray_engine.options(wanted) == {
    'num_cpus': 1.5, 'num_gpus': 2.0, 'memory': float(1 << 30), 'max_retries': 0,
  }  # fmt: skip
  hpu = ray_engine.options(ray_engine.need(Resources('hpu', devices=8)))
  assert hpu == {'num_cpus': 1.0, 'resources': {'HPU': 8.0}, 'max_retries': 0}
  nodes = [{'CPU': 8.0, 'GPU': 5.0, 'memory': 3.0 * (1 << 30)}, {'CPU': 64.0}]
  assert ray_engine.room(nodes, wanted) == 2
  assert ray_engine.shown(wanted) == '1.5 CPU, 2 GPU, 1 GiB memory'


def test_dry_run_needs_no_ray_and_starts_nothing(tmp_path):
  words = ('--trials=2', '--dry_run', '--cpus=2')
  out, _ = end(start(None, tmp_path / 'none', *SHORT, *words), 0)
  assert len(out.splitlines()) == 2
  assert '[2 CPU]: python3 -m algorithmic_efficiency.launch.task' in out
  assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
  ('words', 'told'),
  [
    (['--ray_address=here'], 'is no HOST:PORT'),
    (['--ray_timeout_sec=0'], 'not a number of seconds above 0'),
    (['--nodes_per_trial=2'], 'which --engine=ray cannot give'),
  ],
)
def test_wrong_flags_are_told_in_a_line(tmp_path, words, told):
  _, errors = end(start(None, tmp_path, *SHORT, *words, '--dry_run'), 2)
  assert told in errors.splitlines()[-1]


def test_without_ray_its_command_is_named(tmp_path):
  (tmp_path / 'ray.py').write_text('raise ImportError')
  done = subprocess.run(
    [sys.executable, str(LAUNCH), f'--log_dir={tmp_path / "logs"}', *SHORT],
    env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{ROOT}'}, capture_output=True, text=True,
    timeout=60,
  )  # fmt: skip
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'pip install "algorithmic-efficiency[ray]"' in done.stderr


def test_a_node_that_cannot_run_the_plan_says_why(tmp_path):
  def trouble(root: Path, tree: Path = ROOT) -> str:
    return ray_worker.trouble(str(root), 'one', str(tree))

  assert f"does not see the plan at '{tmp_path}/plan.json' (No such file" in trouble(tmp_path)
  (tmp_path / 'plan.json').write_text('{"id": "two"}')
  assert 'has another plan' in trouble(tmp_path)
  (tmp_path / 'plan.json').write_text('{"id":')
  assert 'it is no plan' in trouble(tmp_path)
  (tmp_path / 'plan.json').write_text('{"id": "one"}')
  assert trouble(tmp_path) == ''


def test_a_node_that_cannot_run_the_plan_ends_it(tmp_path):
  """Else it would take all jobs, since it fails them so quickly."""
  answer = {'host': 'far', 'ray_node': '1', 'code': 1, 'trouble': 'the node far sees no plan'}
  ray = mock.Mock()
  ray.get.return_value = answer
  for name in ('TaskCancelledError', 'OutOfMemoryError', 'NodeDiedError', 'WorkerCrashedError',
               'LocalRayletDiedError', 'RayError'):  # fmt: skip
    setattr(ray.exceptions, name, type(name, (Exception,), {}))
  plan = Plan('one', (Algorithm('a', 'a.py'),), ('digits',), ('jax',))
  engine = ray_engine.Ray(ray, plan, PlanFolder(tmp_path), 1.0)
  task = ray_engine.RayTask(engine, mock.Mock(), 0)
  with pytest.raises(UsageError, match='the node far sees no plan'):
    engine.outcome(task)
  answer['trouble'] = ''
  assert engine.outcome(task).code == 1
  assert task.facts['host'] == 'far'
  ray.get.side_effect = ray.exceptions.OutOfMemoryError
  assert engine.outcome(task).out_of_memory


class TestOnACluster:
  """All that needs one."""

  pytestmark = needs_ray

  def test_nobody_at_the_address_and_no_cluster_are_told(self, tmp_path):
    with socket.socket() as taken:
      taken.bind(('127.0.0.1', 0))
      port = taken.getsockname()[1]
      words = (f'--ray_address=127.0.0.1:{port}', *SHORT)
      _, errors = end(start(None, tmp_path / 'logs', *words), 2)
    assert errors.count('\n') == 1
    assert f'No Ray cluster answers at 127.0.0.1:{port} (Connection refused)' in errors

  def test_four_trials_on_two_nodes_and_a_worker_that_is_killed(self, tmp_path, cluster):
    launcher = start(cluster, tmp_path, *long(tmp_path), '--trials=4', '--retries=1')
    wait_for(lambda: rows(tmp_path) >= 2 and len(runs(tmp_path)) == 2)
    run = runs(tmp_path)[0]
    worker = psutil.Process(run.ppid()).parent()
    assert worker is not None
    assert 'ray::' in ''.join(worker.cmdline())
    worker.kill()
    wait_for(lambda: not run.is_running(), 20)  # a run does not outlive its worker
    out, _ = end(launcher, 0)
    assert '4 trials, 0 ended before, 2 at a time' in out
    assert 'killed: the Ray worker that it ran in was killed; it is tried again' in out
    assert '[4/4]' in out
    assert out.splitlines()[-1] == '4 complete'
    assert sorted(attempts(tmp_path).values()) == [['complete']] * 3 + [['killed', 'complete']]
    files = [json.loads(path.read_text()) for path in (tmp_path / 'jobs').glob('*.json')]
    assert len({file['attempts'][-1]['ray_node'] for file in files}) == 2
    out, _ = end(start(cluster, tmp_path, '--engine=ray', '--resume'), 0)
    assert '4 had ended before' in out

  def test_what_no_node_has_is_refused(self, tmp_path, cluster):
    words = ('--accelerator=cuda', '--devices_per_trial=4')
    _, errors = end(start(cluster, tmp_path / 'a', *SHORT, *words), 2)
    assert errors.count('\n') == 1
    assert 'needs 1 CPU, 4 GPU, and no node of the Ray cluster has that' in errors
    assert 'the largest has 1 CPU, 0 GPU' in errors

  def test_a_stop_saves_and_resume_goes_on(self, tmp_path, cluster):
    launcher = start(cluster, tmp_path, *long(tmp_path), '--trials=2')
    wait_for(lambda: rows(tmp_path) >= 2 and len(runs(tmp_path)) == 2)
    launcher.terminate()  # not SIGINT, which who runs tests in the background has ignored
    out, errors = end(launcher, 143)
    assert not runs(tmp_path)
    assert errors.count('\n') == 1
    assert '2 stopped' in out
    assert list(attempts(tmp_path).values()) == [['stopped']] * 2
    saved = [path.read_text() for path in (tmp_path / 'jobs').glob('slowly*.log')]
    assert all(text.rstrip().endswith('its checkpoint is of that moment') for text in saved)
    out, _ = end(start(cluster, tmp_path, '--engine=ray', '--resume'), 0)
    assert out.splitlines()[-1] == '2 complete'
    assert list(attempts(tmp_path).values()) == [['stopped', 'complete']] * 2

  def test_a_cluster_without_room_is_waited_for_only_so_long(self, tmp_path, cluster):
    first = start(cluster, tmp_path / '1', *long(tmp_path), '--trials=2')
    wait_for(lambda: len(runs(tmp_path / '1')) == 2)
    stuck = runs(tmp_path / '1')
    for run in stuck:
      run.suspend()  # they neither end nor save themselves
    second = start(cluster, tmp_path / '2', *SHORT, '--ray_timeout_sec=2')
    _, errors = end(second, 1)
    assert 'had 1 CPU free for 2 s' in errors
    assert errors.count('\n') == 1
    first.send_signal(signal.SIGTERM)
    time.sleep(1.0)
    first.send_signal(signal.SIGTERM)  # the second does not wait
    before = time.monotonic()
    end(first, 143)
    assert time.monotonic() - before < 15
    for run in stuck:
      run.kill()

  def test_a_node_that_is_lost_costs_attempts_and_no_trial(self, tmp_path, cluster):
    launcher = start(cluster, tmp_path, *long(tmp_path), '--trials=2', '--retries=2')
    wait_for(lambda: rows(tmp_path) >= 2 and len(runs(tmp_path)) == 2)
    assert cluster.ask('remove') == 'removed'
    out, _ = end(launcher, 0)
    assert 'is tried again' in out
    assert out.splitlines()[-1] == '2 complete'
    assert sorted(map(len, attempts(tmp_path).values())) == [1, 2]

  def test_a_cluster_that_is_gone_is_told(self, tmp_path, cluster):
    launcher = start(cluster, tmp_path, *long(tmp_path), '--trials=2', '--retries=1')
    wait_for(lambda: rows(tmp_path) >= 1)
    cluster.ask('end')
    _, errors = end(launcher, 1)
    assert errors.count('\n') == 1
    assert 'go on with --resume' in errors
    wait_for(lambda: not runs(tmp_path), 20)
