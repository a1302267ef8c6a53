"""This file is the sampler: a process of its own that writes what the hardware does, line by line.

  python -m algorithmic_efficiency.telemetry.sidecar --file=F --hz=2 --pid=PID

A process, since a thread would wait for the interpreter's lock at every file it reads, and smear
the times of its samples; not multiprocessing, which runs the user's program anew or copies one
that has started threads. It ends within a period of the process it watches, and never makes up for
ticks that it has missed. Lines: one of kind 'begin', one 'sample' a tick, 'note' for people, 'end'
with what it cost.
"""

import argparse
import logging
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.appended_file import AppendedFile, to_line
from algorithmic_efficiency.telemetry import SCHEMA
from algorithmic_efficiency.telemetry.sample import Telemetry, boot_id, clock_pair, sources

_SYNC_EVERY_SEC = 5.0
_NICE = 5  # the training goes first


class Sampler:
  """Samples until it is told to stop, or the process it watches is gone.

  Args:
    file: appended to.
    period_sec: between samples.
    telemetry: what is read.
    parent: pid of the process that started this one.
    stop: a file descriptor that can be read from once it shall stop.
  """

  def __init__(
    self, file: AppendedFile, period_sec: float, telemetry: Telemetry, parent: int, stop: int
  ) -> None:
    self._file = file
    self._period_sec = period_sec
    self._telemetry = telemetry
    self._parent = parent
    self._stop = stop
    self._synced = 0.0
    self.samples = 0
    self.missed = 0
    self.lost_lines = 0

  def run(self) -> str:
    """Returns the reason it ended for."""
    tick = time.monotonic()
    while True:
      self._sample()
      tick += self._period_sec
      late = time.monotonic() - tick
      if late > 0:  # ticks that have passed are not made up for
        skipped = int(late / self._period_sec) + 1
        self.missed += skipped
        tick += skipped * self._period_sec
      # Not signal.sigtimedwait: after SIGSTOP and SIGCONT that of Python 3.11 tells of signals that
      # never came.
      if select.select([self._stop], [], [], max(0.0, tick - time.monotonic()))[0]:
        return 'asked to'
      if os.getppid() != self._parent:
        return 'the process it watched has ended'

  def note(self, text: str) -> None:
    """A line for people."""
    self.write({'kind': 'note', **clock_pair(), 'text': text})

  def write(self, line: dict[str, Any]) -> None:
    """Appends a line; a full disk costs lines, not the sampler."""
    now = time.monotonic()
    durable = now - self._synced > _SYNC_EVERY_SEC
    self._synced = now if durable else self._synced
    try:
      self._file.append(to_line(line), durable)
    except MeasurementError:
      self.lost_lines += 1

  def _sample(self) -> None:
    at = clock_pair()
    self.write({'kind': 'sample', **at, **self._telemetry.read_due()})
    self.samples += 1


class _Notes(logging.Handler):
  """Warnings of the sources as lines of the file."""

  def __init__(self, sampler: Sampler) -> None:
    super().__init__(logging.WARNING)
    self._sampler = sampler

  def emit(self, record: logging.LogRecord) -> None:
    self._sampler.note(record.getMessage())


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the sampler; returns its exit code."""
  given = _parse(argv)
  stop = _readable_on_sigterm()
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the run, which then ends this one
  os.nice(_NICE)
  only = given.devices.split(',') if given.devices is not None else None
  parent = given.parent or os.getppid()
  pid = given.pid or parent
  telemetry = Telemetry(
    sources(pid, only, without=[os.getpid(), *map(int, filter(None, given.without.split(',')))])
  )
  try:
    file = AppendedFile(given.file)
  except MeasurementError as error:
    sys.stderr.write(f'{error}\n')
    return 1
  sampler = Sampler(file, 1.0 / given.hz, telemetry, parent, stop)
  logging.getLogger('algorithmic_efficiency').addHandler(_Notes(sampler))
  sampler.write({
    'kind': 'begin',
    'schema': SCHEMA,
    **clock_pair(),
    'boot_id': boot_id(),
    'pid': pid,
    'hz': given.hz,
    'units': {column.name: column.unit for column in columns.HARDWARE if column.unit},
    'devices': [device.describe() for device in telemetry.devices()],
    'absent': telemetry.absent,
  })  # fmt: skip
  reason = sampler.run()
  sampler.write({'kind': 'end', **clock_pair(), 'reason': reason, **_cost(sampler, telemetry)})
  file.close()
  return 0


def _readable_on_sigterm() -> int:
  """A file descriptor to wait at."""
  readable, writable = os.pipe()
  os.set_blocking(writable, False)
  signal.signal(signal.SIGTERM, lambda number, frame: None)
  signal.set_wakeup_fd(writable)
  return readable


def _cost(sampler: Sampler, telemetry: Telemetry) -> dict[str, Any]:
  """What the sampler itself has used."""
  used = resource.getrusage(resource.RUSAGE_SELF)
  return {
    'samples': sampler.samples,
    'missed': sampler.missed,
    'lost_lines': sampler.lost_lines,
    'cpu_sec': round(used.ru_utime + used.ru_stime, 4),
    'max_rss_bytes': _max_rss_bytes(),
    'sources': {
      name: {'readings': count, 'sec': round(seconds, 5), 'dropped': name in telemetry.dropped}
      for name, (count, seconds) in telemetry.costs.items()
    },
  }


def _max_rss_bytes() -> int | None:
  """Of this program; getrusage would tell that of the one that started it, if it was larger."""
  try:
    status = Path('/proc/self/status').read_text(encoding='ascii')
  except OSError:
    return None
  fields = dict(line.split(':', 1) for line in status.splitlines())
  return int(fields['VmHWM'].split()[0]) * 1024


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(prog='sidecar', description='Samples the hardware into a file.')
  parser.add_argument('--file', required=True, help='JSON lines are appended to it')
  parser.add_argument('--hz', type=float, default=2.0, help='samples a second (2)')
  parser.add_argument('--pid', type=int, help='first process of the job (the parent)')
  parser.add_argument('--parent', type=int, help='ends with this process (the one that started it)')
  parser.add_argument('--devices', help='the devices to read, gpu.0,gpu.1 (all)')
  parser.add_argument('--without', default='', help="pids of processes that are not the job's")
  return parser.parse_args(argv)


if __name__ == '__main__':
  sys.exit(main())
