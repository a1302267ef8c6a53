"""This file draws what the hardware did during a trial, over its phases.

Reads telemetry.jsonl and phases.jsonl of the trial. Samples are shown as they were taken; a gap of
more than five periods stays a gap.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.records.tables import read_jsonl
from algorithmic_efficiency.report import scales
from algorithmic_efficiency.report.contents import Run
from algorithmic_efficiency.report.figure import (
  PHASES,
  Axis,
  Figure,
  Line,
  Numbers,
  Shade,
  file_name,
)

_GAP_PERIODS = 5
_GIB = 2.0**30
_MOST_DEVICES = 16  # more curves than that in one chart tell nobody anything


@dataclass(frozen=True)
class _Quantity:
  """A chart: the columns it shows, its axis, and how many of the column's units are one of it."""

  name: str
  title: str
  label: str
  columns: str
  per_unit: float = 1.0
  high: float | None = None


_QUANTITIES = (
  _Quantity('device_busy', 'Devices: busy', 'share of time [%]',
            r'(?P<who>[gh]pu\.\d+)\.compute\.util', 0.01, 100.0),
  _Quantity('device_memory', 'Devices: memory in use', 'GiB',
            r'(?P<who>[gh]pu\.\d+)\.mem\.used', 1024.0),
  _Quantity('power', 'Devices: power', 'W', r'(?P<who>[gh]pu\.\d+)\.power\.watts'),
  _Quantity('temperature', 'Devices: temperature', '°C',
            r'(?P<who>[gh]pu\.\d+)\.temp\.current'),
  _Quantity('cpu_busy', 'Processors of the machine: busy', 'share of time [%]',
            r'cpu\.util\.avg_percent_since_last', 1.0, 100.0),
  _Quantity('job_memory', 'Memory of the job’s processes', 'GiB', r'proc\.rss_bytes', _GIB),
)  # fmt: skip


@dataclass(frozen=True)
class Hardware:
  """What a trial's telemetry shows.

  Attributes:
    figures: one for each quantity there is.
    phases: those shaded.
    absent: why charts that a reader may look for are not there.
  """

  figures: tuple[Figure, ...]
  phases: tuple[str, ...]
  absent: str = ''


def of_trial(folder: TrialFolder, name: str) -> Hardware | None:
  """The charts of a trial; None where it has no telemetry. Raises UsageError for a broken file."""
  if not folder.telemetry.exists():
    return None
  lines = read_jsonl(folder.telemetry)
  samples = [line for line in lines if line.get('kind') == 'sample']
  if len(samples) < 2:
    return None
  begins = [line for line in lines if line.get('kind') == 'begin']
  start = _float(samples[0], 'time')
  end = max(_float(sample, 'time') for sample in samples) - start
  shades = _shades(folder.phases, begins, samples, start)
  size, unit = scales.time_unit(end)
  x = Axis(f'time since the first sample [{unit}]', 0.0, end / size or 1.0)
  scaled = tuple(Shade(s.kind, s.begin / size, s.end / size) for s in shades)
  figures = [
    figure
    for quantity in _QUANTITIES
    if (figure := _figure(quantity, samples, start, size, x, scaled, name)) is not None
  ]
  return Hardware(tuple(figures), tuple(shade.kind for shade in shades), _absent(begins))


def _float(line: Mapping[str, object], key: str) -> float:
  return float(cast(float, line[key]))


def _absent(begins: Sequence[Mapping[str, object]]) -> str:
  if not begins or begins[-1].get('devices'):
    return ''
  absent = begins[-1].get('absent')
  told = cast('dict[str, object]', absent) if isinstance(absent, dict) else {}
  reasons = '; '.join(f'{device}: {reason}' for device, reason in told.items())
  return f'No accelerator was sampled{f" ({reasons})" if reasons else ""}.'


def _figure(
  quantity: _Quantity, samples: Sequence[Mapping[str, object]], start: float, size: float,
  x: Axis, shades: tuple[Shade, ...], name: str,
) -> Figure | None:  # fmt: skip
  pattern = re.compile(quantity.columns)
  names = sorted({key for sample in samples for key in sample if pattern.fullmatch(key)},
                 key=_by_number)  # fmt: skip
  lines = list[Line]()
  for column in names[:_MOST_DEVICES]:
    having = [sample for sample in samples if column in sample and sample[column] is not None]
    times = np.array([_float(sample, 'time') - start for sample in having])
    values = np.array([_float(sample, column) for sample in having]) / quantity.per_unit
    match = pattern.fullmatch(column)
    who = match['who'] if match and 'who' in pattern.groupindex else ''
    if len(times) > 1:
      tip = f'{who or quantity.title}: mean {scales.number(float(values.mean()))}'
      gapped = _with_gaps(times, values)
      label = who if 1 < len(names) <= 4 else ''
      lines.append(Line(gapped[0] / size, gapped[1], None, label, tip))
  if not lines:
    return None
  top = quantity.high or scales.limits([0.0, *(float(np.nanmax(ln.y)) for ln in lines)])[1]
  means = ', '.join(line.tip for line in lines[:4])
  return Figure(
    file_name('hardware', name, quantity.name), quantity.title,
    f'{quantity.title} during {name}. {means}.', x, Axis(quantity.label, 0.0, top), tuple(lines),
    shades=shades, about=name,
  )  # fmt: skip


def _by_number(name: str) -> tuple[list[int], str]:
  return [int(digits) for digits in re.findall(r'\d+', name)], name


def _with_gaps(times: Numbers, values: Numbers) -> tuple[Numbers, Numbers]:
  """Puts a NaN where samples are missing."""
  steps = np.diff(times)
  holes = np.flatnonzero(steps > _GAP_PERIODS * float(np.median(steps))) + 1
  return np.insert(times, holes, np.nan), np.insert(values, holes, np.nan)


def _shades(
  path: Path, begins: Sequence[Mapping[str, object]], samples: Sequence[Mapping[str, object]],
  start: float,
) -> list[Shade]:  # fmt: skip
  """The bench's own phases, on the time of the samples."""
  if not path.exists() or not begins:
    return []
  to_time = _clock(begins, samples)
  spans: dict[str, list[tuple[float, float]]] = {kind: [] for kind in PHASES}
  for line in read_jsonl(path):
    kind = str(line.get('phase'))
    if kind in spans:
      begin, end = _float(line, 'begin'), _float(line, 'end')
      ahead = to_time(begin) - start
      spans[kind].append((begin + ahead, end + ahead))
  return [
    Shade(kind, np.array([b for b, _ in found]), np.array([e for _, e in found]))
    for kind, found in spans.items()
    if found
  ]


def _clock(
  begins: Sequence[Mapping[str, object]], samples: Sequence[Mapping[str, object]]
) -> Callable[[float], float]:
  """From the monotonic clock to seconds to add to it, which a restart of the machine changes."""
  sessions = list[tuple[float, float, float]]()
  for begin in begins:
    ahead = _float(begin, 'time') - _float(begin, 'monotonic_sec')
    own = [_float(s, 'monotonic_sec') for s in samples
           if abs(_float(s, 'time') - _float(s, 'monotonic_sec') - ahead) < 1.0]  # fmt: skip
    if own:
      sessions.append((min(own) - 60.0, max(own) + 60.0, ahead))
  last = _float(begins[-1], 'time') - _float(begins[-1], 'monotonic_sec')

  def ahead_of(monotonic_sec: float) -> float:
    return next((a for low, high, a in sessions if low <= monotonic_sec <= high), last)

  return ahead_of


def _length_sec(run: Run) -> float:
  return float(run.seconds[-1]) if len(run.seconds) else 0.0


def choose(runs: Sequence[Run], most: int) -> tuple[list[Run], int]:
  """The runs to show, and how many are left out.

  First the longest of every submission and workload, then of every one again the next, so that
  none is shown twice before all are shown once.
  """
  groups: dict[tuple[str, str], list[Run]] = {}
  for run in sorted(runs, key=lambda r: (-_length_sec(r), r.study, r.number)):
    groups.setdefault((run.submission, run.workload), []).append(run)
  ordered = [
    (place, number, run)
    for number, group in enumerate(groups.values())
    for place, run in enumerate(group)
  ]
  ordered.sort(key=lambda entry: entry[:2])
  return [run for _, _, run in ordered[:most]], max(len(ordered) - most, 0)
