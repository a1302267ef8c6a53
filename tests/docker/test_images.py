"""The image: how it starts, stops and answers; whose files are whose; what it says of itself.

It is built before: `bash scripts/containers/build_image.sh cpu`. ALGORITHMIC_EFFICIENCY_TEST_IMAGE
names another than algorithmic_efficiency:cpu.
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import slowly

pytestmark = pytest.mark.docker

IMAGE = os.environ.get('ALGORITHMIC_EFFICIENCY_TEST_IMAGE', 'algorithmic_efficiency:cpu')
SOURCE = '/opt/algorithmic_efficiency'
STRANGER = '54321:54322'  # a user whom no image knows


def docker(*arguments, timeout=120):
  return subprocess.run(['docker', *arguments], capture_output=True, text=True, timeout=timeout)


def run(*arguments, options=()):
  """The image's answer to these arguments, in a container that is gone afterwards."""
  return docker('run', '--rm', '--network=none', *options, IMAGE, *arguments)


def output(*arguments, options=()):
  done = run(*arguments, options=options)
  assert done.returncode == 0, done.stderr
  return done.stdout


@pytest.fixture(autouse=True, scope='module')
def _there_is_an_engine_and_the_image():
  if shutil.which('docker') is None:
    pytest.skip('docker is not installed')
  if docker('version').returncode:
    pytest.skip('no Docker engine answers')
  if docker('image', 'inspect', IMAGE).returncode:
    pytest.skip(f'there is no image {IMAGE}')


@pytest.fixture(scope='module')
def config():
  return json.loads(docker('image', 'inspect', '--format', '{{json .Config}}', IMAGE).stdout)


@pytest.fixture(scope='module')
def environment(config):
  return dict(entry.split('=', 1) for entry in config['Env'])


@pytest.fixture(scope='module')
def frameworks(config):
  return config['Labels']['algorithmic_efficiency.frameworks'].split(',')


@pytest.fixture
def shared(tmp_path):
  """A folder that anybody may write to, and that containers see as /shared."""
  folder = tmp_path / 'shared'
  folder.mkdir()
  folder.chmod(0o777)
  return folder


@pytest.fixture
def started(shared):
  """Starts containers in the background, and removes them."""
  names = []

  def start(*arguments, options=()):
    mount = f'--volume={shared}:/shared'
    done = docker('run', '--detach', '--network=none', mount, *options, IMAGE, *arguments)
    assert done.returncode == 0, done.stderr
    names.append(done.stdout.strip())
    return names[-1]

  yield start
  for name in names:
    docker('rm', '--force', name)


def training(framework, *flags):
  baseline = f'baselines/mnist/mnist_{framework}'
  return [
    f'--framework={framework}',
    f'--workload=digits_{framework}',
    f'--submission_path={baseline}/submission.py',
    '--tuning_search_space=baselines/mnist/tuning_search_space.json',
    '--num_tuning_trials=1',
    '--rng_seed=0',
    '--log_dir=/shared/logs with spaces',
    *flags,
  ]


def wait_for(container, text, limit_sec=90):
  until = time.monotonic() + limit_sec
  while time.monotonic() < until:
    said = docker('logs', container)
    if text in said.stdout + said.stderr:
      return
    time.sleep(0.2)
  raise AssertionError(f'{text!r} was not said in {limit_sec} s: {said.stdout}{said.stderr}')


def stop(container):
  """The exit code after `docker stop`, and everything that was said."""
  docker('stop', '--time=60', container)
  code = int(docker('wait', container).stdout)
  said = docker('logs', container)
  return code, said.stdout + said.stderr


# How it starts.


def test_without_arguments_the_command_says_what_it_needs():
  done = run()
  assert done.returncode == 2
  assert 'Missing: --workload' in done.stderr


def test_flags_go_to_the_command():
  assert '--tuning_search_space' in output('--helpshort')
  done = run('--no such flag')
  assert done.returncode == 2
  assert '--no such flag' in done.stderr


def test_any_other_command_is_run_as_it_is():
  words = ['a b', '', '$HOME', '*', '--flag=x y', 'ü']
  said = output('python3', '-c', 'import sys; print(sys.argv[1:])', *words)
  assert said.strip() == repr(words)
  assert run('sh', '-c', 'exit 7').returncode == 7
  assert run('no_such_command').returncode == 127


@pytest.mark.parametrize('suffix', ['sh', 'py'])
def test_a_script_is_run_with_its_arguments_and_exits_as_it_does(shared, suffix):
  text = {
    'sh': 'printf "%s|" "$@"\nexit 5\n',
    'py': 'import sys\nprint("|".join(sys.argv[1:]), end="|")\nsys.exit(5)\n',
  }[suffix]
  (shared / f'a script.{suffix}').write_text(text)  # not executable: nothing needs it to be
  mount = [f'--volume={shared}:/shared']
  done = run(f'/shared/a script.{suffix}', 'a b', '$HOME', '-x', options=mount)
  assert done.stdout == 'a b|$HOME|-x|'
  assert done.returncode == 5


def test_a_script_of_the_project_is_found_from_every_folder():
  assert 'usage' in output('scripts/watch.py', '--help', options=['--workdir=/tmp'])


def test_a_script_reads_what_is_piped_in(shared):
  (shared / 'read.sh').write_text('read -r line; echo "<$line>"\n')
  command = ['docker', 'run', '--rm', '-i', '--network=none', f'--volume={shared}:/shared', IMAGE]
  done = subprocess.run(
    [*command, '/shared/read.sh'], input='hello\n', capture_output=True, text=True, timeout=60
  )
  assert done.stdout == '<hello>\n'


def test_the_command_and_its_other_name_are_importable_from_everywhere():
  code = 'import algoperf, algorithmic_efficiency; print(algoperf is algorithmic_efficiency)'
  assert output('python3', '-c', code, options=['--workdir=/tmp']) == 'True\n'
  assert '--helpfull' in output('submission_runner', '--help', options=['--workdir=/'])


# Runs, their records and exit codes.


def test_a_run_leaves_a_record_of_the_users_own(config, frameworks, shared):
  options = [f'--user={STRANGER}', f'--volume={shared}:/shared']
  options += ['--env=ALGORITHMIC_EFFICIENCY_IMAGE=bench@sha256:0']
  revision = config['Labels']['org.opencontainers.image.revision']
  for framework in frameworks:
    command = training(framework, '--max_global_steps=5')
    done = run(*command, options=options)
    assert done.returncode == 0, done.stderr
    record = shared / 'logs with spaces' / f'digits_{framework}'
    metadata = json.loads((record / 'metadata.json').read_text())
    assert metadata['container.image'] == 'bench@sha256:0'
    assert metadata.get('git_commit_hash', '') == revision.removesuffix('-dirty')
    assert (record / 'run_1' / 'metrics.csv').is_file()
  owners = {(p.stat().st_uid, p.stat().st_gid) for p in shared.rglob('*')}
  assert owners == {tuple(map(int, STRANGER.split(':')))}


def test_a_run_that_fails_is_1(frameworks, shared):
  framework = frameworks[0]
  code = (
    Path(__file__).parents[2] / f'baselines/mnist/mnist_{framework}/submission.py'
  ).read_text()
  code += '\n\ndef update_params(*args, **kwargs):\n  raise RuntimeError("as meant")\n'
  (shared / 'submission.py').write_text(code)
  flags = ['--submission_path=/shared/submission.py', '--max_global_steps=5']
  done = run(*training(framework, *flags), options=[f'--volume={shared}:/shared'])
  assert done.returncode == 1
  assert 'as meant' in done.stderr + done.stdout


def test_the_example_runs_and_its_table_is_left(frameworks, shared):
  options = [f'--user={os.getuid()}:{os.getgid()}', f'--volume={shared}:/shared']
  options += ['--env=LOG_DIR=/shared', '--env=DATA=embedded', f'--env=FRAMEWORK={frameworks[0]}']
  script = 'experiments/simple_example_mnist_loss/measure_loss.sh'
  assert 'table: /shared/all_metrics.csv' in output(
    script, '--max_global_steps=20', options=options
  )
  assert (shared / 'all_metrics.csv').stat().st_uid == os.getuid()


# How it stops.


def test_a_run_that_is_stopped_is_saved_and_says_75(frameworks, shared, started):
  slowly.write_submission(shared, frameworks[0])
  path = f'--submission_path=/shared/slowly_{frameworks[0]}/submission.py'
  container = started(*training(frameworks[0], path, '--eval_period_steps=10'))
  wait_for(container, 'step')
  code, said = stop(container)
  assert code == 75, said
  assert '--resume' in said


def test_a_run_in_a_script_is_stopped_as_well(frameworks, shared, started):
  options = ['--env=LOG_DIR=/shared', '--env=DATA=embedded', f'--env=FRAMEWORK={frameworks[0]}']
  script = 'experiments/simple_example_mnist_loss/measure_loss.sh'
  slowly.write_submission(shared, frameworks[0])
  path = f'--submission_path=/shared/slowly_{frameworks[0]}/submission.py'
  container = started(script, path, options=options)
  wait_for(container, 'step')
  code, said = stop(container)
  assert code == 75, said
  assert '--resume' in said  # what is said last comes through tee, which must outlive the run


@pytest.mark.parametrize(
  ('script', 'code'),
  [
    ('set -e; echo ready; sleep 100; exit 0', 143),
    ('echo ready; sleep 100; exit 3', 3),
    ('set -eo pipefail; echo ready; sleep 100 | tee /dev/null; exit 0', 143),
    ('trap "exit 9" TERM; echo ready; sleep 100 & wait $!', 9),
    ('trap "" TERM; echo ready; sleep 2; exit 4', 4),
  ],
)
def test_a_script_that_waits_is_stopped_at_once(shared, started, script, code):
  (shared / 'waits.sh').write_text(script)
  container = started('/shared/waits.sh')
  wait_for(container, 'ready')
  before = time.monotonic()
  assert stop(container)[0] == code
  assert time.monotonic() - before < 30


def test_any_other_command_gets_the_signal(started):
  container = started('sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done')
  wait_for(container, 'ready')
  assert stop(container)[0] == 9


def test_the_first_process_reaps_what_others_leave():
  assert output('cat', '/proc/1/comm') == 'tini\n'
  orphan = 'sh -c "sleep 0.2 & exit 0"; sleep 1; cat /proc/[0-9]*/stat | cut -d" " -f3 | grep -c Z'
  assert run('sh', '-c', orphan).stdout == '0\n'


# Who runs, and what may be written.


def test_a_user_of_its_own_is_the_default(config):
  assert config['User'] == '1000:1000'
  assert output('sh', '-c', 'id -u; id -un; echo $HOME; test -w /logs && test -w /data') == (
    '1000\nbench\n/home/bench\n'
  )


def test_a_user_unknown_inside_has_a_name_and_a_home(frameworks):
  code = (
    'import getpass, pathlib, tempfile, matplotlib.pyplot as plt\n'
    'home = pathlib.Path.home()\n'
    '(home / "x").write_text("")\n'
    'plt.plot([1, 2]); plt.savefig(home / "x.png")\n'
    'print(getpass.getuser(), home.parent)\n'
  )
  if 'pytorch' in frameworks:
    code += 'import torch\nassert torch.compile(lambda x: x.sin())(torch.zeros(3)).sum() == 0\n'
  done = run('python3', '-c', code, options=[f'--user={STRANGER}'])
  assert done.stdout == 'uid54321 /tmp\n', done.stderr


def test_with_nothing_to_write_to_it_says_what_to_add():
  options = [f'--user={STRANGER}', '--read-only']
  done = run('--helpshort', options=options)
  assert done.returncode == 2
  assert 'add --tmpfs /tmp' in done.stderr
  assert done.stderr.count('error') == 1
  assert output('--helpshort', options=[*options, '--tmpfs=/tmp'])


@pytest.mark.parametrize('user', ['1000:1000', STRANGER])
def test_the_source_is_roots_and_nobody_elses(user):
  loose = ['find', SOURCE, '/opt/venv', '(', '!', '-user', '0', '-o', '-perm', '/022', ')']
  loose += ['!', '-type', 'l']
  options = [f'--user={user}']
  assert output(*loose, options=options) == ''
  assert run('touch', f'{SOURCE}/algorithmic_efficiency/x', options=options).returncode == 1
  unreadable = ['find', SOURCE, '!', '-readable']
  assert output(*unreadable, options=options) == ''


# What it is made of, and says of itself.


def test_it_holds_nothing_but_what_runs():
  holds = set(output('ls', '-A', SOURCE).split())
  assert holds <= {
    'LICENSE', 'README.md', '__pycache__', 'algoperf.py', 'algorithmic_efficiency', 'baselines',
    'docker', 'experiments', 'pyproject.toml', 'scripts', 'setup.cfg', 'submission_runner.py',
  }  # fmt: skip
  assert output('ls', f'{SOURCE}/docker').split()[-1] == 'requirements.py'
  left = '/build /root/.cache /home/bench/.cache /opt/venv/bin/pip /var/lib/apt/lists/*_*'
  assert output('sh', '-c', f'ls -d {left} 2> /dev/null || true') == ''


def test_everything_is_compiled_already():
  done = run('python3', '-v', '-c', 'import algorithmic_efficiency.submission_runner')
  assert done.returncode == 0
  compiled = [line for line in done.stderr.splitlines() if 'algorithmic_efficiency' in line]
  assert any('matches' in line for line in compiled)
  assert not [line for line in done.stderr.splitlines() if 'could not create' in line]
  assert not [line for line in done.stderr.splitlines() if line.startswith('# wrote')]


def test_what_sees_the_hardware_is_inside(environment, config):
  assert output('python3', '-c', 'import GPUtil, matplotlib, psutil, pynvml, rich, yaml') == ''
  is_cuda = config['Labels']['algorithmic_efficiency.accelerator'] == 'cuda'
  capabilities = environment.get('NVIDIA_DRIVER_CAPABILITIES')
  assert capabilities == ('compute,utility' if is_cuda else None)


def test_labels_tell_what_is_inside(config, frameworks):
  labels = config['Labels']
  assert labels['org.opencontainers.image.title'] == 'algorithmic_efficiency'
  assert labels['org.opencontainers.image.licenses'] == 'Apache-2.0'
  code = 'import algorithmic_efficiency, platform\n'
  code += 'print(algorithmic_efficiency.__version__, platform.python_version(), end=" ")\n'
  module = {'jax': 'jax', 'pytorch': 'torch'}
  for framework in frameworks:
    code += f'import {module[framework]} as m; print(m.__version__, end=" ")\n'
  expected = ['org.opencontainers.image.version', 'algorithmic_efficiency.python']
  expected += [f'algorithmic_efficiency.{module[framework]}' for framework in frameworks]
  assert output('python3', '-c', code).split() == [labels[name] for name in expected]
  absent = {'jax', 'pytorch'} - set(frameworks)
  assert not [name for name in absent if f'algorithmic_efficiency.{module[name]}' in labels]


def test_no_health_is_asked_of_a_run(config):
  assert not config.get('Healthcheck')
