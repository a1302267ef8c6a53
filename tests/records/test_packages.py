"""packages.txt: what is installed, and no secret of where it came from."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

from algorithmic_efficiency.records import packages


@pytest.mark.parametrize(
  ('text', 'masked'),
  [
    ('https://me:SECRET@example.org/x.git', 'https://***@example.org/x.git'),
    ('https://SECRET@example.org/x', 'https://***@example.org/x'),
    ('git+https://me:SECRET@example.org/x@v1', 'git+https://***@example.org/x@v1'),
    ('git+ssh://SECRET@example.org:22/x.git', 'git+ssh://***@example.org:22/x.git'),
    ('https://me:SEC@RET@example.org/x', 'https://***@example.org/x'),
    ('https://me:SE%2FCRET@example.org:8080/x', 'https://***@example.org:8080/x'),
    ('https://:SECRET@example.org', 'https://***@example.org'),
    ('https://example.org/x?token=SECRET', 'https://example.org/x?token=***'),
    ('https://example.org/x?a=b&api_key=SECRET&c=d', 'https://example.org/x?a=b&api_key=***&c=d'),
    ('https://example.org/x?ACCESS_TOKEN=SECRET#egg=x', 'https://example.org/x?ACCESS_TOKEN=***#egg=x'),
    ('https://example.org/x?password=SECRET', 'https://example.org/x?password=***'),
    ('https://example.org/x?sv=1&sig=SECRET', 'https://example.org/x?sv=1&sig=***'),
    (
      'https://example.org/x?X-Amz-Credential=SECRET&X-Amz-Signature=SECRET&X-Amz-Date=1',
      'https://example.org/x?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Date=1',
    ),
    ('https://example.org/x#token=SECRET', 'https://example.org/x#token=***'),
    (
      'a @ https://u:SECRET@one.org/a b @ https://u:SECRET@two.org/b?key=SECRET',
      'a @ https://***@one.org/a b @ https://***@two.org/b?key=***',
    ),
  ],
)  # fmt: skip
def test_credentials_are_masked(text, masked):
  assert packages.mask_credentials(text) == masked
  assert 'SECRET' not in masked
  assert packages.mask_credentials(masked) == masked


@pytest.mark.parametrize(
  'text',
  [
    'numpy==2.0.0',
    'pkg @ git+https://example.org/x.git@0123abc',
    'pkg==1 @ https://example.org/a@b/pkg-1.whl#sha256=abc',
    'https://example.org/x?ref=main&page=2',
    'someone@example.org',
    'file:///home/x/y',
  ],
)
def test_what_is_no_credential_stays(text):
  assert packages.mask_credentials(text) == text


class Site:
  """A folder of installed packages."""

  def __init__(self, path):
    self.path = path

  def install(self, name, version='1.0', origin=None, metadata=True):
    folder = self.path / f'{name}-{version}.dist-info'
    folder.mkdir()
    if metadata:
      (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')
    if origin is not None:
      text = origin if isinstance(origin, str) else json.dumps(origin)
      (folder / 'direct_url.json').write_text(text)


@pytest.fixture
def site(tmp_path, monkeypatch):
  """The only folder on the search path."""
  monkeypatch.setattr(sys, 'path', [str(tmp_path)])
  return Site(tmp_path)


def test_versions_are_those_of_importlib():
  lines = packages.python_packages()
  listed = dict(line.split(' @ ')[0].split('==') for line in lines)
  names = {d.metadata['Name'] for d in importlib.metadata.distributions()}
  assert listed == {name: importlib.metadata.version(name) for name in names}
  assert listed['numpy'] == importlib.metadata.version('numpy')
  assert lines == sorted(lines, key=str.lower)


def test_a_package_from_a_url_names_it_without_credentials(site):
  site.install('from-git', origin={
    'url': 'https://me:SECRET@example.org/x.git',
    'vcs_info': {'vcs': 'git', 'commit_id': '0123abc'},
  })  # fmt: skip
  site.install('from-file', origin={
    'url': 'https://example.org/x.whl?token=SECRET', 'archive_info': {},
  })  # fmt: skip
  assert packages.python_packages() == [
    'from-file==1.0 @ https://example.org/x.whl?token=***',
    'from-git==1.0 @ https://***@example.org/x.git@0123abc',
  ]


def test_a_local_folder_is_not_named(site):
  site.install('local', origin={'url': 'file:///home/someone/secret', 'dir_info': {}})
  assert packages.python_packages() == ['local==1.0']


@pytest.mark.parametrize('origin', ['', '{"url": ', '{}', '[]', '{"url": null}'])
def test_an_origin_that_cannot_be_read_is_left_out(site, origin):
  site.install('odd', origin=origin)
  assert packages.python_packages() == ['odd==1.0']


def test_what_a_half_removed_package_left_is_no_package(site):
  site.install('gone', metadata=False)
  site.install('there')
  assert packages.python_packages() == ['there==1.0']


def test_of_a_package_found_twice_the_one_that_is_imported_is_listed(site, tmp_path, monkeypatch):
  site.install('twice', '1.0')
  nearer = tmp_path / 'nearer'
  nearer.mkdir()
  monkeypatch.setattr(sys, 'path', [str(nearer), str(tmp_path)])
  Site(nearer).install('twice', '2.0')
  assert packages.python_packages() == ['twice==2.0']
  assert importlib.metadata.version('twice') == '2.0'


# The operating system's.


@pytest.fixture
def programs(tmp_path, monkeypatch):
  """A search path with nothing on it but the programs that are put there."""
  folder = tmp_path / 'bin'
  folder.mkdir()
  monkeypatch.setenv('PATH', str(folder))

  def add(name, script):
    (folder / name).write_text(f'#!/bin/sh\n{script}\n')
    (folder / name).chmod(0o755)

  return add


@pytest.mark.parametrize('program', ['dpkg-query', 'rpm', 'apk'])
def test_whichever_lister_is_there_is_asked(programs, program):
  programs(program, 'echo zlib=1; echo Bash=5.2; echo "$*" >&2')
  assert packages.os_packages() == ['Bash=5.2', 'zlib=1']


def test_a_lister_that_fails_is_passed_over(programs):
  programs('dpkg-query', 'echo broken; exit 1')
  programs('rpm', 'echo good=1')
  assert packages.os_packages() == ['good=1']


def test_a_lister_that_cannot_be_started_is_passed_over(programs, tmp_path):
  programs('rpm', 'echo good=1')
  (tmp_path / 'bin' / 'dpkg-query').write_bytes(b'\x7fELF of another machine')
  (tmp_path / 'bin' / 'dpkg-query').chmod(0o755)
  assert packages.os_packages() == ['good=1']


def test_dpkg_is_asked_for_name_and_version(programs):
  programs('dpkg-query', 'printf "%s\\n" "$@"')
  assert packages.os_packages() == [r'${Package}=${Version}\n', '-f', '-W']


def test_both_sections_are_there(programs, site, tmp_path):
  site.install('alpha')
  path = tmp_path / 'packages.txt'
  programs('dpkg-query', 'echo zlib=1')
  packages.write(path)
  python, system = path.read_text().split('\n\n')
  assert python == '# Python packages\nalpha==1.0'
  assert system == '# OS packages\nzlib=1\n'


def test_without_any_lister_the_file_says_so(programs, site, tmp_path):
  path = tmp_path / 'packages.txt'
  packages.write(path)
  assert path.read_text().endswith('\n# OS packages\n(no dpkg, rpm or apk on this machine)\n')


def test_the_program_writes_the_same(tmp_path):
  path, expected = tmp_path / 'packages.txt', tmp_path / 'expected.txt'
  subprocess.run([sys.executable, '-m', packages.__name__, str(path)], check=True, timeout=60)
  packages.write(expected)
  assert path.read_text() == expected.read_text()
