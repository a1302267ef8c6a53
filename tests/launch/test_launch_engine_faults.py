"""What becomes of a plan when its engine dies or cannot give GPUs, or the disk is full.

The engine is of these tests alone (scripts/containers/engine.sh), since they kill it.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import on_docker
from algorithmic_efficiency.launch.command import ROOT
from algorithmic_efficiency.launch.dispatch import Dispatcher
from algorithmic_efficiency.launch.engine import EngineLost
from algorithmic_efficiency.launch.plan import Algorithm, Plan, Resources
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

pytestmark = [
  pytest.mark.docker,
  # The SDK leaves the closing of its sockets to the garbage collector.
  pytest.mark.filterwarnings(
    'ignore:Exception ignored in.*socket:pytest.PytestUnraisableExceptionWarning'
  ),
]  # fmt: skip
ENGINE = ROOT / 'scripts' / 'containers' / 'engine.sh'
IMAGE = 'stand_in:test'


def engine(verb, folder, **environment):
  return subprocess.run(
    ['bash', str(ENGINE), verb, str(folder)], env={**os.environ, **environment},
    capture_output=True, text=True, check=False, timeout=220,
  )  # fmt: skip


@pytest.fixture(scope='module')
def place():
  """The folder of an engine that has no GPUs and the small image."""
  pytest.importorskip('docker.errors', reason='the docker package is not installed')
  from docker.client import DockerClient

  folder = Path(tempfile.mkdtemp(dir='/tmp', prefix='e'))
  started = engine('start', folder, NVIDIA_HOOK='none')
  if started.returncode == 77:
    pytest.skip(started.stderr.strip().splitlines()[-1])
  assert started.returncode == 0, started.stderr
  try:
    client = DockerClient(base_url=f'unix://{folder}/docker.sock')
    context = folder / 'context'
    context.mkdir()
    shutil.copy(Path(__file__).with_name('stand_in_runner.py'), context)
    (context / 'Dockerfile').write_text(
      'FROM python:3.11-slim\nCOPY stand_in_runner.py /\n'
      'ENTRYPOINT ["python3", "-S", "/stand_in_runner.py"]\n'
    )
    client.images.build(path=str(context), tag=IMAGE, rm=True)
    client.close()
    yield folder
  finally:
    stopped = engine('stop', folder)
    assert stopped.returncode == 0, stopped.stderr


def prepare(engine_folder, logs, deeds, slots=2, tell=lambda *_: None, **resources):
  plan = Plan('p', (Algorithm('a', 'b'),), ('digits',), ('jax',), trials=len(deeds),
              flags={'deeds': '/'.join(deeds)}, images={'jax': IMAGE},
              resources=Resources(**resources))  # fmt: skip
  folder = PlanFolder(logs)
  if folder.plan_file.exists():
    plan = folder.load()
  folder.save(plan)
  docker = on_docker.Docker(plan, folder, address=f'unix://{engine_folder}/docker.sock')
  docker.prepare()
  places = slots if isinstance(slots, list) else [Slot(index) for index in range(slots)]
  left = [job for job in plan.jobs() if folder.finished(job) is None]
  return Dispatcher(plan, folder, docker, places, tell, left), folder, plan


def waiting(dispatcher, folder):
  return [a for a in dispatcher.running.values() if (folder.trial(a.job).path / 'waits').exists()]


def containers_of(engine_folder):
  out = subprocess.run(
    ['docker', '--host', f'unix://{engine_folder}/docker.sock', 'ps', '--all', '--quiet'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return out.stdout.split()


def test_an_engine_that_dies_is_told_and_resume_goes_on(tmp_path, place):
  def kill(dispatcher, event):
    pid = place / 'dockerd.pid'
    if event.kind == 'tick' and pid.exists() and len(waiting(dispatcher, folder)) == 2:
      os.kill(int(pid.read_text()), signal.SIGKILL)
      pid.unlink()

  dispatcher, folder, plan = prepare(
    place, tmp_path / 'logs', ['wait,complete', 'wait,complete', 'complete'], tell=kill
  )
  with pytest.raises(EngineLost, match=r'went away: .*; start it again, then go on with'):
    dispatcher.run()
  outcomes = [[a['outcome'] for a in folder.attempts(job)] for job in plan.jobs()]
  assert outcomes == [['lost'], ['lost'], []]
  _wait_for_the_end(place / 'exec' / 'containerd' / 'containerd.pid')
  started = engine('start', place, NVIDIA_HOOK='none')
  assert started.returncode == 0, started.stderr
  again, folder, plan = prepare(place, tmp_path / 'logs', [])
  again.run()
  outcomes = [[a['outcome'] for a in folder.attempts(job)] for job in plan.jobs()]
  assert outcomes == [['lost', 'complete'], ['lost', 'complete'], ['complete']]
  assert not containers_of(place)


def _wait_for_the_end(pid_file):
  """Of the engine's other half, which a new one would take for alive."""
  try:
    pid = int(pid_file.read_text())
  except FileNotFoundError:
    return
  until = time.monotonic() + 60
  while time.monotonic() < until:
    try:
      if Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z':
        break
    except FileNotFoundError:
      break
    time.sleep(0.1)
  pid_file.unlink(missing_ok=True)


def test_a_full_disk_ends_the_plan_and_leaves_no_container(tmp_path, place):
  if os.geteuid() != 0:
    pytest.skip('only root can mount a small disk')
  logs = tmp_path / 'logs'
  logs.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', str(logs)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip('no disk can be mounted here')
  try:

    def fill(dispatcher, event):
      if event.kind == 'tick' and waiting(dispatcher, folder) and not (logs / 'filler').exists():
        with pytest.raises(OSError, match='No space left'):
          (logs / 'filler').write_bytes(b'x' * (1 << 20))
        raise KeyboardInterrupt

    dispatcher, folder, _ = prepare(place, logs, ['wait', 'wait'], tell=fill)
    with pytest.raises(MeasurementError, match=r'cannot be written to \(No space left on device\)'):
      dispatcher.run()
    assert not containers_of(place)
  finally:
    subprocess.run(['umount', str(logs)], check=True)


def test_gpus_that_cannot_be_given_are_told_and_no_container_is_left(tmp_path, place):
  dispatcher, folder, plan = prepare(
    place, tmp_path / 'logs', ['complete'], [Slot(0, devices=('0',))], accelerator='cuda'
  )
  with pytest.raises(UsageError, match='has no NVIDIA runtime, so it cannot give GPUs; install'):
    dispatcher.run()
  assert not folder.attempts(plan.jobs()[0])
  assert not containers_of(place)
