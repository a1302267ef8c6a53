"""This file measures how long something takes and what it draws, over repeats.

A layer lasts microseconds, and what tells power is read a hundred times a second at best: so the
layer runs in a loop that is long enough for the power source, after a warm-up. Where nothing tells
power there is none; it is never estimated.
"""

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from algorithmic_efficiency.telemetry.energy import COUNTER, NONE, Power
from algorithmic_efficiency.telemetry.sample import Telemetry

# A repeat lasts so long: counters move every 100 ms, samples of power are means of as much.
_SECONDS = {COUNTER: 1.0, 'sampled': 2.0, NONE: 0.05}
_SAMPLED = 'sampled'
_POLL_SEC = 0.02
_WARM_UP_SEC = 0.02
_WARM_UP_CALLS = 3
_MS = 1e3


@dataclass(frozen=True)
class Measured:
  """Runtime in milliseconds, power in watts; None where nothing tells power.

  Attributes:
    runtime: median of the repeats, each a mean over its calls.
    runtime_std, power_std: standard deviations over repeats.
    runtime_min: least of the repeats.
    power_above_idle: less what the device drew before; None where that is not known.
    calls: in a repeat.
  """

  runtime: float
  runtime_std: float
  runtime_min: float
  calls: int
  power: float | None = None
  power_std: float | None = None
  power_above_idle: float | None = None
  power_source: str = NONE


class Meter:
  """Measures callables on a device.

  Args:
    telemetry: the sources of power; None to measure time alone.
    idle_sec: to measure what the device draws while nothing runs; 0 for not.
    repeats: of a measurement.
    min_sec: of a repeat, at least; as long as the power source needs where that is longer.
    now: the clock.

  Attributes:
    source: where power comes from: 'counter', 'sampled' or 'none'.
  """

  def __init__(
    self,
    telemetry: Telemetry | None,
    idle_sec: float = 0.0,
    repeats: int = 5,
    min_sec: float = 0.0,
    now: Callable[[], float] = time.perf_counter,
  ) -> None:
    self._telemetry, self._repeats, self._now = telemetry, repeats, now
    names = [d.name for d in telemetry.devices() if d.in_job] if telemetry else []
    self.source = _source(telemetry, names)
    self._devices = frozenset(names)
    self._seconds = max(min_sec, _SECONDS[self.source])
    self._idle_watts: float | None = None
    if idle_sec and self.source != NONE:
      self._idle_watts = self._watts_over(lambda: time.sleep(idle_sec))

  def measure(self, call: Callable[[], object], wait: Callable[[], None]) -> Measured:
    """Calls it in loops; `wait` returns when the device has finished."""
    per_call = self._warm_up(call, wait)
    calls = max(1, math.ceil(self._seconds / per_call))
    times: list[float] = []
    watts: list[float] = []
    for _ in range(self._repeats):

      def loop() -> None:
        begin = self._now()
        for _ in range(calls):
          call()
        wait()
        times.append((self._now() - begin) / calls)

      if self.source == NONE:
        loop()
        continue
      drawn = self._watts_over(loop)
      if drawn is not None:
        watts.append(drawn)
    return self._result(times, watts, calls)

  def _result(self, times: Sequence[float], watts: Sequence[float], calls: int) -> Measured:
    power = statistics.median(watts) if watts else None
    idle = self._idle_watts
    return Measured(
      runtime=statistics.median(times) * _MS,
      runtime_std=statistics.stdev(times) * _MS if len(times) > 1 else 0.0,
      runtime_min=min(times) * _MS,
      calls=calls,
      power=power,
      power_std=statistics.stdev(watts) if len(watts) > 1 else None,
      power_above_idle=None if power is None or idle is None else power - idle,
      power_source=self.source if watts else NONE,
    )

  def _warm_up(self, call: Callable[[], object], wait: Callable[[], None]) -> float:
    """Seconds of a call once it is warm.

    The device is waited for after ever longer loops: calls may queue in microseconds what takes
    the device seconds.
    """
    for _ in range(_WARM_UP_CALLS):
      call()
    wait()
    count = 1
    while True:
      begin = self._now()
      for _ in range(count):
        call()
      wait()
      spent = self._now() - begin
      if spent >= _WARM_UP_SEC:
        return spent / count
      count *= 2

  def _watts_over(self, run: Callable[[], None]) -> float | None:
    """Mean power of the job's devices while it runs."""
    assert self._telemetry is not None
    if self.source == COUNTER:
      before, begin = self._joules(), self._now()
      run()
      return (self._joules() - before) / (self._now() - begin)
    powers = {name: Power(longest_gap_sec=1.0) for name in self._devices}
    done = threading.Event()
    poller = threading.Thread(target=self._poll, args=(powers, done), daemon=True)
    poller.start()
    begin = time.monotonic()
    run()
    end = time.monotonic()
    done.set()
    poller.join()
    found = [power.joules(begin, end) for power in powers.values()]
    told = [joules / covered for joules, covered in found if covered]
    return sum(told) if told else None

  def _poll(self, powers: dict[str, Power], done: threading.Event) -> None:
    assert self._telemetry is not None
    while not done.wait(_POLL_SEC):
      columns = self._telemetry.read()
      for name, power in powers.items():
        watts = columns.get(f'{name}.power.watts')
        if watts is not None:
          power.add(time.monotonic(), watts)

  def _joules(self) -> float:
    assert self._telemetry is not None
    return sum(j for name, j in self._telemetry.counters().items() if name in self._devices)


def _source(telemetry: Telemetry | None, names: Sequence[str]) -> str:
  """What tells the power of these devices here."""
  if telemetry is None or not names:
    return NONE
  if any(name in names for name in telemetry.counters()):
    return COUNTER
  columns = telemetry.read()
  return _SAMPLED if any(f'{name}.power.watts' in columns for name in names) else NONE
