"""This file finds traces below folders: which files belong together, and what kind they are.

<run>/plugins/profile/<time>/<host>.xplane.pb         TensorFlow, JAX
<run>/plugins/profile/<time>/<host>.kernel_stats.pb   TensorFlow until 2022, beside it or alone
<name>.pt.trace.json[.gz]                             PyTorch, or any other name with that content
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_XPLANE, _KERNEL_STATS = '.xplane.pb', '.kernel_stats.pb'
_JSON = re.compile(r'(.+?)(?:\.pt)?(?:\.trace)?\.json(?:\.gz)?')
_HEAD_BYTES = 4096
# The viewer's copy beside an xplane tells no launches; memory_profile.json.gz tells no kernels.
_VIEWER = b'highres-ticks'
_TORCH = (b'"schemaVersion"', b'"traceEvents"', b'"deviceProperties"')
_LEFT_BEHIND = re.compile(r'\.attempt_\d+$')
_PARTS = re.compile(r'/?plugins/profile(?=/|$)')


class Source(NamedTuple):
  """A trace: the files of one host in one folder.

  Attributes:
    name: the folder from the one that was searched, without what is the same in all.
    host: by the file's name.
    xplane, kernel_stats, chrome: the files there are.
  """

  name: str
  host: str
  xplane: Path | None = None
  kernel_stats: Path | None = None
  chrome: Path | None = None

  @property
  def files(self) -> list[Path]:
    """The files there are."""
    return [p for p in (self.kernel_stats, self.xplane, self.chrome) if p is not None]


def find(roots: Sequence[Path]) -> Iterator[Source]:
  """Every trace below these folders, in the order of names; a file is taken for what it is named.

  Raises OSError where a folder cannot be read.
  """
  for root in roots:
    if root.is_file():
      yield from _of_folder(root.parent, [root.name], root.parent, asked_for=True)
      continue
    for folder, below, files in os.walk(root, onerror=_refuse):
      # What an earlier attempt at a trial left is no trace of the run.
      below[:] = sorted(name for name in below if not _LEFT_BEHIND.search(name))
      yield from _of_folder(Path(folder), sorted(files), root, asked_for=False)


def _of_folder(folder: Path, files: Sequence[str], root: Path, asked_for: bool) -> Iterator[Source]:
  relative = folder.relative_to(root).as_posix()
  name = _PARTS.sub('', '' if relative == '.' else relative) or root.resolve().name
  hosts: dict[str, Source] = {}
  for file in files:
    for suffix, field in ((_XPLANE, 'xplane'), (_KERNEL_STATS, 'kernel_stats')):
      if file.endswith(suffix):
        host = file.removesuffix(suffix)
        source = hosts.get(host, Source(name, host))
        hosts[host] = source._replace(**{field: folder / file})
  yield from hosts.values()
  for file in files:
    match = _JSON.fullmatch(file)
    if match and (asked_for or _is_chrome(folder / file)):
      yield Source(name, match[1], chrome=folder / file)
    elif asked_for and not match and not hosts:
      yield Source(name, file, xplane=folder / file)  # whatever it is, the reader will tell


def _is_chrome(path: Path) -> bool:
  """Whether the head of a JSON file is that of a trace with launches; one cut early counts too."""
  if path.name.endswith(('.pt.trace.json', '.pt.trace.json.gz')):
    return True
  try:
    with path.open('rb') as file:
      head = file.read(_HEAD_BYTES)
    if head[:2] == b'\x1f\x8b':
      with gzip.open(path, 'rb') as file:
        head = file.read(_HEAD_BYTES)
  except (OSError, EOFError, zlib.error):
    return False  # of unknown content and not named as a trace
  return any(word in head for word in _TORCH) and _VIEWER not in head


def _refuse(error: OSError) -> None:
  raise error
