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


def mask_credentials(text: str) -> str:
  """Replaces user names, passwords and tokens in URLs by ***.

  >>> mask_credentials('pkg @ git+https://me:secret@example.org/x.git?token=abc')
  'pkg @ git+https://***@example.org/x.git?token=***'
  """
  text = re.sub(r'://[^/\s@]+@', '://***@', text)
  return re.sub(
    r'(?i)([?&][^=&\s]*(?:token|key|secret|password|auth)[^=&\s]*=)[^&\s#]+', r'\1***', text
  )


def python_packages() -> list[str]:
  """name==version of each, or `name @ URL` where it was installed from one; sorted."""
  lines: set[str] = set()
  for package in importlib.metadata.distributions():
    name = package.metadata['Name']
    if not name:  # what a half-removed package leaves behind
      continue
    line = f'{name}=={package.version}'
    origin = package.read_text('direct_url.json')
    if origin:
      url = json.loads(origin)
      commit = url.get('vcs_info', {}).get('commit_id')
      if not url['url'].startswith('file:'):  # a local path is not for others to read
        line = f'{name}=={package.version} @ {url["url"]}' + (f'@{commit}' if commit else '')
    lines.add(mask_credentials(line))
  return sorted(lines, key=str.lower)


def os_packages() -> list[str]:
  """name=version of each, by dpkg, rpm or apk, whichever is there; empty where none is."""
  for program, arguments in LISTS.items():
    path = shutil.which(program)
    if path:
      out = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=60)
      if out.returncode == 0:
        return sorted(out.stdout.splitlines(), key=str.lower)
  return []


def write(path: Path) -> None:
  """Writes packages.txt, whole."""
  system = os_packages() or ['(no dpkg, rpm or apk on this machine)']
  lines = ['# Python packages', *python_packages(), '', '# OS packages', *system]
  write_whole(path, '\n'.join(lines) + '\n')


if __name__ == '__main__':
  write(Path(sys.argv[1]))
