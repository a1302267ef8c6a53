"""This file finds out what a run ran on and writes metadata.json.

What cannot be found out is left out, with one line in the log: a record never guesses.
"""

import datetime
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import algorithmic_efficiency
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.appended_file import to_json
from algorithmic_efficiency.records.whole_files import write_whole

_log = logging.getLogger(__name__)

SCHEMA = 1

# A git hook sets these for the repository that it runs in, which need not be this package's.
_OTHER_REPOSITORY = ('GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_COMMON_DIR')


def parse_extra(pairs: list[str]) -> dict[str, str]:
  """Extra metadata from its "key=value" texts. Raises UsageError naming every fault."""
  extra: dict[str, str] = {}
  faults: list[str] = []
  for pair in pairs:
    key, equals, value = pair.partition('=')
    key = key.strip()
    if not equals or not key:
      faults.append(f'{pair!r} is not "key=value"')
    elif any(c in key for c in ',"\r\n'):
      faults.append(f'{key!r} cannot be a column name; leave out commas, quotes and line breaks')
    elif columns.is_taken(key):
      faults.append(f'{key!r} is already a column or key of the record; choose another name')
    elif key in extra:
      faults.append(f'{key!r} is given twice; drop one')
    else:
      extra[key] = value
  if faults:
    raise UsageError(f'--record_extra_metadata cannot be recorded: {"; ".join(faults)}.')
  return extra


def describe_machine() -> dict[str, Any]:
  """What can be known of the machine and the code without a framework."""
  found = {
    'schema': SCHEMA,
    'datetime': datetime.datetime.now().isoformat(timespec='microseconds'),
    'algorithmic_efficiency_version': algorithmic_efficiency.__version__,
    **describe_host(),
    **_code(Path(algorithmic_efficiency.__file__).parents[1]),
    'container.image': os.environ.get('ALGORITHMIC_EFFICIENCY_IMAGE') or None,
  }
  for key, value in found.items():
    if value is None and key != 'container.image':  # most runs are in none
      _log.info('Not recorded, since it cannot be found out here: %s.', key)
  return {key: value for key, value in found.items() if value is not None}


def describe_host() -> dict[str, Any]:
  """The part that the code has none in: Python, system, processors; None where not known."""
  return {
    'python_version': platform.python_version(),
    'python_compiler': platform.python_compiler(),
    'os_platform': platform.platform(),
    'cpu_model_name': _cpu_model_name(),
    'cpu_count': os.cpu_count(),
  }


def write(path: Path, content: Mapping[str, Any]) -> None:
  """Writes metadata.json, whole."""
  write_whole(path, json.dumps(to_json(content), indent=2, allow_nan=False) + '\n')


def _cpu_model_name() -> str | None:
  try:
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
  except OSError:
    return platform.processor() or None
  names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
  return names[0] if names else platform.processor() or None


def _code(folder: Path) -> dict[str, Any]:
  """The commit this package is of: its checkout's, else the one that its image was built from."""
  checkout = (folder / '.git').exists()
  if checkout and shutil.which('git') is not None:
    return _git(folder)
  # An image's variables say nothing of a checkout that was put into a container of it.
  commit = '' if checkout else os.environ.get('ALGORITHMIC_EFFICIENCY_COMMIT', '')
  if not commit:
    _log.info('Not recorded: the git commit (this is no git checkout, or git is not installed).')
    return {}
  return {
    'git_branch': os.environ.get('ALGORITHMIC_EFFICIENCY_BRANCH') or None,
    'git_commit_hash': commit.removesuffix('-dirty'),
    'git_dirty': commit.endswith('-dirty'),
  }


def _git(checkout: Path) -> dict[str, Any]:
  """The commit of a checkout; the folder the command was given in does not matter."""
  environment = {k: v for k, v in os.environ.items() if k not in _OTHER_REPOSITORY}

  def git(*arguments: str) -> str | None:
    # No optional locks: a benchmark must not hold up its user's own git commands.
    command = ['git', '--no-optional-locks', '-C', str(checkout), *arguments]
    out = subprocess.run(
      command, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment
    )
    if out.returncode:
      _log.info('Not recorded: git said %r.', out.stderr.strip().split('\n')[0])
    return None if out.returncode else out.stdout.strip()

  commit = git('rev-parse', 'HEAD')
  if commit is None:
    return {}
  changed = git('status', '--porcelain', '--untracked-files=no')
  return {
    'git_branch': git('rev-parse', '--abbrev-ref', 'HEAD'),
    'git_commit_hash': commit,
    'git_dirty': None if changed is None else bool(changed),
  }


def read(path: Path) -> dict[str, Any]:
  """What `write` wrote. Raises UsageError if it cannot be read."""
  try:
    content = json.loads(path.read_text(encoding='utf-8'))
    if not isinstance(content, dict):
      raise ValueError('it is not a JSON object')
  except (OSError, ValueError) as error:
    raise UsageError(
      f'{str(path)!r} cannot be read ({error}); choose another --log_dir or use --overwrite.'
    ) from error
  return cast(dict[str, Any], content)
