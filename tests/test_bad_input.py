"""Wrong commands: each is refused at once, in one line that can be acted on, with nothing touched.

The commands of wrong_commands.py are given once, two at a time, and a test each looks at what came
of one. No framework can be imported meanwhile, so what is refused is refused before that.
"""

import concurrent.futures
import dataclasses
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from wrong_commands import CASES, SOURCE, Case, record, sub

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.run_folder import RunFolder
from algorithmic_efficiency.submissions import loader


def write(folder: Path, files: dict[str, str]) -> None:
  """Makes the files."""
  for name, text in files.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith('/'):
      path.mkdir()
    else:
      path.write_text(text)


def snapshot(folder: Path) -> dict[str, bytes | None]:
  """Everything below the folder, but for what Python compiled."""
  found = [path for path in folder.rglob('*') if '__pycache__' not in path.parts]
  return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in found}


def lay_out(case: Case, folder: Path) -> None:
  """Makes the files that the case's command names."""
  text = case.space if isinstance(case.space, str) else json.dumps(case.space)
  write(folder, {'space.json': text, **case.files})
  if case.source is not None:
    write(folder, {'submission.py': case.source})


def give(case: Case, folder: Path, poison: Path) -> subprocess.CompletedProcess[str]:
  """Runs the case's command."""
  flags = {
    'workload': 'digits',
    'framework': 'jax',
    'submission_path': '@/submission.py',
    'tuning_search_space': '@/space.json',
    'log_dir': '@/logs',
    'max_global_steps': 2,
    **case.flags,
  }
  arguments = [f'--{n}={v}' for n, v in flags.items() if v is not None]
  arguments = [a.replace('@', str(folder)) for a in (*arguments, *case.more)]
  changes = {name: value.replace('@', str(folder)) for name, value in case.environment.items()}
  environment = {**os.environ, **changes}
  if not case.needs_framework:
    environment['PYTHONPATH'] = f'{poison}{os.pathsep}{environment.get("PYTHONPATH", "")}'
  return subprocess.run(
    [sys.executable, str(ROOT / 'submission_runner.py'), *arguments],
    capture_output=True,
    text=True,
    env=environment,
    timeout=100,
  )


@dataclasses.dataclass
class Seen:
  """What came of a case."""

  done: subprocess.CompletedProcess[str]
  before: dict[str, bytes | None]
  after: dict[str, bytes | None]


@pytest.fixture(scope='module')
def poison(tmp_path_factory) -> Path:
  """A folder whose modules nobody may import."""
  folder = tmp_path_factory.mktemp('poison')
  for module in ('jax', 'flax', 'optax', 'torch', 'scipy'):
    (folder / f'{module}.py').write_text(f'raise AssertionError("{module} was imported")\n')
  return folder


@pytest.fixture(scope='module')
def seen(request, tmp_path_factory, poison) -> dict[str, Seen]:
  """By name, what came of every case that this session asks for."""
  wanted = {
    item.callspec.params['case'].name: item.callspec.params['case']
    for item in request.session.items
    if 'seen' in getattr(item, 'fixturenames', ())
  }

  def see(case: Case) -> Seen:
    folder = tmp_path_factory.mktemp('case')
    lay_out(case, folder)
    before = snapshot(folder)
    return Seen(give(case, folder, poison), before, snapshot(folder))

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return dict(zip(wanted, pool.map(see, wanted.values()), strict=True))


def assert_one_line(stderr: str, *words: str) -> None:
  """stderr is the command's one line, and says all of this."""
  assert stderr.startswith('submission_runner: error: '), stderr
  assert stderr.endswith('\n'), stderr
  assert stderr.count('\n') == 1, stderr
  assert 'Traceback' not in stderr, stderr
  for word in words:
    assert word in stderr, (word, stderr)


@pytest.mark.slow
@pytest.mark.parametrize('case', CASES, ids=lambda case: case.name)
def test_a_wrong_command_is_refused_in_one_line_and_nothing_is_touched(case, seen):
  done = seen[case.name].done
  assert_one_line(done.stderr, *case.words)
  assert done.returncode == 2
  assert case.needs_framework or not done.stdout
  assert seen[case.name].after == seen[case.name].before


def test_a_wrong_command_costs_little(tmp_path, poison):
  case = Case('finished run', (), files=record())  # is found out last before the framework
  lay_out(case, tmp_path)
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  assert_one_line(give(case, tmp_path, poison).stderr, 'holds a finished run')
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def submission(folder: Path, text: str) -> Path:
  """A submission's file."""
  folder.mkdir(exist_ok=True)
  path = folder / 'submission.py'
  path.write_text(text)
  return path


@pytest.mark.parametrize(
  ('body', 'words'),
  [
    ('raise RuntimeError("first\\nsecond")', 'RuntimeError: first (submission.py, line 3)'),
    ('raise ValueError(workload_name)', 'ValueError: digits (submission.py, line 3)'),
    ('raise SystemExit(0)', 'SystemExit: 0 (submission.py, line 3)'),
    ('return 0', 'gave 0, not a whole number above 0'),
    ('return -64', 'gave -64, not'),
    ('return 64.0', 'gave 64.0, not'),
    ('return True', 'gave True, not'),
    ('pass', 'gave None, not'),
  ],
)
def test_a_batch_size_that_is_none(body, words, tmp_path):
  loaded = loader.load(submission(tmp_path, sub('return 64', body)))
  with pytest.raises(UsageError) as caught:
    loader.batch_sizes(loaded, 'digits', 'digits', None)
  assert "get_batch_size('digits')" in str(caught.value)
  assert words in str(caught.value)
  assert '--batch_size=N' in str(caught.value)
  assert '\n' not in str(caught.value)
  assert loader.batch_sizes(loaded, 'digits', 'digits', 32) == (32, None)


def test_a_batch_size_of_numpy_is_one(tmp_path):
  text = 'import numpy as np\n' + sub('return 64', 'return np.int64(64)')
  loaded = loader.load(submission(tmp_path, text))
  assert loader.batch_sizes(loaded, 'digits', 'digits', None) == (64, None)


@pytest.mark.parametrize(
  ('line', 'words'),
  [
    ('raise ValueError("first\\nsecond")', 'cannot be imported: ValueError: first (submission.py'),
    ('raise SystemExit(0)', 'cannot be imported: SystemExit: 0 (submission.py'),
    ('assert not SOURCE', "cannot be imported: NameError: name 'SOURCE' is not defined"),
    ('from .tools import x', "needs the module 'tools'"),
    ('import nowhere.tools', "needs the module 'nowhere'"),
  ],
)
def test_a_submission_that_cannot_be_imported(line, words, tmp_path):
  with pytest.raises(UsageError) as caught:
    loader.load(submission(tmp_path / 'algorithm', f'{SOURCE}\n{line}\n'))
  assert words in str(caught.value).replace('algorithm.tools', 'tools')
  assert f'line {SOURCE.count(chr(10)) + 2}' in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'text',
  [
    sub('return {}', 'return getattr(hyperparameters, "momentum", 0)'),
    sub('return {}', 'return hyperparameters.m if hasattr(hyperparameters, "m") else 0'),
    'try:\n  import json\nexcept ImportError:\n  json = None\nelse:\n'
    + SOURCE.replace('\n', '\n  '),
    sub('def data_selection', 'def pick') + 'data_selection, other = pick, None\n',
    sub('eval_results, global_step, rng', 'eval_results, global_step, rng, train_state'),
  ],
  ids=['getattr', 'hasattr', 'within else', 'two at once', 'train_state'],
)
def test_what_is_unusual_is_no_fault(text, tmp_path):
  assert loader.check_source(submission(tmp_path, text), 'jax', {'rate'}) == []


def test_overwriting_removes_only_what_a_run_leaves(tmp_path):
  ours = {
    'metadata.json': '',
    'packages.txt': '',
    'run_1/trial.json': '',
    'run_1/metrics.csv': '',
    'run_1/metrics.csv.attempt_1': '',
    'run_1/.metrics.jsonl.17.tmp': '',
    'run_1/checkpoints/step_7/leaf_0.npy': '',
    'run_2/error.txt': '',
  }
  theirs = {'digits_jax/notes.txt': 'n', 'digits_jax/run_1/my.csv': 'm', 'all_metrics.csv': 'a'}
  write(tmp_path, {**{f'digits_jax/{name}': text for name, text in ours.items()}, **theirs})
  RunFolder(tmp_path, 'digits_jax').clear()
  left = {name: text for name, text in snapshot(tmp_path).items() if text is not None}
  assert left == {name: text.encode() for name, text in theirs.items()}
  assert not (tmp_path / 'digits_jax' / 'run_2').exists()


@pytest.fixture
def read_only(tmp_path) -> Iterator[Path]:
  """A folder that nobody may write to, root included."""
  folder = tmp_path / 'read_only'
  folder.mkdir(mode=0o555)
  mounted = False
  if os.access(folder, os.W_OK):
    mount = ['sh', '-c', f'mount -t tmpfs -o ro,size=64k tmpfs {folder}']
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:
      pytest.skip('root may write everywhere, and may not mount here')
  yield folder
  if mounted:
    subprocess.run(['umount', str(folder)], check=True)


@pytest.mark.parametrize('below', ['', '/deeper/down'])
def test_a_folder_that_cannot_be_written_to(below, read_only, poison, tmp_path):
  case = Case('read-only', (), {'log_dir': f'{read_only}{below}'})
  lay_out(case, tmp_path)
  done = give(case, tmp_path, poison)
  assert_one_line(done.stderr, f'{str(read_only)!r} cannot be written to', 'another --log_dir')
  assert done.returncode == 2


def test_a_reader_that_goes_away_is_no_error():
  reading, writing = os.pipe()
  os.close(reading)
  command = [sys.executable, str(ROOT / 'submission_runner.py'), '--helpshort']
  done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
  os.close(writing)
  assert (done.returncode, done.stderr) == (0, '')


def test_letters_that_cannot_be_shown_are_no_error():
  environment = {**os.environ, 'PYTHONIOENCODING': 'ascii'}
  command = [sys.executable, str(ROOT / 'submission_runner.py'), '--helpshort']
  done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
  assert (done.returncode, done.stderr) == (0, '')
