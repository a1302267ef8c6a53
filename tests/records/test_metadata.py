"""metadata.json: what is found out, what is left out, and the extra keys a user may add."""

import datetime
import json
import logging
import math
import os
import platform
import shutil
import subprocess
import sys

import pytest

import algorithmic_efficiency
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records import columns, metadata


def test_extra_metadata():
  pairs = ['note=a, b', 'url=https://x/?a=b', 'empty=', ' spaced key = kept ', 'lines=a\nb', 'ü=ü']
  assert metadata.parse_extra(pairs) == {
    'note': 'a, b',
    'url': 'https://x/?a=b',
    'empty': '',
    'spaced key': ' kept ',
    'lines': 'a\nb',
    'ü': 'ü',
  }
  assert metadata.parse_extra([]) == {}


@pytest.mark.parametrize(
  ('pair', 'message'),
  [
    ('note', '\'note\' is not "key=value"'),
    ('', 'is not "key=value"'),
    ('=x', 'is not "key=value"'),
    ('  =x', 'is not "key=value"'),
    ('a,b=1', 'cannot be a column name'),
    ('a"b=1', 'cannot be a column name'),
    ('a\nb=1', 'cannot be a column name'),
    ('a\rb=1', 'cannot be a column name'),
    ('loss=1', "'loss' is already a column"),
    (' loss =1', "'loss' is already a column"),
    ('hparam.x=1', "'hparam.x' is already a column"),
    ('git_branch=1', "'git_branch' is already a column or key"),
    ('gpu.0.mem.used=1', 'already a column'),
    ('source=1', 'already a column'),
  ],
)
def test_a_fault_in_extra_metadata_is_told(pair, message):
  with pytest.raises(UsageError, match='--record_extra_metadata') as caught:
    metadata.parse_extra(['fine=1', pair])
  assert message in str(caught.value)
  assert 'fine' not in str(caught.value)
  assert '\n' not in str(caught.value)


def test_all_faults_in_extra_metadata_are_told_at_once():
  with pytest.raises(UsageError) as caught:
    metadata.parse_extra(['a=1', 'b', 'loss=1', 'a=2', 'c,d=1'])
  for clause in ("'b' is not", "'loss' is already", "'a' is given twice", "'c,d' cannot"):
    assert clause in str(caught.value)


def test_what_is_written_can_be_read(tmp_path):
  path = tmp_path / 'metadata.json'
  content = {'workload': 'digits_jax', 'n': 3, 'flag': True, 'mean': (0.5, 1.0), 'note': 'ü "x"\n'}
  metadata.write(path, content)
  assert metadata.read(path) == {**content, 'mean': [0.5, 1.0]}
  assert path.read_text().endswith('}\n')
  assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_are_not_finite_are_strict_json(tmp_path):
  path = tmp_path / 'metadata.json'
  content = {'a': math.nan, 'b': (1.0, math.inf), 'c': {'d': [-math.inf]}, 'e': 1e308}
  metadata.write(path, content)

  def refuse(spelling):
    raise AssertionError(f'{spelling} is not strict JSON')

  assert json.loads(path.read_text(), parse_constant=refuse) == {
    'a': 'NaN', 'b': [1.0, 'Infinity'], 'c': {'d': ['-Infinity']}, 'e': 1e308,
  }  # fmt: skip


@pytest.mark.parametrize('text', ['', '{"workload": ', '[1]', '\xff'])
def test_metadata_that_cannot_be_read_is_told(tmp_path, text):
  path = tmp_path / 'metadata.json'
  path.write_text(text, encoding='latin-1')
  with pytest.raises(UsageError, match=r'metadata\.json.*cannot be read'):
    metadata.read(path)


def test_metadata_that_is_not_there_is_told(tmp_path):
  with pytest.raises(UsageError, match='cannot be read'):
    metadata.read(tmp_path / 'metadata.json')


# The machine.


def test_the_machine_is_described_by_listed_keys():
  before = datetime.datetime.now()
  found = metadata.describe_machine()
  after = datetime.datetime.now()
  listed = {column.name for column in columns.METADATA}
  assert set(found) <= listed
  assert None not in found.values()
  assert found['python_version'].split('.')[:2] == [str(n) for n in sys.version_info[:2]]
  assert found['os_platform'] == platform.platform()
  assert found['cpu_count'] == os.cpu_count()
  assert found['algorithmic_efficiency_version'] == algorithmic_efficiency.__version__
  assert len(found['datetime']) == len('2025-01-01T00:00:00.000000')
  assert before <= datetime.datetime.fromisoformat(found['datetime']) <= after


@pytest.fixture
def checkout(tmp_path, monkeypatch):
  """A folder that the package seems to run from."""
  folder = tmp_path / 'checkout'
  (folder / 'algorithmic_efficiency').mkdir(parents=True)
  module = folder / 'algorithmic_efficiency' / '__init__.py'
  module.write_text('')
  monkeypatch.setattr(algorithmic_efficiency, '__file__', str(module))
  return folder


def git(folder, *arguments):
  if shutil.which('git') is None:
    pytest.skip('git is not installed')
  identity = ['-c', 'user.name=a', '-c', 'user.email=a@example.org']
  command = ['git', '-C', str(folder), *identity, *arguments]
  return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_outside_of_a_git_checkout_there_is_no_commit(checkout, caplog):
  with caplog.at_level(logging.INFO):
    found = metadata.describe_machine()
  assert not [key for key in found if key.startswith('git_')]
  assert 'python_version' in found
  assert [r.message for r in caplog.records if 'git commit' in r.message]


def test_an_image_says_what_it_was_built_from(checkout, monkeypatch):
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_COMMIT', 'abc123')
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_BRANCH', 'topic')
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_IMAGE', 'bench@sha256:0')
  found = metadata.describe_machine()
  assert (found['git_commit_hash'], found['git_branch']) == ('abc123', 'topic')
  assert found['git_dirty'] is False
  assert found['container.image'] == 'bench@sha256:0'
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_COMMIT', 'abc123-dirty')
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_BRANCH', '')
  found = metadata.describe_machine()
  assert (found['git_commit_hash'], found['git_dirty']) == ('abc123', True)
  assert 'git_branch' not in found


def test_an_image_without_a_commit_has_none(checkout, monkeypatch):
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_COMMIT', '')
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_IMAGE', '')
  found = metadata.describe_machine()
  assert not [key for key in found if key.startswith(('git_', 'container.'))]


@pytest.mark.parametrize('path', [os.environ.get('PATH', ''), ''])
def test_a_checkout_is_not_taken_for_its_containers_image(checkout, monkeypatch, path):
  git(checkout, 'init', '-q', '-b', 'main')
  git(checkout, 'commit', '-q', '--allow-empty', '-m', 'first')
  commit = git(checkout, 'rev-parse', 'HEAD')
  monkeypatch.setenv('ALGORITHMIC_EFFICIENCY_COMMIT', 'abc123')
  monkeypatch.setenv('PATH', path)
  assert metadata.describe_machine().get('git_commit_hash') == (commit if path else None)


def test_without_git_there_is_no_commit(checkout, monkeypatch, caplog):
  git(checkout, 'init', '-q')
  monkeypatch.setenv('PATH', '')
  with caplog.at_level(logging.INFO):
    found = metadata.describe_machine()
  assert not [key for key in found if key.startswith('git_')]
  assert 'not installed' in caplog.text


def test_a_checkout_without_a_commit_has_none(checkout, caplog):
  git(checkout, 'init', '-q')
  with caplog.at_level(logging.INFO):
    found = metadata.describe_machine()
  assert not [key for key in found if key.startswith('git_')]
  assert 'git said' in caplog.text


def test_the_commit_is_that_of_the_package_wherever_the_command_is_given(
  checkout, tmp_path, monkeypatch
):
  git(checkout, 'init', '-q', '-b', 'topic')
  git(checkout, 'add', '.')
  git(checkout, 'commit', '-q', '-m', 'first')
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  git(elsewhere, 'init', '-q', '-b', 'other')
  git(elsewhere, 'commit', '-q', '--allow-empty', '-m', 'second')
  commit = git(checkout, 'rev-parse', 'HEAD')
  monkeypatch.chdir(elsewhere)
  found = metadata.describe_machine()
  assert found['git_commit_hash'] == commit
  assert found['git_branch'] == 'topic'
  assert found['git_dirty'] is False
  (checkout / 'untracked').write_text('x')
  assert metadata.describe_machine()['git_dirty'] is False
  (checkout / 'algorithmic_efficiency' / '__init__.py').write_text('changed')
  assert metadata.describe_machine()['git_dirty'] is True
  # As in a git hook, which has these set for the repository it runs in.
  monkeypatch.setenv('GIT_DIR', str(elsewhere / '.git'))
  monkeypatch.setenv('GIT_WORK_TREE', str(elsewhere))
  assert metadata.describe_machine()['git_commit_hash'] == commit
