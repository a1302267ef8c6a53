"""This file keeps a trial's checkpoints: all that changes in it, on disk, whole or not at all.

Of several processes each writes what it has that the first does not have alike. Loading a
checkpoint runs no code from it; one that is damaged is put aside for the one before.
"""

import contextlib
import json
import logging
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.records import checkpoint_files
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.runner import state_tree

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
  """A checkpoint that was found whole.

  Attributes:
    path: its folder.
    content: the plain data that was saved.
  """

  path: Path
  content: dict[str, Any]

  def restore(self, fresh: Mapping[str, Any], framework: Any) -> dict[str, Any]:
    """The trial's objects, from those of a fresh start. Raises UsageError if they do not fit."""
    try:
      return self._restore(fresh, framework)
    except Exception as error:  # a file from anywhere may make a reader raise anything
      reason = str(error).partition('\n')[0]
      if not isinstance(error, state_tree.CannotRestore):
        reason = f'{type(error).__name__}: {reason}'
      raise UsageError(
        f'{str(self.path)!r} cannot be gone on from: {reason}; '
        "delete the trial's checkpoints and it begins anew."
      ) from error

  def _restore(self, fresh: Mapping[str, Any], framework: Any) -> dict[str, Any]:
    index = framework.processes.index()
    written = json.loads((self.path / _state_name(index)).read_bytes())
    arrays = dict(framework.state.read(self.path / _arrays_name(index, framework)))
    if written['of_the_first']:
      first = framework.state.read(self.path / _arrays_name(0, framework))
      arrays.update({name: first[name] for name in written['of_the_first']})
    return state_tree.restore(written['state'], arrays, fresh, framework)


class Checkpoints:
  """A trial's checkpoints.

  Args:
    folder: the trial's.
    framework: of the run.
    identity: what must be the same for a run to go on from one; plain data.
    kept: how many are kept, the newest; with 0 none is written.
  """

  def __init__(
    self, folder: TrialFolder, framework: Any, identity: Mapping[str, Any], kept: int
  ) -> None:
    self._folder = folder
    self._framework = framework
    self._processes = framework.processes
    self._identity = dict(identity)
    self._kept = kept
    self._is_first: bool = self._processes.index() == 0

  def newest(self, num_rows: int) -> Saved | None:
    """The newest whole checkpoint; those that are damaged are put aside, and that is told.

    So are those that more than `num_rows` rows had been recorded before: they are there no more.

    Raises UsageError for one of another run.
    """
    found = self._processes.share(self._newest(num_rows) if self._is_first else None)
    if found is None:
      return None
    path, content = Path(found[0]), found[1]
    if content['format'] != checkpoint_files.FORMAT:
      raise self._another(path, [f'its format is {content["format"]}, that of this version is '
                                 f'{checkpoint_files.FORMAT}'])  # fmt: skip
    before, now = content['identity'], self._identity
    differences = [
      f'{name} is {now.get(name)!r}, there it is {before.get(name)!r}'
      for name in dict.fromkeys((*now, *before))
      if now.get(name) != before.get(name)
    ]
    if differences:
      raise self._another(path, differences)
    return Saved(path, content['trial'])

  def save(
    self, step: int, evaluated: bool, content: Mapping[str, Any], roots: Mapping[str, Any]
  ) -> int:
    """Writes a checkpoint, unless there is one of this moment; then removes the oldest.

    Args:
      step: updates made.
      evaluated: whether the evaluation that was due at this step, if any, has been made.
      content: plain data, the same in all processes.
      roots: the trial's objects, by name.

    Returns:
      The bytes written, by all processes.

    Raises:
      MeasurementError: it could not be written; those before are as they were.
    """
    path = self._folder.checkpoint(step, evaluated)
    temporary = path.with_name(f'.{path.name}.tmp')
    if not self._kept or self._processes.share(path.exists()):
      return 0
    try:
      if self._is_first:
        self._done_by_all(lambda: checkpoint_files.make_empty(temporary))
      else:
        self._done_by_all(lambda: None)
      state, arrays = self._done_by_all(lambda: state_tree.flatten(roots, self._framework))
      known = self._known_by_the_first(arrays)
      own = self._done_by_all(lambda: self._write_share(temporary, state, arrays, known))
      numbers = self._processes.gather([float(n) for pair in own.values() for n in pair])
      files = self._all_files(numbers.astype(int).tolist())
      whole = {'identity': self._identity, 'trial': content}
      if self._is_first:
        self._done_by_all(lambda: self._complete(temporary, path, whole, files))
      else:
        self._done_by_all(lambda: None)
      return sum(size for size, _ in files.values())
    except MeasurementError:
      if self._is_first:
        with contextlib.suppress(OSError):
          shutil.rmtree(temporary)
      raise

  def _newest(self, num_rows: int) -> tuple[str, dict[str, Any]] | None:
    for path in self._folder.checkpoints():
      try:
        content = checkpoint_files.read(path)
        if content['format'] == checkpoint_files.FORMAT:
          before: int = content['trial']['rows'][0]
          if before > num_rows:
            raise ValueError(f'{before} rows were recorded before it, and {num_rows} are left')
        return str(path), content
      except (OSError, ValueError) as error:
        aside = checkpoint_files.put_aside(path)
        _log.warning('%s is of no use (%s); kept as %s, looking for an older one.',
                     path, error, aside.name)  # fmt: skip
    return None

  def _another(self, path: Path, differences: list[str]) -> UsageError:
    return UsageError(
      f'{str(path)!r} is a checkpoint of another run: {"; ".join(differences)}. '
      'Delete it, or go on with the run that it belongs to.'
    )

  def _write_share(
    self, folder: Path, state: Mapping[str, Any], arrays: state_tree.Bytes, known: set[str]
  ) -> dict[str, tuple[int, int]]:
    """Writes this process's files; (bytes, CRC-32) of each."""
    names = self._names(self._processes.index())
    with checkpoint_files.written(folder / names[0]) as file:
      own = {name: array for name, array in arrays.items() if name not in known}
      self._framework.state.write(file, own)
      report = {names[0]: (file.size, file.checksum)}
    with checkpoint_files.written(folder / names[1]) as file:
      file.write(json.dumps({'state': state, 'of_the_first': sorted(known)}).encode())
      report[names[1]] = (file.size, file.checksum)
    return report

  def _known_by_the_first(self, arrays: state_tree.Bytes) -> set[str]:
    """Names of arrays that the first process has under the same name, to the last bit."""
    if self._processes.count() == 1:
      return set()
    own = {name: [array.size, zlib.crc32(array.data)] for name, array in arrays.items()}
    first = self._processes.share(own if self._is_first else None)
    return set() if self._is_first else {n for n, found in own.items() if first.get(n) == found}

  def _complete(
    self,
    temporary: Path,
    path: Path,
    content: Mapping[str, Any],
    files: Mapping[str, tuple[int, int]],
  ) -> None:
    checkpoint_files.seal(temporary, path, content, files)
    for old in self._folder.checkpoints()[self._kept :]:
      checkpoint_files.remove(old)

  def _all_files(self, numbers: list[list[int]]) -> dict[str, tuple[int, int]]:
    files: dict[str, tuple[int, int]] = {}
    for index, row in enumerate(numbers):
      arrays, state = self._names(index)
      files[arrays], files[state] = (row[0], row[1]), (row[2], row[3])
    return files

  def _names(self, index: int) -> tuple[str, str]:
    return _arrays_name(index, self._framework), _state_name(index)

  def _done_by_all(self, action: Callable[[], Any]) -> Any:
    """Does something in every process; raises in all of them if it fails in one."""
    problem, result = '', None
    try:
      result = action()
    except (OSError, MemoryError, TypeError) as error:
      reason = getattr(error, 'strerror', None) or str(error) or type(error).__name__
      problem = f'no checkpoint could be written to {str(self._folder.path)!r} ({reason})'
    failed = self._processes.gather([float(bool(problem))]).any()
    if failed:
      raise MeasurementError(problem or 'another process could not write its part of a checkpoint')
    return result


def _arrays_name(index: int, framework: Any) -> str:
  return f'arrays_{index}{framework.state.ARRAYS_SUFFIX}'


def _state_name(index: int) -> str:
  return f'state_{index}.json'
