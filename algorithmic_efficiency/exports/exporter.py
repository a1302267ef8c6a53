"""This file exports trials to sinks: all that is recorded, or what is new of one that runs.

Beside what a sink writes, a stamp a trial says which state of its record was exported in whole: the
same record is not exported twice. A record that has changed since is exported anew or gone on with,
whichever its sink can do, under the same key.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.exports import sinks
from algorithmic_efficiency.exports.sinks import Export, Sink
from algorithmic_efficiency.exports.trials import Point, Reader
from algorithmic_efficiency.records.whole_files import write_whole

FORMAT = 1  # exports of another are made anew
_SETTLED_SEC = 2.0  # within which a row reaches the disk


class Outcome(NamedTuple):
  """What came of exporting a trial to a sink.

  Attributes:
    rows: exported now.
    skipped: the same record was exported before.
  """

  rows: int
  skipped: bool = False


class Following:
  """One trial on its way into one sink.

  Args:
    make_reader: of its record, from the beginning.
    sink: gives where to, and is asked only once there is something to export.
    folder: of the sink, for stamps.
  """

  def __init__(
    self, make_reader: Callable[[], Reader], sink: Callable[[], Sink], folder: Path
  ) -> None:
    self._make_reader = make_reader
    self._reader = make_reader()
    self._sink = sink
    self._stamps = folder / '.stamps'
    self._export: Export | None = None
    self._held = contextlib.ExitStack()
    self._last = ''
    self._rows = 0

  def catch_up(self) -> None:
    """Exports what is new, and ends the export of a trial that has ended. May raise anything."""
    now = self._reader.fingerprint()
    if now == self._last or (self._export is None and self._is_stamped(now)):
      return
    self._last = now
    if self._reader.status().word != 'running':
      self.end()
      return
    self._begin_again_if_replaced()
    points = self._reader.new(until=time.time() - _SETTLED_SEC)
    if points:
      self._log(points)
    if self._reader.holds_back:
      self._last = ''

  def end(self, over: bool = False) -> Outcome:
    """Exports all there is and ends. May raise anything.

    Args:
      over: a trial that says it runs does not.
    """
    self._reader.over = over
    now = self._reader.fingerprint()
    if self._export is None and self._is_stamped(now):
      return Outcome(0, skipped=True)
    self._begin_again_if_replaced()
    self._reader.over = over
    points = [*self._reader.new(), *self._reader.rest()]
    self._log(sorted(points, key=lambda point: point.time))
    self._close()
    write_whole(self._stamp_path(), json.dumps(self._stamp(now)) + '\n')
    self._last = now
    outcome = Outcome(self._rows)
    self._begin_again()
    return outcome

  def _log(self, points: list[Point]) -> None:
    if self._export is None:
      lock = self._stamp_path().with_suffix('.lock')
      self._held.enter_context(_locked(lock, self._reader.name))
      self._export = self._sink().open(self._reader.trial(), points)
    self._export.log(points)
    self._rows += sum(point.is_row for point in points)

  def _close(self) -> None:
    assert self._export is not None
    self._export.close(self._reader.status())
    self._export = None
    self._held.close()

  def _begin_again_if_replaced(self) -> None:
    """A record that was taken up again may have lost rows that are exported already."""
    if self._reader.replaced():
      if self._export is not None:
        self._close()
      self._begin_again()

  def _begin_again(self) -> None:
    self._reader = self._make_reader()
    self._rows = 0

  def _stamp_path(self) -> Path:
    return self._stamps / f'{self._reader.trial().key}.json'

  def _stamp(self, fingerprint: str) -> dict[str, object]:
    return {'name': self._reader.name, 'record': fingerprint, 'format': FORMAT}

  def _is_stamped(self, fingerprint: str) -> bool:
    try:
      stamp = json.loads(self._stamp_path().read_text(encoding='utf-8'))
    except (OSError, ValueError):
      return False
    return stamp == self._stamp(fingerprint)


class Exporter:
  """Exports the trials below a folder.

  Args:
    root: names of trials are relative to it.
    output: a folder a sink is made in it.
    project: name of the project or experiment, where the sink has one.
    telemetry_period_sec: samples that come sooner after the last are left out; None: all are.
    say: told one sentence at a time, each once.
  """

  def __init__(
    self,
    root: Path,
    output: Path,
    project: str,
    telemetry_period_sec: float | None,
    say: Callable[[str], None],
  ) -> None:
    self._root, self._output, self._project = root, output, project
    self._period, self._say = telemetry_period_sec, say
    self._told: set[str] = set()
    self._opened: dict[str, Sink] = {}

  def sink(self, name: str) -> Sink:
    """The sink of that name, made and its package imported at the first time."""
    if name not in self._opened:
      try:
        made = sinks.make(name, self._output / name, self._project, self.tell)
      except Exception as error:
        raise MeasurementError(f'{name} cannot be opened: {describe(error)}') from error
      self._opened[name] = made
    return self._opened[name]

  def place(self, name: str) -> str:
    """Where users of that sink find the runs."""
    return self._opened[name].place if name in self._opened else str(self._output / name)

  def follow(self, path: Path, name: str) -> Following:
    """A trial on its way into the sink of that name."""
    relative = path.resolve().relative_to(self._root.resolve())
    shown = relative.as_posix() if relative.parts else path.resolve().name

    def make_reader() -> Reader:
      return Reader(path, shown, self.tell, self._period)

    return Following(make_reader, lambda: self.sink(name), self._output / name)

  def tell(self, sentence: str) -> None:
    """Hands a sentence on that has not been said."""
    if sentence not in self._told:
      self._told.add(sentence)
      self._say(sentence)


def describe(error: BaseException) -> str:
  """What a sink raised, in one line."""
  lines = [line.strip() for line in str(error).splitlines() if line.strip()]
  kind = type(error).__name__
  if isinstance(error, MeasurementError):
    return lines[0].rstrip('.')
  return f'{kind}: {lines[0][:300].rstrip(".")}' if lines else kind


class Busy(Exception):
  """Another process exports the trial now."""


@contextlib.contextmanager
def _locked(path: Path, name: str) -> Generator[None, None, None]:
  """Keeps others from exporting the same trial."""
  path.parent.mkdir(parents=True, exist_ok=True)
  fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    try:
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise Busy(f'{name} is being exported by another process') from error
    except OSError:
      pass  # a file system without locks
    yield
  finally:
    os.close(fd)
