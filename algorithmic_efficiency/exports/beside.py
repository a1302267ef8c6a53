"""This file starts the exporter beside a run and ends it when the run has ended."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path

import algorithmic_efficiency
from algorithmic_efficiency.records.run_folder import RunFolder

_log = logging.getLogger(__name__)

_END_SEC = 120.0  # for what is left to export; a new data base alone takes ten
_AFTERWARDS = 'the record is whole: scripts/export.py exports it.'


@contextlib.contextmanager
def exported(
  folder: RunFolder, trials: Iterable[int], sinks: Sequence[str], leave_out: Callable[[int], None]
) -> Generator[None, None, None]:
  """Exports what trials record within; what could not be exported is told in a line at the end.

  Where the run is interrupted the exporter is not waited for: it finishes on its own.

  Args:
    folder: of the study.
    trials: the indices of those that are run, from 0.
    sinks: names; without one nothing is started.
    leave_out: told the pid of a process that is not the job's.
  """
  if not sinks:
    yield
    return
  process = _start(folder, [str(folder.trial(index).path) for index in trials], sinks)
  leave_out(process.pid)
  try:
    yield
  except BaseException:
    assert process.stdin is not None
    process.stdin.close()
    raise
  _end(process, sinks)


def _start(folder: RunFolder, trials: Sequence[str], sinks: Sequence[str]) -> subprocess.Popen[str]:
  arguments = [
    f'--root={folder.root}', f'--output={folder.exports}', f'--to={",".join(sinks)}',
    f'--parent={os.getpid()}', *trials,
  ]  # fmt: skip
  return subprocess.Popen(
    [sys.executable, '-m', 'algorithmic_efficiency.exports.sidecar', *arguments],
    stdin=subprocess.PIPE,  # closed, it says that the run has ended, however that ended
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,  # what it has to say goes to stdout
    text=True,
    # A Ctrl-C is for the run, which ends this process itself. In a session of its own Linux would
    # share the processor evenly between the two (autogroups), however low its priority.
    process_group=0,
    cwd=Path(algorithmic_efficiency.__file__).parents[1],  # importable where not installed
  )


def _end(process: subprocess.Popen[str], sinks: Sequence[str]) -> None:
  """Waits until all is exported, and tells what came of it."""
  names = ' and '.join(sinks)
  try:
    said, _ = process.communicate(timeout=_END_SEC)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    _log.warning('the export to %s took over %g s and was ended; %s', names, _END_SEC, _AFTERWARDS)
    return
  lines = said.splitlines()
  for line in lines:
    _log.log(logging.INFO if line.startswith('exported to') else logging.WARNING, '%s', line)
  if process.returncode and not any('failed' in line for line in lines):
    _log.warning('the export to %s ended with code %d; %s', names, process.returncode, _AFTERWARDS)
