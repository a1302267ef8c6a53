"""This file writes packages.txt: the packages of Python and of the operating system.

Run as a program (`python -m algorithmic_efficiency.records.packages PATH`) so that the quarter of
a second it takes is not the user's.
"""

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from algorithmic_efficiency.records.whole_files import write_whole

# The first of these that is there lists the operating system's packages.
LISTS = {
  'dpkg-query': ['-W', '-f', '${Package}=${Version}\\n'],
  'rpm': ['-qa', '--qf', '%{NAME}=%{VERSION}-%{RELEASE}\\n'],
  'apk': ['info', '-v'],
}

# What the name of a secret in a URL's query has in it.
_SECRETS = 'token|key|secret|pass|auth|sig|credential'


def mask_credentials(text: str) -> str:
  """Replaces user names, passwords and tokens in URLs by ***.

  >>> mask_credentials('pkg @ git+https://me:secret@example.org/x.git?token=abc')
  'pkg @ git+https://***@example.org/x.git?token=***'
  """
  text = re.sub(r'://[^/?#\s]+@', '://***@', text)
  return re.sub(rf'(?i)([?&#][^=&\s]*(?:{_SECRETS})[^=&\s]*=)[^&\s#]+', r'\1***', text)


def python_packages() -> list[str]:
  """name==version of each, ` @ URL` added where it was installed from one; sorted."""
  lines: dict[str, str] = {}
  for package in importlib.metadata.distributions():
    name = (package.metadata.get_all('Name') or [''])[0]
    if not name or name in lines:  # half removed, or hidden by one earlier on the path
      continue
    line = f'{name}=={package.version}{_origin(package.read_text("direct_url.json"))}'
    lines[name] = mask_credentials(line)
  return sorted(lines.values(), key=str.lower)


def os_packages() -> list[str]:
  """name=version of each, by dpkg, rpm or apk, whichever is there; empty where none is."""
  for program, arguments in LISTS.items():
    path = shutil.which(program)
    if path:
      try:
        out = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60)
      except (OSError, subprocess.TimeoutExpired):  # rpm waits for whoever holds its database
        continue
      if out.returncode == 0:
        return sorted(out.stdout.splitlines(), key=str.lower)
  return []


def write(path: Path) -> None:
  """Writes packages.txt, whole."""
  system = os_packages() or ['(no dpkg, rpm or apk on this machine)']
  lines = ['# Python packages', *python_packages(), '', '# OS packages', *system]
  write_whole(path, '\n'.join(lines) + '\n')


def _origin(direct_url: str | None) -> str:
  """' @ URL' of a direct_url.json, with the commit; empty where it says nothing for others."""
  try:
    origin = json.loads(direct_url or '{}')
    url, commit = origin['url'], origin.get('vcs_info', {}).get('commit_id')
    local = url.startswith('file:')  # a path of this machine
  except (ValueError, KeyError, TypeError, AttributeError):
    return ''
  return '' if local else f' @ {url}{f"@{commit}" if commit else ""}'


if __name__ == '__main__':
  write(Path(sys.argv[1]))
