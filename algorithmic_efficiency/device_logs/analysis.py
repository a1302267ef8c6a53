"""This file finds out of the power of devices when they worked, what they drew idle, and joules.

Nothing is set by hand: the idle power is found in each device's own samples, and a device that
never left it is named and left out.
"""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.telemetry.energy import Power

Samples = Sequence[tuple[float, float]]  # (seconds, watts), in the order of time
Phase = tuple[str, int | None, float, float]  # kind, epoch, begin, end

_LEAST_SWING_WATTS = (
  10.0  # a device whose power varies by less, or by less than a tenth, did nothing
)
_LEAST_SWING_SHARE = 0.1
_GAP_PERIODS = 5


@dataclass(frozen=True)
class Device:
  """What one device drew.

  Attributes:
    name: such as 'gpu.0'.
    idle_watts: found in its samples; None where it never left a level.
    begin, end: when it worked, in the samples' seconds; None where it did not.
    why_inactive: empty if it worked.
    gross_joules, net_joules: while it worked; net is without the idle power.
    mean_watts, max_watts: while it worked.
    coverage_percent: of that time, by samples that are close enough together.
  """

  name: str
  idle_watts: float | None
  begin: float | None = None
  end: float | None = None
  why_inactive: str = ''
  gross_joules: float = 0.0
  net_joules: float = 0.0
  mean_watts: float | None = None
  max_watts: float | None = None
  coverage_percent: float = 0.0


@dataclass
class System:
  """Devices that worked together on one run.

  Attributes:
    name: for people.
    devices: all of them.
    power: of each device that worked.
    phases: of the run, in the samples' seconds; empty where no log tells.
    notes: what had to be assumed.
    epochs: trained in all its 'train' phases, where those are not of an epoch each.
  """

  name: str
  devices: list[Device]
  power: dict[str, Power]
  phases: list[Phase] = field(default_factory=list[Phase])
  notes: list[str] = field(default_factory=list[str])
  epochs: float | None = None

  @property
  def active(self) -> list[Device]:
    """Those that worked."""
    return [device for device in self.devices if not device.why_inactive]

  @property
  def begin(self) -> float:
    """When the first of them began to work."""
    return min(d.begin for d in self.active if d.begin is not None)

  @property
  def end(self) -> float:
    """When the last of them ended."""
    return max(d.end for d in self.active if d.end is not None)

  def joules(self, begin: float, end: float) -> tuple[float, float, float]:
    """(gross, net, per cent covered) of all that worked, between two times."""
    gross = net = covered = 0.0
    for device in self.active:
      joules, seconds = self.power[device.name].joules(begin, end)
      gross += joules
      net += joules - (device.idle_watts or 0.0) * seconds
      covered += seconds
    span = (end - begin) * len(self.active)
    return gross, net, 100 * covered / span if span else 0.0


def analyse(name: str, samples: Mapping[str, Samples], phases: Sequence[Phase] = ()) -> System:
  """What the devices of one system drew; `phases` in the samples' seconds."""
  power: dict[str, Power] = {}
  devices: list[Device] = []
  for device, readings in samples.items():
    power[device] = _power(readings)
    devices.append(_device(device, readings, power[device]))
  return System(name, devices, power, list(phases))


def idle_power(watts: Sequence[float]) -> tuple[float, float] | None:
  """(idle watts, watts above which a device works), or None where it has only one level.

  Idle is the median of the lowest tenth of the range between the lowest and the highest power;
  the threshold lies above its scatter (six times the median absolute deviation) and above a
  twentieth of the range.
  """
  ordered = sorted(watts)
  low, high = _quantile(ordered, 0.02), ordered[-1]
  swing = high - low
  if swing < max(_LEAST_SWING_WATTS, _LEAST_SWING_SHARE * low):
    return None
  lowest = [value for value in ordered if value <= low + 0.1 * swing]
  idle = statistics.median(lowest)
  scatter = 1.4826 * statistics.median(abs(value - idle) for value in lowest)
  return idle, idle + max(6 * scatter, 0.05 * swing)


def align(system: System, durations: Sequence[tuple[str, int | None, float]]) -> None:
  """Puts a run's phases, which have no times, where the devices begin to work.

  Loading comes before; the difference between the phases' sum and the time worked is told.

  Args:
    system: gets the phases.
    durations: (kind, epoch, seconds), one after another.
  """
  at = system.begin - sum(seconds for kind, _, seconds in durations if kind == 'loaders_init')
  for kind, epoch, seconds in durations:
    system.phases.append((kind, epoch, at, at + seconds))
    at += seconds
  worked = system.end - system.begin
  told = at - system.begin
  system.notes.append(
    f'the run log has no times: its first epoch is put where the power rises; it tells of '
    f'{told:,.0f} s, the devices worked {worked:,.0f} s'
  )


def summary(system: System) -> dict[str, Any]:
  """Figures of a system; joules and watts, gross and net of idle."""
  content: dict[str, Any] = {
    'system': system.name,
    'devices': [vars(device) for device in system.devices],
    'inactive': {d.name: d.why_inactive for d in system.devices if d.why_inactive},
    'notes': system.notes,
  }
  if not system.active:
    return content
  gross, net, coverage = system.joules(system.begin, system.end)
  content |= {
    'active_sec': system.end - system.begin,
    'gross_joules': gross,
    'net_joules': net,
    'coverage_percent': round(coverage, 2),
    'idle_watts': sum(d.idle_watts or 0.0 for d in system.active),
  }
  train = [(epoch, begin, end) for kind, epoch, begin, end in system.phases if kind == 'train']
  epochs: list[dict[str, Any]] = []
  for epoch, begin, end in train:
    gross, net, coverage = system.joules(begin, end)
    epochs.append({'epoch': epoch, 'sec': end - begin, 'gross_joules': gross, 'net_joules': net,
                   'coverage_percent': round(coverage, 2)})  # fmt: skip
  if system.epochs:  # slices of training, as a run of ours marks them
    for name in ('gross_joules', 'net_joules'):
      content[f'{name}_per_epoch'] = sum(part[name] for part in epochs) / system.epochs
    return content | {'epochs_trained': system.epochs}
  rest = [epoch for epoch in epochs if epoch['epoch'] != 1]
  content['epochs'] = epochs
  for name in ('gross_joules', 'net_joules'):
    if rest:
      content[f'{name}_per_epoch'] = statistics.fmean(epoch[name] for epoch in rest)
  return content


def told(summary: Mapping[str, Any]) -> list[str]:
  """A summary as lines for people."""
  lines: list[str] = []
  lines.append(f'{summary["system"]}:')
  for name, why in summary['inactive'].items():
    lines.append(f'  {name} is left out: {why}')
  if 'gross_joules' not in summary:
    lines.append('  no device worked')
    return lines
  lines.append(f'  worked {summary["active_sec"]:,.0f} s; {summary["gross_joules"]:,.0f} J gross, '
        f'{summary["net_joules"]:,.0f} J net of {summary["idle_watts"]:.0f} W idle; '
        f'samples cover {summary["coverage_percent"]:g} %')  # fmt: skip
  if 'gross_joules_per_epoch' in summary:
    lines.append(f'  {summary["gross_joules_per_epoch"]:,.0f} J gross, '
          f'{summary["net_joules_per_epoch"]:,.0f} J net an epoch'
          f'{"" if "epochs_trained" in summary else ", the first apart"}')  # fmt: skip
  for note in summary['notes']:
    lines.append(f'  note: {note}')
  return lines


def _power(samples: Samples) -> Power:
  steps = [b[0] - a[0] for a, b in itertools.pairwise(samples) if b[0] > a[0]]
  period = statistics.median(steps) if steps else 1.0
  power = Power(_GAP_PERIODS * period)
  for time, watts in samples:
    power.add(time, watts)
  return power


def _device(name: str, samples: Samples, power: Power) -> Device:
  watts = [value for _, value in samples]
  found = idle_power(watts)
  if found is None:
    why = f'its power stayed between {min(watts):g} and {max(watts):g} W'
    return Device(name, None, why_inactive=why)
  idle, threshold = found
  above = [time for time, value in samples if value > threshold]
  if len(above) < 2:
    return Device(name, idle, why_inactive=f'only {len(above)} sample was above {threshold:.0f} W')
  begin, end = above[0], above[-1]
  joules, covered = power.joules(begin, end)
  during = [value for time, value in samples if begin <= time <= end]
  mean = joules / covered if covered else None
  coverage = round(100 * covered / (end - begin), 2)
  net = joules - idle * covered
  return Device(name, idle, begin, end, '', joules, net, mean, max(during), coverage)


def _quantile(ordered: Sequence[float], share: float) -> float:
  return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
