"""This file is a trial's telemetry: the sampler beside it, its phases, its energy, its columns."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import algorithmic_efficiency
from algorithmic_efficiency.records.appended_file import AppendedFile
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.records.tail import Tail
from algorithmic_efficiency.telemetry.energy import Meter
from algorithmic_efficiency.telemetry.phases import TRAINING, NoPhases, Phases
from algorithmic_efficiency.telemetry.sample import Telemetry

_log = logging.getLogger(__name__)

_LONGEST_GAP_PERIODS = 3
_END_SEC = 5.0  # for the sampler to write its last line


class NoSession:
  """No telemetry: for `--telemetry=off`, and in the processes that leave no record."""

  def __init__(self) -> None:
    self.phases = NoPhases()

  def columns(self) -> dict[str, Any]:
    """The columns of a row."""
    return {}

  def joules(self) -> float | None:
    """Drawn since the start, for people."""
    return None

  def state(self) -> dict[str, Any]:
    """What a checkpoint must hold of it."""
    return {}

  def take_up(self, state: Mapping[str, Any]) -> None:
    """Goes on from there."""

  def close(self) -> None:
    """Ends it."""


class Session(NoSession):
  """The telemetry of one trial.

  Args:
    telemetry: the sources, for rows and counters.
    folder: the trial's.
    hz: samples a second by a process beside; 0 for rows alone.
    idle_watts: by device, measured before.
    compile_seconds: spent compiling so far.
    uuids: of the devices that are trained on; empty for all that the job may use.
  """

  def __init__(
    self,
    telemetry: Telemetry,
    folder: TrialFolder,
    hz: float,
    idle_watts: Mapping[str, float],
    compile_seconds: Callable[[], float],
    uuids: Sequence[str] = (),
  ) -> None:
    self._telemetry = telemetry
    self._hz = hz
    self._path = folder.telemetry.absolute()
    names = _devices(telemetry, uuids)
    self._meter = Meter(names, _LONGEST_GAP_PERIODS / (hz or 1.0), idle_watts)
    self._counters_at_start = self._counters()
    self._joules_before = 0.0
    self._tail = Tail(self._path, at_end=True)
    self._file = AppendedFile(folder.phases)
    self._process = self._start() if hz else None
    self._restarts = 0
    self.phases = Phases(self._file, self._meter, self._counters, compile_seconds)

  def columns(self) -> dict[str, Any]:
    """The hardware now, and the energy and host time until now."""
    hardware = self._telemetry.read()
    self._look_after_the_sampler()
    for line in self._tail.new():
      if line.get('kind') == 'sample':
        for name in self._meter.devices:
          watts = line.get(f'{name}.power.watts')
          if watts is not None:
            self._meter.sampled(name, line['monotonic_sec'], watts)
    self.phases.observe('recording')
    watts = {name: hardware.get(f'{name}.power.watts') for name in self._meter.devices}
    self._meter.settle({name: value for name, value in watts.items() if value is not None})
    seconds = {f'phase.{name}_sec': self.phases.seconds[name] for name in TRAINING}
    return {**seconds, **self._meter.columns(), **hardware}

  def joules(self) -> float | None:
    """Counted since the start by the devices that count; None without one."""
    now = self._counters()
    parts = [now[name] - joules for name, joules in self._counters_at_start.items() if name in now]
    return self._joules_before + sum(parts) if parts else None

  def state(self) -> dict[str, Any]:
    """Accounts of energy and of the host's time; plain data."""
    return {'energy': self._meter.state(), 'phases': dict(self.phases.seconds)}

  def take_up(self, state: Mapping[str, Any]) -> None:
    """Goes on from there."""
    self._meter.take_up(state.get('energy', {}))
    self._joules_before = self._meter.joules
    self.phases.seconds.update(state.get('phases', {}))

  def close(self) -> None:
    """Ends the sampler, which writes what it has cost."""
    if self._process is not None:
      _end(self._process)
    self._file.close()

  def _counters(self) -> dict[str, float]:
    known = frozenset(self._meter.devices)
    return {name: j for name, j in self._telemetry.counters().items() if name in known}

  def _start(self) -> subprocess.Popen[bytes]:
    arguments = [
      f'--file={self._path}', f'--hz={self._hz}', f'--pid={os.getpid()}',
      f'--parent={os.getpid()}', f'--devices={",".join(self._meter.devices)}',
      f'--without={",".join(map(str, self._telemetry.left_out))}',
    ]  # fmt: skip
    return subprocess.Popen(
      [sys.executable, '-m', 'algorithmic_efficiency.telemetry.sidecar', *arguments],
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      start_new_session=True,  # a Ctrl-C is for the run, which ends this process itself
      cwd=Path(algorithmic_efficiency.__file__).parents[1],  # importable where not installed
    )

  def _look_after_the_sampler(self) -> None:
    """One that has ended is started again, once; what is missing is told as missing coverage."""
    if self._process is None or self._process.poll() is None:
      return
    why = _last_words(self._process)
    again = self._restarts == 0
    _log.warning(
      'the sampler of the hardware has ended (%s); %s.',
      why, 'starting another' if again else 'telemetry.jsonl ends here',
    )  # fmt: skip
    self._restarts += 1
    self._process = self._start() if again else None


def _devices(telemetry: Telemetry, uuids: Sequence[str]) -> list[str]:
  """Names of the devices whose energy is the job's; accelerators by UUID where that is known."""
  job = [device for device in telemetry.devices() if device.in_job]
  if any(device.uuid in uuids for device in job):
    job = [device for device in job if not device.uuid or device.uuid in uuids]
  return [device.name for device in job]


def measure_idle(telemetry: Telemetry, seconds: float) -> dict[str, float]:
  """Watts of each device while the job waits: by its counter, else the mean of readings."""
  names = [device.name for device in telemetry.devices()]
  begin, before = time.monotonic(), telemetry.counters()
  sums: dict[str, float] = {}
  readings = 0
  while time.monotonic() - begin < seconds:
    columns = telemetry.read()
    readings += 1
    for name in names:
      sums[name] = sums.get(name, 0.0) + columns.get(f'{name}.power.watts', 0.0)
    time.sleep(0.1)
  after, spent = telemetry.counters(), time.monotonic() - begin
  watts = {name: total / readings for name, total in sums.items() if total}
  counted = {name: (after[name] - before[name]) / spent for name in after if name in before}
  return {**watts, **{name: value for name, value in counted.items() if value > 0}}


def _last_words(process: subprocess.Popen[bytes]) -> str:
  assert process.stderr is not None
  said = process.stderr.read().decode(errors='replace').strip().splitlines()
  if said:
    return said[-1].rstrip('.')
  code = process.returncode
  return f'signal {-code}' if code < 0 else f'exit code {code}'


def _end(process: subprocess.Popen[bytes]) -> None:
  process.terminate()
  try:
    process.wait(_END_SEC)
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
  if process.stderr is not None:
    process.stderr.close()
