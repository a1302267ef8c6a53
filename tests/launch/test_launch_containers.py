"""What a container is given, and what an engine's errors mean; without an engine."""

import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import containers
from algorithmic_efficiency.launch.command import ROOT
from algorithmic_efficiency.launch.plan import Algorithm, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

INSIDE = 'baselines/mnist/mnist_jax/submission.py'


def make(submission, log_dir, space=None, data_dir=None):
  algorithm = Algorithm('a', str(submission), None if space is None else str(space))
  data_dir = None if data_dir is None else str(data_dir)
  plan = Plan('p', (algorithm,), ('digits',), ('jax',), images={'jax': 'i'}, data_dir=data_dir)
  return plan, plan.jobs()[0], PlanFolder(log_dir)


def test_a_baseline_of_the_image_needs_no_mount_but_the_logs(tmp_path):
  assert containers.mounts(*make(INSIDE, tmp_path)) == ((str(tmp_path), True),)


def test_submission_space_and_data_are_read_only_and_folders_within_others_left_out(tmp_path):
  for name in ('mine', 'data', 'logs', 'mine/spaces'):
    (tmp_path / name).mkdir()
  submission, space = tmp_path / 'mine' / 'sub.py', tmp_path / 'mine' / 'spaces' / 's.json'
  submission.touch()
  made = make(submission, tmp_path / 'logs', space, tmp_path / 'data')
  places = (('data', False), ('mine', False), ('logs', True))
  assert containers.mounts(*made) == tuple((str(tmp_path / n), writable) for n, writable in places)
  container = containers.of_job(*made[:1], made[2], made[1], Slot(0), 1)
  assert f'--mount=type=bind,source={tmp_path / "data"},target={tmp_path / "data"},readonly' in (
    shlex.split(container.line())
  )


def test_a_submission_in_a_checkout_comes_with_it(tmp_path):
  (tmp_path / 'repo' / '.git').mkdir(parents=True)
  folder = tmp_path / 'repo' / 'submissions' / 'mine'
  folder.mkdir(parents=True)
  (folder / 'submission.py').touch()
  mounted = containers.mounts(*make(folder / 'submission.py', tmp_path / 'logs'))
  assert mounted[0] == (str(tmp_path / 'repo'), False)


def test_data_that_is_not_there_is_not_mounted(tmp_path):
  made = make(INSIDE, tmp_path, data_dir=tmp_path / 'nowhere')
  assert containers.mounts(*made) == ((str(tmp_path), True),)


@pytest.mark.parametrize('folder', ['/', '/usr', '/tmp', containers.SOURCE])
def test_what_would_hide_a_containers_own_folders_is_refused(folder):
  with pytest.raises(UsageError, match='would hide its own'):
    containers.mounts(*make(INSIDE, Path(folder)))


def test_a_word_with_spaces_survives_the_line(tmp_path):
  logs = tmp_path / 'my logs'
  logs.mkdir()
  made = make(INSIDE, logs)
  words = shlex.split(containers.of_job(made[0], made[2], made[1], Slot(0), 1).line())
  assert f'--log_dir={logs}/a/study_1' in words


# What engines 20.10 and 26.1 really said.
SAID = [
  (
    'could not select device driver "" with capabilities: [[gpu]]',
    'install the NVIDIA Container Toolkit',
  ),
  ('Unknown runtime specified habana', 'the engine has no runtime habana;'),
  ('unknown or invalid runtime name: habana', 'the engine has no runtime habana;'),
  (
    'failed to create shim: OCI runtime create failed: container_linux.go:380: starting container '
    'process caused: process_linux.go:545: container init caused: Running hook #0:: error running '
    'hook: exit status 1, stdout: , stderr: nvidia-container-cli: initialization error: nvml '
    'error: driver not loaded: unknown',
    "says 'initialization error: nvml error: driver not loaded'",
  ),
  (
    'stderr: nvidia-container-cli: device error: GPU-12: unknown device: unknown',
    'the engine knows no device GPU-12;',
  ),
  (
    'CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7',
    'the engine knows no device nvidia.com/gpu=7;',
  ),
  (
    'Conflict. The container name "/x-1" is already in use by container "0a". You have to remove '
    '(or rename) that container to be able to reuse that name.',
    'a container named x-1 is there that is not of this plan',
  ),
  ('Bind for 0.0.0.0:80 failed: port is already allocated', 'a port that the container wants'),
  ('network nowhere not found', 'the engine has no network nowhere'),
  (
    'invalid mount config: bind source path does not exist: /x/y',
    '/x/y is not there for the engine',
  ),
  ('write /var/x: no space left on device', 'the disk of the engine is full'),
  ('Minimum memory limit allowed is 6MB', 'the engine allows no memory limit below 6MB'),
  (
    'Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available',
    'the engine has CPUs for --cpus from 0.01 to 2.00',
  ),
  ('something quite new\n happened', "the engine says 'something quite new happened'"),
]


@pytest.mark.parametrize('said, meaning', SAID)
def test_what_an_engine_says_is_put_into_words_that_help(said, meaning):
  errors = pytest.importorskip('docker.errors', reason='the docker package is not installed')
  from algorithmic_efficiency.launch.docker_errors import explain, is_lost

  error = errors.APIError('500 Server Error', explanation=said)
  assert meaning in explain(error)
  assert not explain(error).endswith('.')
  assert not is_lost(error)


LAUNCH = [
  sys.executable, str(ROOT / 'scripts' / 'launch.py'), '--workloads=digits', '--frameworks=jax',
  f'--submission_path={INSIDE}',
  '--tuning_search_space=baselines/mnist/tuning_search_space.json',
]  # fmt: skip


def launch(log_dir, host, **how):
  return subprocess.run(
    [*LAUNCH, f'--log_dir={log_dir}'], cwd=ROOT, env={**os.environ, 'DOCKER_HOST': host},
    capture_output=True, text=True, check=False, **how,
  )  # fmt: skip


def test_an_engine_that_is_not_there_or_not_for_you_is_told_in_a_line(tmp_path):
  pytest.importorskip('docker.errors', reason='the docker package is not installed')
  with socket.socket(socket.AF_UNIX) as listener:
    closed, private = tmp_path / 'closed', tmp_path / 'private'
    listener.bind(str(closed))
    cases = {
      f'unix://{tmp_path}/none': 'there is no such socket',
      f'unix://{closed}': 'nobody listens',
    }
    for host, words in cases.items():
      out = launch(tmp_path / 'logs', host)
      assert (out.returncode, out.stderr.count('\n')) == (2, 1), out.stderr
      assert words in out.stderr
      assert 'or use another --engine' in out.stderr
    assert not private.exists()


def test_a_socket_of_others_is_told_in_a_line(tmp_path):
  pytest.importorskip('docker.errors', reason='the docker package is not installed')
  if os.geteuid() != 0:
    pytest.skip('only root can become somebody else')
  for folder in (Path(sys.executable).resolve(), ROOT / 'scripts'):
    if any(not part.stat().st_mode & 0o001 for part in (folder, *folder.parents)):
      pytest.skip(f'only its owner may use {folder}')
  for folder in tmp_path.parents:
    if not folder.stat().st_mode & 0o001:
      folder.chmod(0o755)
  tmp_path.chmod(0o777)
  with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(str(tmp_path / 'private'))
    listener.listen()
    (tmp_path / 'private').chmod(0o600)
    out = launch(tmp_path / 'logs', f'unix://{tmp_path}/private', user=65534)
  assert (out.returncode, out.stderr.count('\n')) == (2, 1), out.stderr
  assert 'You may not use the Docker engine' in out.stderr
