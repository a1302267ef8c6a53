"""This file orders the readings of a log: years, devices, sessions."""

import datetime
import itertools
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from algorithmic_efficiency.device_logs.reading import Diagnosis, Reading

_LEAST_GAP_SEC = 60.0  # a new session begins after a gap of so long, or of ten periods
_PERIODS = 10
_ORDER = (
  'index',
  'module',
  'bus',
  'uuid',
  'serial',
  'model',
)  # what names a device, the best first


@dataclass(frozen=True)
class Sample:
  """One device at one time, placed.

  Attributes:
    time: seconds since 1970, or since the log's beginning where it has no times.
    device: 'gpu.0', 'hpu.3'.
    values: by column, without the device's name.
    process: of `pmon`.
  """

  time: float
  device: str
  values: dict[str, Any]
  process: dict[str, str]


@dataclass
class Session:
  """Samples without a long gap, in the order of time.

  Attributes:
    samples: of all devices.
    period_sec: median distance of a device's samples.
  """

  samples: list[Sample]
  period_sec: float

  @property
  def devices(self) -> list[str]:
    """In the order of their numbers."""
    return sorted({s.device for s in self.samples}, key=_by_number)

  def missing(self) -> dict[str, int]:
    """How many samples each device has fewer than the one with the most."""
    counts = dict.fromkeys(self.devices, 0)
    for sample in self.samples:
      counts[sample.device] += 1
    most = max(counts.values())
    return {device: most - count for device, count in counts.items() if count < most}


def arrange(
  readings: list[Reading],
  diagnosis: Diagnosis,
  start_date: datetime.date | None = None,
  period_sec: float = 1.0,
) -> tuple[list[Session], dict[str, dict[str, str]]]:
  """Sessions, and what is known of each device.

  Args:
    readings: of one log, in its order.
    diagnosis: is told of what had to be assumed.
    start_date: of the first reading, for years that were cut short.
    period_sec: between readings of a device, for a log without times.
  """
  names, devices = _names(readings)
  sessions: list[Session] = []
  for stamped in (True, False):
    part = [(r, n) for r, n in zip(readings, names, strict=True) if bool(r.stamp) == stamped]
    if not part:
      continue
    chosen, own = [r for r, _ in part], [n for _, n in part]
    if stamped:
      times = _times(chosen, diagnosis, start_date)
    else:
      times = _counted_times(chosen, own, diagnosis, period_sec)
    sessions += _split([
      Sample(time, name, reading.values, reading.process)
      for reading, name, time in zip(chosen, own, times, strict=True)
    ])  # fmt: skip
  return sessions, devices


def _names(readings: list[Reading]) -> tuple[list[str], dict[str, dict[str, str]]]:
  """A name for each reading's device, and what the log told of it."""
  linked = _linked(readings)
  best = [min(linked[key], key=_rank) for key in (_keys(reading)[0] for reading in readings)]
  ranks: dict[_Key, str] = {}
  for key in sorted(set(best), key=_rank):
    kind, name, value = key
    numbered = name in ('index', 'module') and value.isdigit()
    free = next(n for n in itertools.count() if f'{kind}.{n}' not in ranks.values())
    ranks[key] = f'{kind}.{int(value) if numbered else free}'
  names = [ranks[key] for key in best]
  devices: dict[str, dict[str, str]] = {}
  for name, reading in zip(names, readings, strict=True):
    devices.setdefault(name, {}).update(reading.identity)
  return names, {name: devices[name] for name in sorted(devices, key=_by_number)}


_Key = tuple[str, str, str]  # kind, what names the device, its value


def _keys(reading: Reading) -> list[_Key]:
  """What a reading calls its device, the best first; its model only if nothing else does."""
  found = [(reading.kind, n, reading.identity[n]) for n in _ORDER if n in reading.identity]
  sure = [key for key in found if key[1] != 'model']
  return sure or found or [(reading.kind, 'index', '0')]


def _linked(readings: list[Reading]) -> dict[_Key, set[_Key]]:
  """Names that one reading uses together are of one device: a bus id here, an index there."""
  groups: dict[_Key, set[_Key]] = {}
  for reading in readings:
    keys = _keys(reading)
    if all(key in groups for key in keys) and len({id(groups[key]) for key in keys}) == 1:
      continue
    merged = set(keys).union(*(groups.get(key, ()) for key in keys))
    for key in merged:
      groups[key] = merged
  return groups


def _rank(key: _Key) -> tuple[str, int, list[tuple[int, str]]]:
  return key[0], _ORDER.index(key[1]), _natural(key[2])


def _times(
  readings: list[Reading], diagnosis: Diagnosis, start_date: datetime.date | None
) -> list[float]:
  sure = [r.stamp.seconds for r in readings if r.stamp and not r.stamp.was_cut]
  times: list[float] = []
  repaired = 0
  for reading in readings:
    stamp = reading.stamp
    assert stamp is not None
    if not stamp.was_cut:
      times.append(stamp.seconds)
      continue
    repaired += 1
    choices = [stamp.in_year(year) for year in stamp.years]
    near = times[-1] if times else _start(start_date) or (sure[0] if sure else None)
    if near is None and len(choices) > 1:
      years = ', '.join(map(str, stamp.years))
      diagnosis.note(f'the weekday allows the years {years}; the first is taken (--start_date)')
    times.append(choices[0] if near is None else min(choices, key=lambda t, at=near: abs(t - at)))
  if repaired:
    diagnosis.note(f'{repaired:,} years cut to three digits were repaired by the weekday')
    if start_date is not None and abs(times[0] - (_start(start_date) or 0)) > 180 * 86400:
      diagnosis.note('no year of that weekday is within half a year of --start_date')
  return times


def _start(date: datetime.date | None) -> float | None:
  if date is None:
    return None
  return datetime.datetime(date.year, date.month, date.day, tzinfo=datetime.UTC).timestamp()


def _counted_times(
  readings: list[Reading], names: list[str], diagnosis: Diagnosis, period_sec: float
) -> list[float]:
  """Times of a log that has none: a poll ends where a device comes again."""
  diagnosis.note(f'readings without a time: polls are {period_sec:g} s apart (--period_sec)')
  poll, seen = 0, set[tuple[str, str]]()
  times: list[float] = []
  for reading, name in zip(readings, names, strict=True):
    key = name, reading.process.get('pid', '')
    if key in seen:
      poll, seen = poll + 1, set[tuple[str, str]]()
    seen.add(key)
    times.append(poll * period_sec)
  return times


def _split(samples: list[Sample]) -> list[Session]:
  """Splits where time jumps; within a session rows may come in any order."""
  if not samples:
    return []
  steps = [b.time - a.time for a, b in itertools.pairwise(samples)]
  period = _period(samples)
  longest = max(_LEAST_GAP_SEC, _PERIODS * period)
  parts: list[list[Sample]] = [[samples[0]]]
  for step, sample in zip(steps, samples[1:], strict=True):
    if abs(step) > longest:
      parts.append([])
    parts[-1].append(sample)
  for part in parts:
    part.sort(key=lambda s: (s.time, _by_number(s.device)))
  return [Session(part, _period(part)) for part in parts]


def _period(samples: Iterable[Sample]) -> float:
  """Median distance of a device's samples."""
  last: dict[tuple[str, str], float] = {}
  steps: list[float] = []
  for sample in samples:
    key = sample.device, sample.process.get('pid', '')
    if key in last and sample.time > last[key]:
      steps.append(sample.time - last[key])
    last[key] = sample.time
  return statistics.median(steps) if steps else 0.0


def _by_number(name: str) -> tuple[str, int]:
  kind, _, number = name.rpartition('.')
  return kind, int(number)


def _natural(text: str) -> list[tuple[int, str]]:
  return [(int(part), '') if part.isdigit() else (0, part) for part in re.split(r'(\d+)', text)]
