"""This file analyses a trace as a whole: one pass for all tables, a second for the heat map."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace import heat_map, rebin, reuse_distance, working_set
from algorithmic_efficiency.memory_trace.backends import REGION
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.heat_map import HeatMap
from algorithmic_efficiency.memory_trace.reuse_distance import ReuseDistances
from algorithmic_efficiency.memory_trace.trace_file import Trace
from algorithmic_efficiency.memory_trace.windows import Windows

PARTS = (0.5, 0.9, 0.95, 0.99)  # of the reuses; as MemSnoop's notebooks tell
REBIN = (1, 2, 5, 10, 20, 40)
_MIB = 2**20


@dataclass
class Options:
  """What is asked of an analysis.

  Attributes:
    filters: what a mapping must satisfy.
    rebin: windows that are joined; None: those of REBIN, where that can be done.
    rebin_steps: training steps whose windows are joined.
    rate: part of the units of which reuse is followed.
    start_up: windows that are no steady state; None: half of them.
    heat_map: whether one is made, for it takes a second pass.
  """

  filters: Sequence[Filter] = ()
  rebin: Sequence[int] | None = None
  rebin_steps: Sequence[int] = ()
  rate: float = 1.0
  start_up: int | None = None
  heat_map: bool = True


@dataclass
class Analysis:
  """What was found in a trace.

  Attributes:
    header: the trace's.
    whole: whether it has its end.
    rows: a window each.
    steady: index of the first one after the start-up.
    unit_bytes: None where units are not told.
    reuse: None where it cannot be told.
    rebinned, filters: tables.
    heat_map: None where units are not told.
    allocators: an accelerator's memory in bytes, at seconds since the first window began.
    notes: sentences on what is missing, and why.
  """

  header: dict[str, Any]
  whole: bool
  rows: list[working_set.Row]
  steady: int
  unit_bytes: int | None
  reuse: ReuseDistances | None
  rebinned: list[dict[str, Any]]
  filters: list[dict[str, Any]]
  heat_map: HeatMap | None = None
  allocators: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
  notes: list[str] = field(default_factory=list[str])


def analyse(trace: Trace, options: Options) -> Analysis:
  """Analyses a trace.

  Raises UsageError where it is damaged or cannot tell what is asked, MeasurementError where it has
  no windows.
  """
  windows = Windows(trace, options.filters)
  rows = working_set.WorkingSets()
  seen = heat_map.Seen()
  reuse = ReuseDistances(options.rate)
  joined = [rebin.by_count(count) for count in (REBIN if options.rebin is None else options.rebin)]
  joined += [rebin.by_steps(steps) for steps in options.rebin_steps]
  told_units = estimated = False
  for joint in windows:
    row = rows.add(joint)
    if joint.index == 0:
      told_units = joint.runs is not None
      estimated = trace.header.get('granularity') == REGION
      _refuse(trace, options, told_units and not estimated)
    if told_units != (joint.runs is not None):
      raise UsageError(
        f'{str(trace.path)!r} tells units in some windows and none in window {row.window}; it is '
        'damaged, cut the file there to read what is before.'
      )
    if joint.runs is None:
      continue
    if options.heat_map:
      seen.add(joint, windows.pids)
    if not estimated:
      recency = reuse.add_runs(joint.runs)
      for each in joined:
        each.add(row, recency, windows.unit_bytes / options.rate)
  if not rows.rows:
    raise MeasurementError(
      f'{str(trace.path)!r} has no windows; the process ended before the first one, trace it for '
      'longer.'
    )
  steady = working_set.steady_from(rows.rows, options.start_up)
  exact = told_units and not estimated
  found = Analysis(
    trace.header,
    trace.end is not None,
    rows.rows,
    steady,
    windows.unit_bytes if told_units else None,
    reuse if exact else None,
    rebin.lengths(joined, steady) if exact else [],
    working_set.filter_table(rows.rows, steady),
  )
  if told_units and options.heat_map:
    found.heat_map = heat_map.heat_map(seen, windows, windows.unit_bytes)
  found.allocators = list(_allocators(trace, rows.begin_ns))
  found.notes = list(_notes(found, told_units, options.rate))
  return found


def _allocators(trace: Trace, begin_ns: int) -> Iterator[dict[str, Any]]:
  """What the run told of its accelerators' memory, on the time axis of the windows."""
  for line in trace.lines('allocator'):
    yield {
      'sec': round((line['ns'] - begin_ns) / 1e9, 4),
      'step': line.get('step'),
      **{name: line.get(name) for name in ('device', 'in_use', 'peak', 'reserved')},
    }


def summary(found: Analysis) -> dict[str, Any]:
  """As in summary.json."""
  told = {
    'trace': {key: value for key, value in found.header.items() if key not in ('kind', 'format')},
    'whole': found.whole,
    **working_set.summary(found.rows, found.steady),
  }
  if found.reuse is not None and found.unit_bytes is not None:
    size, reuse = found.unit_bytes, found.reuse
    told['unit_bytes'] = size
    told['unique_bytes'] = reuse.unique * size
    told['reuse'] = {
      'rate': reuse.rate,
      'touches': round((reuse.cold + reuse.reuses) / reuse.rate),
      'cold': round(reuse.cold / reuse.rate),
      'reuses': round(reuse.reuses / reuse.rate),
      'within_a_window': 'not observed',
      'memory_for_bytes': {
        f'{part:.0%}': None if bounds is None else [bound * size for bound in bounds]
        for part in PARTS
        for bounds in [reuse_distance.memory_for(reuse, part)]
      },
    }
  return {**told, 'notes': found.notes}


def told(name: str, summary: dict[str, Any]) -> list[str]:
  """A summary in lines for people."""
  every, late = summary['working_set_bytes'], summary['steady_working_set_bytes']
  count, trace = summary['windows'], summary['trace']
  lines = [
    f'{name}: {count} windows of {summary["window_sec"]:g} s, '
    f'{summary["paused_part"]:.1%} of the time paused '
    f'({1000 * summary["paused_median_sec"]:.1f} ms each)'
    + (f', {summary["processes"]} processes' if summary['processes'] > 1 else '')
    + (f'; backend {trace["backend"]}' if 'backend' in trace else ''),
    f'  virtual     {_mib(summary["virtual_bytes"]["mean"])} MiB mean',
    f'  resident    {_mib(summary["resident_bytes"]["mean"])} MiB mean',
    f'  working set {_mib(late["mean"])} MiB mean, {_spread(late)}, steady: from window '
    f'{summary["steady_from_window"]} ({summary["steady_from_sec"]:g} s) on',
    f'              {_mib(every["mean"])} MiB mean, {_spread(every)}, with the start-up',
  ]
  regions = {name: size for name, size in summary['regions_bytes'].items() if size}
  most = sorted(regions.items(), key=lambda pair: -pair[1])
  lines.append('  steady, by region: ' + ', '.join(f'{n} {_mib(s).strip()}' for n, s in most)
               + ' MiB')  # fmt: skip
  if 'reuse' in summary:
    reuse = summary['reuse']
    lines.append(
      f'  ever touched {_mib(summary["unique_bytes"]).strip()} MiB; {reuse["touches"]:,} touches '
      f'of {summary["unit_bytes"] // 1024} KiB, {reuse["reuses"]:,} of them reuses'
    )
    for part, bounds in reuse['memory_for_bytes'].items():
      if bounds is not None:
        low, high = (_mib(bound).strip() for bound in bounds)
        lines.append(f'  {part} of the reuses within {low} to {high} MiB')
  return lines + [f'  note: {note}' for note in summary['notes']]


def _refuse(trace: Trace, options: Options, exact: bool) -> None:
  """What was asked for by name must be possible."""
  asked = (options.rebin is not None and set(options.rebin) != {1}) or options.rebin_steps
  if asked and not exact:
    raise rebin.needs_units(trace.header.get('granularity', 'mapping'), trace.path)


def _notes(found: Analysis, told_units: bool, rate: float) -> Iterator[str]:
  if not found.whole:
    last = found.rows[-1]
    yield (
      f'the trace is cut off (the tracer was killed or still runs); it is read up to window '
      f'{last.window}, {last.end_sec:.1f} s.'
    )
  if found.reuse is None and told_units:
    yield (
      'regions are found by sampling, so that there are no reuse distances and no longer windows; '
      'sizes are estimates.'
    )
  elif found.reuse is None:
    yield (
      'it is told how much of each mapping was touched and not which pages, so that there are no '
      'reuse distances, no longer windows and no heat map.'
    )
  if found.reuse is not None and not found.reuse.reuses:
    yield 'nothing was touched in a second window, so that there are no reuse distances.'
  if huge := max(row.huge for row in found.rows):
    yield (
      f'{_mib(huge).strip()} MiB are in huge pages: a single touch marks 512 pages, so working '
      'sets are upper bounds; turn huge pages off for the process to see pages.'
    )
  if any(row.unplaced for row in found.rows) and told_units:
    mean = sum(row.unplaced for row in found.rows) / len(found.rows)
    yield (
      f'{_mib(mean).strip()} MiB a window were touched at places that are not known: they are in '
      'the working set, but not in reuse, longer windows or the heat map.'
    )
  if rate != 1 and found.reuse is not None:
    yield f'reuse and longer windows are estimated from {rate:g} of the units.'
  change = working_set.drift(found.rows[found.steady :])
  if change is not None and abs(change) > 0.1:
    yield (
      f'the working set of what is called steady changes by {change:+.0%} between its halves; '
      'say with --steady how many windows the start-up took.'
    )


def _mib(size: float) -> str:
  return f'{size / _MIB:8,.1f}'


def _spread(sizes: dict[str, float]) -> str:
  low, middle, high, most = (_mib(sizes[key]).strip() for key in ('p5', 'median', 'p95', 'max'))
  return f'median {middle} (5 to 95 %: {low} to {high}), max {most}'
