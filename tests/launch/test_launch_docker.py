"""Plans in containers of a real Docker engine: ends, limits, devices, and what goes wrong.

Most use a small image whose runner does what the test says; the last ones train, in the project's
own image. `scripts/containers/with_engine.sh` brings an engine where there is none.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import slowly

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import containers, on_docker, progress
from algorithmic_efficiency.launch.command import ROOT
from algorithmic_efficiency.launch.dispatch import Dispatcher
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
BASE = os.environ.get('ALGORITHMIC_EFFICIENCY_TEST_BASE', 'python:3.11-slim')
IMAGE = os.environ.get('ALGORITHMIC_EFFICIENCY_TEST_IMAGE', 'algorithmic_efficiency:cpu')
SMALL = 'algorithmic_efficiency_test:stand_in'
DOCKERFILE = f"""
FROM {BASE}
COPY stand_in_runner.py /
ENTRYPOINT ["python3", "-S", "/stand_in_runner.py"]
"""


@pytest.fixture(scope='module')
def client():
  pytest.importorskip('docker.errors', reason='the docker package is not installed')
  import docker

  try:
    client = docker.from_env()
    client.ping()
  except docker.errors.DockerException as error:
    pytest.skip(f'no Docker engine answers: {error}')
  yield client
  client.close()


@pytest.fixture(scope='module')
def small_image(client, tmp_path_factory):
  context = tmp_path_factory.mktemp('context')
  shutil.copy(Path(__file__).with_name('stand_in_runner.py'), context)
  (context / 'Dockerfile').write_text(DOCKERFILE)
  try:
    client.images.get(BASE)
  except Exception as error:  # noqa: BLE001 (no image, whatever the engine says)
    pytest.skip(f'the engine has no image {BASE}: {error}')
  client.images.build(path=str(context), tag=SMALL, rm=True)
  return SMALL


@pytest.fixture
def nothing_left(client):
  """Fails where a test leaves a container of ours behind."""
  before = {c.id for c in client.containers.list(all=True)}
  yield
  left = [c.name for c in client.containers.list(all=True) if c.id not in before]
  assert not left


@pytest.fixture
def launch(tmp_path, small_image, nothing_left, monkeypatch):
  """Builds a dispatcher for trials that do what `deeds` says."""
  del nothing_left, monkeypatch

  def build(deeds, slots=2, retries=0, during=None, image=small_image, **resources):
    frameworks = ('pytorch',) if resources.get('accelerator') == 'hpu' else ('jax',)
    (tmp_path / 'data').mkdir(exist_ok=True)
    plan = Plan(
      'p', (Algorithm('a', 'baselines/mnist/mnist_jax/submission.py'),), ('digits',), frameworks,
      trials=len(deeds), retries=retries, flags={'deeds': '/'.join(deeds)},
      images=dict.fromkeys(frameworks, image), resources=Resources(**resources),
      data_dir=str(tmp_path / 'data'), id=f'test{os.getpid()}{time.monotonic_ns() % 10**9}',
    )  # fmt: skip
    folder = PlanFolder(tmp_path / 'logs')
    if folder.plan_file.exists():
      plan = folder.load()
    folder.save(plan)
    told = []
    lines = progress.Lines(folder, len(deeds), 0, told.append)

    def tell(dispatcher, event):
      lines(dispatcher, event)
      if during is not None:
        during(dispatcher, event)

    engine = on_docker.Docker(plan, folder)
    engine.prepare()
    places = slots if isinstance(slots, list) else [Slot(index) for index in range(slots)]
    left = [job for job in plan.jobs() if folder.finished(job) is None]
    return Dispatcher(plan, folder, engine, places, tell, left), folder, plan

  return build


def attempts(folder, plan):
  return [[a['outcome'] for a in folder.attempts(job)] for job in plan.jobs()]


def runs(folder, plan):
  return [len((folder.trial(j).path / 'ran').read_text().split()) for j in plan.jobs()]


def test_every_end_is_told_apart(launch):
  dispatcher, folder, plan = launch(['complete', 'fail', 'refuse', 'die', 'vanish'])
  dispatcher.run()
  ends = [['complete'], ['failed'], ['refused'], ['killed'], ['broken']]
  assert attempts(folder, plan) == ends
  refused = folder.attempts(plan.jobs()[2])[0]
  assert refused['reason'] == 'No such thing.'
  assert refused['exit_code'] == 2


def test_out_of_memory_is_told_from_a_kill(launch):
  dispatcher, folder, plan = launch(['eat', 'die'], slots=1, memory_bytes=64 << 20)
  dispatcher.run()
  assert attempts(folder, plan) == [['out of memory'], ['killed']]


def test_a_container_killed_from_outside_is_run_again(launch, client):
  def kill(dispatcher, event):
    if event.kind == 'tick':
      for attempt in dispatcher.running.values():
        waits = folder.trial(attempt.job).path / 'waits'
        if waits.exists():
          waits.unlink()
          client.containers.get(attempt.running.facts['container']).kill()

  dispatcher, folder, plan = launch(['wait,complete', 'complete'], retries=1, during=kill)
  dispatcher.run()
  assert attempts(folder, plan) == [['killed', 'complete'], ['complete']]
  assert runs(folder, plan) == [2, 1]


def test_a_container_that_somebody_removes_is_told(launch, client):
  def remove(dispatcher, event):
    if event.kind == 'tick':
      for attempt in dispatcher.running.values():
        if (folder.trial(attempt.job).path / 'waits').exists():
          client.containers.get(attempt.running.facts['container']).remove(force=True)

  dispatcher, folder, plan = launch(['wait'], during=remove)
  dispatcher.run()
  assert attempts(folder, plan) == [['killed']]
  assert 'removed' in folder.attempts(plan.jobs()[0])[0]['reason']


def test_ctrl_c_saves_removes_and_resumes(launch, client):
  def interrupt(dispatcher, event):
    running = [a for a in dispatcher.running.values()
               if (folder.trial(a.job).path / 'waits').exists()]  # fmt: skip
    if event.kind == 'tick' and len(running) == 2:
      raise KeyboardInterrupt

  dispatcher, folder, plan = launch(['wait,complete', 'wait,complete', 'complete'],
                                    during=interrupt)  # fmt: skip
  with pytest.raises(KeyboardInterrupt):
    dispatcher.run()
  assert attempts(folder, plan) == [['stopped'], ['stopped'], []]
  states = [folder.trial(job).read_state() for job in plan.jobs()[:2]]
  assert [state['status'] for state in states] == ['interrupted'] * 2
  again, folder, plan = launch(['wait,complete', 'wait,complete', 'complete'])
  again.run()
  assert attempts(folder, plan) == [['stopped', 'complete']] * 2 + [['complete']]


def test_files_belong_to_the_caller_and_data_is_read_only(launch):
  dispatcher, folder, plan = launch(['write', 'complete'])
  dispatcher.run()
  trial = folder.trial(plan.jobs()[1]).path
  assert (trial / 'trial.json').stat().st_uid == os.getuid()
  assert not list((folder.root.parent / 'data').iterdir())
  assert attempts(folder, plan)[0] == ['broken']
  assert 'Read-only file system' in folder.attempts(plan.jobs()[0])[0]['reason']


def test_limits_and_names_are_the_containers(launch, client):
  seen = {}

  def look(dispatcher, event):
    if event.kind == 'began':
      container = client.containers.get(event.attempt.running.facts['container'])
      seen.update(container.attrs['HostConfig'], labels=container.labels, name=container.name,
                  config=container.attrs['Config'])  # fmt: skip

  slots = [Slot(0, cores=(0,))]
  dispatcher, _, plan = launch(['complete'], slots=slots, during=look, memory_bytes=256 << 20,
                               shm_bytes=96 << 20)  # fmt: skip
  dispatcher.run()
  assert (seen['Memory'], seen['MemorySwap'], seen['ShmSize']) == (256 << 20, 256 << 20, 96 << 20)
  assert seen['CpusetCpus'] == '0'
  assert seen['labels']['algorithmic_efficiency.plan'] == plan.id
  assert seen['name'] == f'algorithmic_efficiency-{plan.id}-{plan.jobs()[0].name}-1'
  assert seen['config']['User'] == f'{os.getuid()}:{os.getgid()}'
  assert seen['config']['Hostname'] == socket.gethostname()
  digest = client.images.get(SMALL).id
  assert f'ALGORITHMIC_EFFICIENCY_IMAGE={SMALL}@{digest}' in seen['config']['Env']


def test_what_a_killed_launcher_left_is_removed_and_others_are_not(launch, client, small_image):
  dispatcher, folder, plan = launch(['wait,complete'])
  job = plan.jobs()[0]
  words = ['--hparam_start_index=0', f'--log_dir={folder.root}', '--workload=x', '--deeds=wait']
  stranger = client.containers.create(small_image, words, labels={'somebody': 'else'})
  left = client.containers.create(small_image, words, detach=True,
                                  labels={f'{containers.LABEL}.plan': plan.id})  # fmt: skip
  left.start()
  try:
    again, folder, plan = launch(['wait,complete'])
    names = {c.id for c in client.containers.list(all=True)}
    assert left.id not in names
    assert stranger.id in names
    del again, job, dispatcher
  finally:
    stranger.remove(force=True)


def test_a_name_that_is_taken_is_told_and_left_alone(launch, client, small_image):
  dispatcher, _, plan = launch(['complete'])
  name = f'algorithmic_efficiency-{plan.id}-{plan.jobs()[0].name}-1'
  stranger = client.containers.create(small_image, name=name)
  try:
    with pytest.raises(UsageError, match='that is not of this plan; remove or rename it'):
      dispatcher.run()
    stranger.reload()
  finally:
    stranger.remove(force=True)


def test_gpus_are_asked_for_by_uuid(launch, client):
  seen = {}

  def look(dispatcher, event):
    if event.kind == 'began':
      container = client.containers.get(event.attempt.running.facts['container'])
      seen.update(container.attrs['HostConfig'])

  dispatcher, folder, plan = launch(['complete'], accelerator='cuda', during=look,
                                    slots=[Slot(0, devices=('GPU-0f', 'GPU-1e'))])  # fmt: skip
  try:
    dispatcher.run()
  except UsageError as error:
    assert 'install the NVIDIA Container Toolkit' in str(error)
  else:
    request = seen['DeviceRequests'][0]
    assert request['DeviceIDs'] == ['GPU-0f', 'GPU-1e']
    assert request['Capabilities'] == [['gpu']]
    assert attempts(folder, plan) == [['complete']]


def test_gaudis_are_given_by_module_through_their_runtime(launch, client):
  slots = [Slot(0, devices=('2', '5'))]
  seen = {}

  def look(dispatcher, event):
    if event.kind == 'began':
      container = client.containers.get(event.attempt.running.facts['container'])
      seen['nodes'] = container.exec_run(['ls', '/dev/accel']).output.decode().split()
      seen['words'] = container.attrs['Args']
      container.kill()

  dispatcher, _, _ = launch(['wait'], accelerator='hpu', slots=slots, during=look)
  if 'habana' not in client.info()['Runtimes']:
    with pytest.raises(UsageError, match='the engine has no runtime habana'):
      dispatcher.run()
    pytest.skip('the engine has no runtime habana, which it said')
  dispatcher.run()
  assert seen['nodes'] == ['accel2', 'accel5']


def test_a_runtime_that_is_not_there_is_told(launch, client, monkeypatch):
  of_job = containers.of_job

  def elsewhere(*given):
    import dataclasses

    return dataclasses.replace(of_job(*given), runtime='nowhere')

  monkeypatch.setattr(containers, 'of_job', elsewhere)
  dispatcher, _, _ = launch(['complete'])
  with pytest.raises(UsageError, match='the engine has no runtime nowhere; install'):
    dispatcher.run()


def test_a_network_that_is_not_there_is_told(launch):
  dispatcher, _, _ = launch(['complete'])
  dispatcher._engine._network = 'nowhere'
  with pytest.raises(UsageError, match='the engine has no network nowhere; docker network ls'):
    dispatcher.run()


def test_an_image_that_is_not_there_is_told(launch):
  with pytest.raises(UsageError, match=r'has no image .*; build it with bash docker/build.sh cpu'):
    launch(['complete'], image='nowhere:none')


SCRIPT = ROOT / 'scripts' / 'launch.py'


def command(*arguments):
  return [sys.executable, str(SCRIPT), *map(str, arguments)]


@pytest.fixture
def own_image(client):
  try:
    client.images.get(IMAGE)
  except Exception as error:  # noqa: BLE001 (no image, whatever the engine says)
    pytest.skip(f'the engine has no image {IMAGE}: {error}')
  return IMAGE


def digits(logs, image, **more):
  flags = {
    'log_dir': logs, 'image': image, 'workloads': 'digits', 'frameworks': 'jax,pytorch',
    'submission_path': 'baselines/mnist/mnist_{framework}/submission.py', 'trials': 1, 'slots': 2,
    'tuning_search_space': 'baselines/mnist/tuning_search_space.json', 'seed': 3, **more,
  }  # fmt: skip
  return [f'--{name}={value}' for name, value in flags.items()]


def pausing(folder):
  """The path of submissions whose runs last long enough to be killed, for either framework."""
  for framework in ('jax', 'pytorch'):
    slowly.write_submission(folder, framework)
  return folder / 'slowly_{framework}' / 'submission.py'


def test_digits_are_trained_in_both_frameworks_killed_and_gone_on_with(
  tmp_path, own_image, client, nothing_left
):
  """The whole of it: a container is killed, tried again, and the numbers are those of no kill."""
  steps = ['--flag=max_global_steps=60', '--flag=eval_period_steps=20', '--retries=1']
  logs = tmp_path / 'logs'
  path = pausing(tmp_path)
  launcher = subprocess.Popen(
    command(*digits(logs, own_image, submission_path=path), *steps), cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip
  first = logs / 'slowly' / 'study_1' / 'digits_jax' / 'run_1' / 'metrics.jsonl'
  killer = threading.Thread(target=_kill_when, args=(client, first, 'digits_jax'))
  killer.start()
  out, _ = launcher.communicate(timeout=200)
  killer.join()
  assert launcher.returncode == 0, out
  files = [path for path in logs.rglob('*') if path.is_file()]
  assert {path.stat().st_uid for path in files} == {os.getuid()}
  outcomes = [
    [a['outcome'] for a in json.loads(path.read_text())['attempts']]
    for path in sorted((logs / 'jobs').glob('*.json'))
  ]
  assert outcomes == [['killed', 'complete'], ['complete']]
  plain = subprocess.run(
    command(
      *digits(tmp_path / 'plain', own_image, frameworks='jax', submission_path=path), *steps
    ), cwd=ROOT,
    capture_output=True, text=True, timeout=200, check=True,
  )  # fmt: skip
  assert '1 complete' in plain.stdout
  losses = [
    [json.loads(line)['validation/loss'] for line in path.read_text().splitlines()]
    for path in (first, tmp_path / 'plain' / 'slowly/study_1/digits_jax/run_1/metrics.jsonl')
  ]
  assert losses[0] == losses[1]


def _kill_when(client, path, name):
  until = time.monotonic() + 120
  while time.monotonic() < until:
    if path.exists() and path.stat().st_size > 0:
      for container in client.containers.list():
        if name in container.name:
          container.kill()
          return
    time.sleep(0.01)


def test_sigterm_stops_the_launcher_its_containers_and_resume_ends_the_plan(
  tmp_path, own_image, nothing_left
):
  logs = tmp_path / 'logs'
  flags = digits(logs, own_image, frameworks='jax', submission_path=pausing(tmp_path))
  launcher = subprocess.Popen(
    command(*flags, '--flag=max_global_steps=20000', '--flag=eval_period_steps=10'), cwd=ROOT,
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  row = logs / 'slowly' / 'study_1' / 'digits_jax' / 'run_1' / 'metrics.jsonl'
  until = time.monotonic() + 120
  while time.monotonic() < until and not row.exists():
    time.sleep(0.05)
  launcher.send_signal(signal.SIGTERM)
  out, errors = launcher.communicate(timeout=60)
  assert launcher.returncode == 143, errors
  assert errors.splitlines()[-1] == 'launch: stopped; --resume goes on with it.'
  assert '1 stopped' in out
  slowly.let_go(tmp_path)
  again = subprocess.run(
    command(f'--log_dir={logs}', '--resume', '--slots=1'), cwd=ROOT, capture_output=True, text=True,
    timeout=120, check=False,
  )  # fmt: skip
  assert again.returncode == 0, again.stderr
  assert '1 complete' in again.stdout
