"""This file turns power and counters into joules, and says which of them it was.

A counter read at both ends of a stretch is exact whatever lies between. Without one, samples of the
power are integrated by the trapezoid rule; gaps are not bridged but told as missing coverage.
Without samples the mean of two readings stands for the stretch: 'derived', and little worth.
"""

import bisect
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

COUNTER, INTEGRATED, DERIVED, NONE = 'counter', 'integrated', 'derived', 'none'

DIFFERENCE = 0.05  # of counter and integral over the counter, from which on it is flagged
_SMALL_SHARE = 0.05  # of the time: too little to name a figure after
_LEAST_JOULES = 1.0  # below it a difference says nothing: counters move in steps of 100 ms


class Power:
  """Samples of one device's power, and their integral.

  Args:
    longest_gap_sec: two samples farther apart are not connected.
  """

  def __init__(self, longest_gap_sec: float) -> None:
    self._longest_gap_sec = longest_gap_sec
    self._times: list[float] = []
    self._watts: list[float] = []

  @property
  def last_watts(self) -> float | None:
    """The newest sample."""
    return self._watts[-1] if self._watts else None

  def add(self, time_sec: float, watts: float) -> None:
    """Adds a sample; one not later than the last is a clock that stood still, and left out."""
    if math.isfinite(watts) and (not self._times or time_sec > self._times[-1]):
      self._times.append(time_sec)
      self._watts.append(watts)

  def joules(self, begin: float, end: float) -> tuple[float, float]:
    """(joules, seconds covered by samples) between two times.

    Beside the first and the last sample its value counts for half a gap's length at most.
    """
    times, watts = self._times, self._watts
    if not times or end <= begin:
      return 0.0, 0.0
    joules = covered = 0.0
    reach = self._longest_gap_sec / 2
    head = _overlap(begin, end, times[0] - reach, times[0])
    tail = _overlap(begin, end, times[-1], times[-1] + reach)
    joules += head * watts[0] + tail * watts[-1]
    covered += head + tail
    first = max(0, bisect.bisect_right(times, begin) - 1)
    last = min(len(times) - 1, bisect.bisect_left(times, end))
    for place in range(first, last):
      left, right = times[place], times[place + 1]
      if right - left > self._longest_gap_sec:
        continue
      a, b = max(begin, left), min(end, right)
      if b > a:
        slope = (watts[place + 1] - watts[place]) / (right - left)
        middle = watts[place] + slope * ((a + b) / 2 - left)
        joules += middle * (b - a)
        covered += b - a
    return joules, covered

  def forget_before(self, time_sec: float) -> None:
    """Lets go of samples that no later question needs."""
    first = max(0, bisect.bisect_right(self._times, time_sec) - 1)
    del self._times[:first], self._watts[:first]


def _overlap(begin: float, end: float, low: float, high: float) -> float:
  return max(0.0, min(end, high) - max(begin, low))


@dataclass
class Account:
  """What one device has drawn since the start of a trial.

  Attributes:
    joules: by account of the clock, in the best way there was.
    counted: by its counter; None where it has none.
    integrated: from samples of its power.
    covered_sec, total_sec: of the time, by samples, and in all.
    seconds_by: the time by the source of its joules.
  """

  joules: dict[str, float]
  counted: float | None = None
  integrated: float = 0.0
  covered_sec: float = 0.0
  total_sec: float = 0.0
  seconds_by: dict[str, float] = field(default_factory=dict[str, float])

  @property
  def source(self) -> str:
    """Of `joules`: the weakest that more than 5 % of the time rests on."""
    for source in (DERIVED, INTEGRATED, COUNTER):
      if self.seconds_by.get(source, 0.0) > _SMALL_SHARE * self.total_sec:
        return source
    return NONE

  @property
  def total(self) -> float:
    """Of all accounts."""
    return sum(self.joules.values())

  def differs(self) -> bool | None:
    """Whether counter and integral differ by more than 5 %; None where they cannot be compared."""
    if self.counted is None or not self.total_sec or self.covered_sec < 0.95 * self.total_sec:
      return None
    if max(self.counted, self.integrated) < _LEAST_JOULES:
      return None
    return abs(self.integrated - self.counted) > DIFFERENCE * self.counted


class Meter:
  """Charges every joule of every device to the account that the clock charges the time to.

  Args:
    devices: names, such as 'gpu.0'.
    longest_gap_sec: of the samples of power.
    idle_watts: by device, measured while nothing ran; net figures need them.
  """

  def __init__(
    self,
    devices: list[str],
    longest_gap_sec: float,
    idle_watts: Mapping[str, float] | None = None,
  ) -> None:
    self._accounts = {name: Account({}) for name in devices}
    self._power = {name: Power(longest_gap_sec) for name in devices}
    self._idle_watts = dict(idle_watts or {})
    self._counters: dict[str, float] = {}
    self._stretches: list[tuple[str, float, float, dict[str, float]]] = []
    self._since: float | None = None
    self._totals: dict[str, float] = {}
    self._row_watts: dict[str, float] = {}

  @property
  def devices(self) -> list[str]:
    """The names."""
    return list(self._accounts)

  @property
  def joules(self) -> float:
    """Of all devices so far, as far as settled."""
    return sum(account.total for account in self._accounts.values())

  def turn(self, account: str, now: float, counters: Mapping[str, float]) -> dict[str, float]:
    """The stretch since the last turn was `account`'s; returns its joules where counted."""
    counted: dict[str, float] = {}
    for name, joules in counters.items():
      before = self._counters.get(name)
      if before is not None and joules >= before:  # less: the driver was loaded anew
        counted[name] = joules - before
    self._counters = dict(counters)
    if self._since is not None:
      self._stretches.append((account, self._since, now, counted))
    self._since = now
    return counted

  def sampled(self, device: str, time_sec: float, watts: float) -> None:
    """A sample of a device's power; times of the same clock as the turns'."""
    if device in self._power:
      self._power[device].add(time_sec, watts)

  def settle(self, watts: Mapping[str, float]) -> None:
    """Books the stretches so far, by counters, else samples, else these readings of now."""
    for account, begin, end, counted in self._stretches:
      for name in self._accounts:
        self._book(name, account, begin, end, counted.get(name), watts.get(name))
    self._stretches.clear()
    self._row_watts = dict(watts)
    if self._since is not None:
      for power in self._power.values():
        power.forget_before(self._since)

  def columns(self) -> dict[str, Any]:
    """The energy columns of a row; those that nothing is known for are left out."""
    columns: dict[str, Any] = {}
    known = {n: a for n, a in self._accounts.items() if a.source != NONE}
    for name, account in self._accounts.items():
      columns[f'{name}.energy.source'] = account.source
      if name in known:
        columns.update(self._of_device(name, account))
    if not known:
      return columns if self._accounts else {}
    columns.update(self._sums(known))
    return columns

  def state(self) -> dict[str, Any]:
    """All that a checkpoint must hold of it; plain data."""
    return {name: dataclasses.asdict(account) for name, account in self._accounts.items()}

  def take_up(self, state: Mapping[str, Any]) -> None:
    """Goes on from there. Devices that were not there then begin now."""
    for name, fields in state.items():
      if name in self._accounts:
        dicts = {key: dict(fields[key]) for key in ('joules', 'seconds_by')}
        self._accounts[name] = Account(**{**fields, **dicts})
        self._totals[name] = self._accounts[name].total
    self._totals[''] = sum(self._totals.values())

  def _book(
    self, name: str, account: str, begin: float, end: float, counted: float | None,
    watts: float | None,
  ) -> None:  # fmt: skip
    own = self._accounts[name]
    integrated, covered = self._power[name].joules(begin, end)
    own.integrated += integrated
    own.covered_sec += covered
    own.total_sec += end - begin
    if counted is not None:
      joules, source = counted, COUNTER
      own.counted = (own.counted or 0.0) + counted
    elif covered > 0:
      joules, source = integrated, INTEGRATED
    elif watts is not None:
      joules, source = (watts + self._row_watts.get(name, watts)) / 2 * (end - begin), DERIVED
    else:
      return
    own.joules[account] = own.joules.get(account, 0.0) + joules
    own.seconds_by[source] = own.seconds_by.get(source, 0.0) + end - begin

  def _of_device(self, name: str, account: Account) -> dict[str, Any]:
    columns: dict[str, Any] = {
      f'{name}.energy.joules_since_start': account.total,
      f'{name}.energy.joules_since_last': account.total - self._totals.get(name, 0.0),
      f'{name}.energy.submission_joules': account.joules.get('submission', 0.0),
      f'{name}.energy.evaluation_joules': account.joules.get('evaluation', 0.0),
    }
    self._totals[name] = account.total
    if account.covered_sec:
      share = min(100.0, 100 * account.covered_sec / account.total_sec)
      columns[f'{name}.energy.coverage_percent'] = round(share, 2)
      columns[f'{name}.energy.integrated_joules_since_start'] = account.integrated
    if (differs := account.differs()) is not None:
      columns[f'{name}.energy.counter_and_integral_differ'] = differs
    if name in self._idle_watts:
      idle = self._idle_watts[name] * account.total_sec
      columns[f'{name}.energy.net_joules_since_start'] = account.total - idle
    return columns

  def _sums(self, known: Mapping[str, Account]) -> dict[str, Any]:
    sources = {account.source for account in known.values()}
    columns: dict[str, Any] = {
      'energy.devices': ' '.join(known),
      'energy.source': sources.pop() if len(sources) == 1 else 'mixed',
      'energy.joules_since_start': sum(a.total for a in known.values()),
      'energy.submission_joules': sum(a.joules.get('submission', 0.0) for a in known.values()),
      'energy.evaluation_joules': sum(a.joules.get('evaluation', 0.0) for a in known.values()),
    }
    before = self._totals.get('', 0.0)
    columns['energy.joules_since_last'] = columns['energy.joules_since_start'] - before
    self._totals[''] = columns['energy.joules_since_start']
    if all(name in self._idle_watts for name in known):
      idle = sum(self._idle_watts[name] * account.total_sec for name, account in known.items())
      columns['energy.net_joules_since_start'] = columns['energy.joules_since_start'] - idle
    return columns
