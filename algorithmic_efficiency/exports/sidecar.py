"""This file is the exporter: a process of its own that follows a run's record into its sinks.

  python -m algorithmic_efficiency.exports.sidecar --root=LOG_DIR --output=O --to=wandb --parent=1 T

A process, since the packages of the sinks are large, start threads and may fail: nothing of them
is imported where training is measured. It runs when nobody else wants the processor, ends when its
stdin is closed or the process that started it is gone, and exports the rest first. What it has to
say goes to stdout, a sentence a line.
"""

import argparse
import contextlib
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from algorithmic_efficiency.exports.exporter import Busy, Exporter, Following, describe
from algorithmic_efficiency.exports.sinks import DEFAULT_PROJECT

_PERIOD_SEC = 2.0
_LOWEST = 19  # niceness, where there is no idle class


class Sidecar:
  """Follows trials into several sinks; one that fails keeps no other from going on.

  Args:
    exporter: of the study.
    paths: of the trials, which may not have begun.
    names: of the sinks.

  Attributes:
    names: of the sinks that have not failed.
    failed: the sinks that did, and why.
  """

  def __init__(self, exporter: Exporter, paths: Sequence[Path], names: Sequence[str]) -> None:
    self._exporter, self._paths = exporter, paths
    self.names = list(names)
    self._following: dict[tuple[str, Path], Following] = {}
    self.failed: dict[str, str] = {}

  def catch_up(self, over: bool = False) -> None:
    """Exports what is new; where it is over, all there is."""
    for path in filter(Path.is_dir, self._paths):
      for name in list(self.names):
        try:
          if (name, path) not in self._following:
            self._following[name, path] = self._exporter.follow(path, name)
          if over:
            self._following[name, path].end(over=True)
          else:
            self._following[name, path].catch_up()
        except Busy as error:  # by somebody who has all of the record or comes back to it
          self._exporter.tell(f'{error}; it is left to that')
        except Exception as error:  # noqa: BLE001 - a foreign package may raise anything
          self.failed[name] = describe(error)
          self.names.remove(name)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the exporter; returns 1 if a sink failed."""
  given = _parse(argv)
  for signum in (signal.SIGINT, signal.SIGTERM):
    signal.signal(signum, signal.SIG_IGN)  # they are for the run; this process ends with it
  _be_last_in_line()

  def say(sentence: str) -> None:
    with contextlib.suppress(OSError):  # the run that would read it is gone
      sys.stdout.write(f'{sentence}\n')
      sys.stdout.flush()

  exporter = Exporter(given.root, given.output, DEFAULT_PROJECT, 0.0, say)
  sidecar = Sidecar(exporter, given.trial, given.to.split(','))
  while True:
    told = bool(select.select([sys.stdin], [], [], _PERIOD_SEC)[0])
    if told or os.getppid() != given.parent:
      break
    sidecar.catch_up()
  sidecar.catch_up(over=True)
  for name in sidecar.names:
    say(f'exported to {name}: {exporter.place(name)}')
  for name, why in sidecar.failed.items():
    say(f'export to {name} failed ({why}); the record is whole: scripts/export.py exports it')
  return 1 if sidecar.failed else 0


def _be_last_in_line() -> None:
  """Leaves the processor to whoever wants it, those that this process starts too."""
  try:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
  except (AttributeError, OSError):  # not Linux, or forbidden
    os.nice(_LOWEST)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog='sidecar', description='Follows a run into its exports.')
  parser.add_argument('--root', type=Path, required=True, help='names are relative to it')
  parser.add_argument('--output', type=Path, required=True, help='a folder a sink is made in it')
  parser.add_argument('--to', required=True, help='sinks, with commas')
  parser.add_argument('--parent', type=int, required=True, help='ends with this process')
  parser.add_argument('trial', nargs='+', type=Path, help='the folders of trials')
  return parser.parse_args(argv)


if __name__ == '__main__':
  sys.exit(main())
