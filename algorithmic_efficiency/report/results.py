"""This file draws the results: leaderboard, profiles, times to target, learning curves."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence

import numpy as np

from algorithmic_efficiency.report import palette, scales
from algorithmic_efficiency.report.contents import (
  Contents,
  Goal,
  Interval,
  Run,
  Standing,
  Time,
)
from algorithmic_efficiency.report.figure import (
  Axis,
  Band,
  Figure,
  Line,
  Numbers,
  Points,
  Rule,
  file_name,
)
from algorithmic_efficiency.report.markup import Child, element
from algorithmic_efficiency.report.tables import Cell, Column, Table

_EARLY_SHARE = 0.1  # of what is shown: what a metric did before it does not set the axis
MOST_BANDS = 6  # more of them on top of each other are mud
_ROOM = 1.3  # after the last trial that counts has met its target


def mark(series: int) -> ET.Element:
  """A submission's line, as in the charts, to stand before its name."""
  line = element('path', d='M1 5h20', class_=f'line {palette.classes(series)}')
  return element('svg', line, viewBox='0 0 22 10', class_='mark', aria_hidden='true')


def verdict(contents: Contents) -> str:
  """One sentence: who won, and how sure that is."""
  standings = contents.standings
  if not standings:
    return 'There is no submission here.'
  first = standings[0]
  if first.num_targets == 0:
    return 'No submission reached a target.'
  leaders = [s.submission for s in standings if s.rank.value == first.rank.value]
  if len(leaders) > 1:
    return f'{_listed(leaders)} share the first place with a score of {first.score.value:.3f}.'
  score = f'{first.submission} leads with a score of {first.score.value:.3f}'
  if len(standings) == 1:
    return f'{score}; nothing is here to compare it with.'
  if first.share_first is None:
    return f'{score}; how sure that is cannot be said from single studies.'
  sure = f'and stays first in {_share(first.share_first)} of resampled studies'
  rivals = [s.submission for s in standings[1:] if s.rank.low is not None and s.rank.low < 1.5]
  if rivals:
    others = _listed(rivals if len(rivals) <= 2 else [f'{len(rivals)} others'])
    return f'{score} {sure}; {others} may be first as well.'
  return f'{score} {sure}.'


def _share(share: float) -> str:
  if share < 0.995:
    return scales.percent(share)
  return 'all' if share == 1.0 else f'more than {scales.percent(0.99)}'


def _listed(names: Sequence[str]) -> str:
  return names[0] if len(names) == 1 else f'{", ".join(names[:-1])} and {names[-1]}'


def leaderboard(contents: Contents) -> Table:
  """Scores and ranks with their intervals."""
  of = f'against {contents.reference}' if contents.reference else ''
  columns = [
    Column('rank', 'Rank', number=True),
    Column('rank_low', ''), Column('rank_high', ''),
    Column('submission', 'Submission'),
    Column('score', 'Score', number=True, help='normalised area under the performance profile'),
    Column('score_low', ''), Column('score_high', ''),
    Column('share_first', 'First', number=True, help='share of resampled studies it is first in'),
    Column('interval', 'Score and 95 % interval, from 0 to 1'),
    Column('speedup', 'Speed-up', number=True, help=f'geometric mean over workloads {of}'.strip()),
    Column('speedup_low', ''), Column('speedup_high', ''),
    Column('num_targets', 'Targets', number=True, help='workloads whose target it reached'),
    Column('hours', 'Run time', number=True, help='of all its trials, evaluations included'),
    Column('device_hours', 'Device time', number=True, help='the same, times devices'),
  ]  # fmt: skip
  caption = 'Small print: 95 % intervals.'
  if contents.reference and any(one.speedup for one in contents.standings):
    caption += f' Speed-up: over {contents.reference}, above 1 is faster.'
  table = Table('leaderboard', caption, columns)
  total = sum(goal.counts for goal in contents.goals.values())
  for series, one in enumerate(contents.standings):
    table.rows.append(_standing_row(series, one, total))
  return table


def _standing_row(series: int, one: Standing, total: int) -> list[Cell]:
  speedup, first = one.speedup, one.share_first
  return [
    Cell(int(one.rank.value), [f'{one.rank.value:.0f}', _range(one.rank, '.0f')]),
    Cell(one.rank.low), Cell(one.rank.high),
    Cell(one.submission, [mark(series), one.submission], 'name-cell'),
    Cell(one.score.value, [f'{one.score.value:.3f}', _range(one.score, '.3f')], 'best'),
    Cell(one.score.low), Cell(one.score.high),
    Cell(first, '–' if first is None else scales.percent(first)),
    Cell('', _bar(series, one.score)),
    Cell(speedup and speedup.value,
         '–' if speedup is None else [f'{speedup.value:.2f}×', _range(speedup, '.2f')]),
    Cell(speedup and speedup.low), Cell(speedup and speedup.high),
    Cell(one.num_targets, f'{one.num_targets} of {total}'),
    Cell(one.hours, scales.duration(3600 * one.hours)),
    Cell(one.device_hours,
         '–' if one.device_hours is None else scales.duration(3600 * one.device_hours)),
  ]  # fmt: skip


def _range(interval: Interval, form: str) -> ET.Element | None:
  if interval.low is None or interval.high is None:
    return None
  first, last = format(interval.low, form), format(interval.high, form)
  return element('span', first if first == last else f'{first} – {last}', class_='sub')


def _bar(series: int, score: Interval) -> ET.Element:
  def at(value: float) -> str:
    return f'{4 + 232 * min(max(value, 0.0), 1.0):.1f}'

  classes = palette.classes(series)
  parts = [element('line', x1='4', x2='236', y1='8', y2='8', class_='track')]
  if score.low is not None and score.high is not None:
    ends = {'x1': at(score.low), 'x2': at(score.high)}
    parts.append(element('line', y1='8', y2='8', class_=f'interval {classes}', **ends))
  parts.append(element('circle', cx=at(score.value), cy='8', r='4', class_=f'dot {classes}'))
  return element('svg', *parts, viewBox='0 0 240 16', class_='score-bar', aria_hidden='true')


def profiles(contents: Contents) -> Figure | None:
  """Performance profiles (Dolan and Moré 2002), or None where scoring made none."""
  if not contents.profiles or not len(contents.taus):
    return None
  taus = contents.taus
  several = sum(goal.counts for goal in contents.goals.values()) > 1  # a band of one is a box
  lines, bands = list[Line](), list[Band]()
  for series, name in enumerate(contents.submissions):
    if name in contents.profiles:
      curve = contents.profiles[name]
      first, last = (scales.percent(float(rho)) for rho in curve.rho[[0, -1]])
      tip = f'{name}: fastest on {first} of the workloads, in reach of the fastest on {last}'
      lines.append(Line(taus, curve.rho, series, label=name, tip=tip, stairs=True))
      if several and series < MOST_BANDS and curve.low is not None and curve.high is not None:
        bands.append(Band(taus, curve.low, curve.high, series))
  shares = '; '.join(f'{ln.label} {scales.percent(float(ln.y[-1]))}' for ln in lines)
  return Figure(
    'performance_profiles', 'Performance profiles',
    f'Performance profiles. Share of workloads reached at the largest factor: {shares}.',
    Axis('τ: time as a multiple of the fastest', taus[0], taus[-1]),
    Axis('share of workloads', -0.02, 1.02), tuple(reversed(lines)), tuple(bands),
  )  # fmt: skip


def times(contents: Contents) -> Table:
  """Time to target of each submission on each workload; the fewer of the two go across."""
  goals, names = contents.goals, contents.submissions
  workloads = [(w, Cell(w, _named(w, g), 'name-cell'), _target(g)) for w, g in goals.items()]
  submissions = [
    (name, Cell(name, [mark(series), name], 'name-cell')) for series, name in enumerate(names)
  ]
  found = {(name, w): contents.times.get((name, w)) for name in names for w in goals}
  best = {
    w: min((t.seconds for n in names if (t := found[n, w]) is not None), default=math.inf)
    for w in goals
  }  # fmt: skip

  def cells(name: str, workload: str) -> list[Cell]:
    least = best[workload]
    return _time_cells(found[name, workload], least, scales.clock_unit(least))

  down = len(names) > len(goals)
  if down:
    columns = [Column('submission', 'Submission')]
    across = [(w, f'{w}: {target}') for w, _, target in workloads]
    rows = [[head, *(c for w in goals for c in cells(name, w))] for name, head in submissions]
  else:
    columns = [Column('workload', 'Workload'), Column('metric', 'Target')]
    across = [(name, name) for name in names]
    rows = [
      [head, Cell(target), *(c for name in names for c in cells(name, w))]
      for w, head, target in workloads
    ]
  for key, title in across:
    columns.append(Column(f'{key}: seconds', title, number=True))
    columns += [Column(f'{key}: {what}', '') for what in
                ('seconds before rules', 'smallest', 'largest', 'reached', 'studies')]  # fmt: skip
  return Table('times_to_target', _TIMES_CAPTION, columns, list(rows))


_TIMES_CAPTION = (
  'Median over studies of the submission time to the target. Below it: the fastest and the slowest '
  'study that reached it, and how many of all did. Bold: the fastest on the workload. Struck '
  'through: does not count, as it took over four times as long as the fastest, or as only one of a '
  'workload and its held-out variant was reached.'
)


def _named(workload: str, goal: Goal) -> list[Child]:
  kind = '' if goal.counts else 'held out' if goal.held_out else 'not scored'
  return [workload, element('span', kind, class_='sub')] if kind else [workload]


def _target(goal: Goal) -> str:
  if goal.value is None:
    return f'{goal.metric}, no target known'
  return f'{goal.metric} {"≥" if goal.rising else "≤"} {scales.number(goal.value, 5)}'


def _time_cells(time: Time | None, best: float, unit: tuple[float, str]) -> list[Cell]:
  if time is None or not len(time.studies_sec):
    return [Cell(None, 'no runs', 'none'), *[Cell(None)] * 5]
  reached = [t for t in time.studies_sec if math.isfinite(t)]
  count = f'{len(reached)}/{len(time.studies_sec)}'
  size, name = unit
  values = [time.measured_sec, min(reached, default=None), max(reached, default=None),
            len(reached), len(time.studies_sec)]  # fmt: skip
  others = [Cell(_finite(value)) for value in values]
  if not reached:
    below = element('span', count, class_='sub')
    return [Cell(None, ['not reached', below], 'none'), *others]
  low, high = (scales.number(t / size, zeros=True) for t in (min(reached), max(reached)))
  spread = f'{low} – {high} · {count}' if len(reached) > 1 else f'{low} · {count}'
  below = element('span', spread, class_='sub')
  if math.isfinite(time.seconds):
    class_ = 'best' if time.seconds == best else ''
    text = f'{scales.number(time.seconds / size, zeros=True)} {name}'
    return [Cell(time.seconds, [text, below], class_), *others]
  if math.isfinite(time.measured_sec):
    text = f'{scales.number(time.measured_sec / size, zeros=True)} {name}'
    struck = element('s', text, title='does not count by the rules of the score')
    return [Cell(None, [struck, below], 'none'), *others]
  return [Cell(None, ['not reached', below], 'none'), *others]


def _finite(value: float | None) -> float | None:
  return value if value is not None and math.isfinite(value) else None


def learning_curves(contents: Contents) -> Iterator[Figure]:
  """A chart for each workload: the validation metric over the submission time."""
  for workload, goal in contents.goals.items():
    runs = [run for run in contents.runs if run.workload == workload and len(run.seconds)]
    if runs:
      yield _learning_curve(workload, goal, runs, contents)


def _learning_curve(workload: str, goal: Goal, runs: list[Run], contents: Contents) -> Figure:
  longest = max(float(np.nanmax(run.seconds)) for run in runs)
  shown = _shown_sec(runs, longest)
  size, unit = scales.time_unit(shown)
  lines, points = list[Line](), list[Points]()
  for series, name in enumerate(contents.submissions):
    mine = [run for run in runs if run.submission == name]
    others = [run for run in mine if not run.chosen]
    if others:
      lines.append(_joined(others, series, size, name))
    for run in mine:
      if run.chosen:
        lines.append(Line(run.seconds / size, run.values, series, tip=_tip(run, goal)))
    reached = [run for run in mine if run.chosen and math.isfinite(run.reached_sec)]
    if reached:
      points.append(_reaching(reached, series, size, goal))
  reaching = len({run.submission for run in runs if math.isfinite(run.reached_sec)})
  tried = scales.count(len({run.submission for run in runs}), 'submission')
  return Figure(
    file_name('learning_curves', workload), workload,
    f'{goal.metric} over submission time on {workload}: {len(runs)} trials of {tried}, '
    f'of which {reaching} reached the target.',
    Axis(f'submission time [{unit}]', 0.0, shown / size), _metric_axis(goal, runs, shown),
    tuple(lines), (), tuple(points),
    () if goal.value is None else (Rule(goal.value, f'target {scales.number(goal.value, 5)}'),),
    names=tuple((i, name) for i, name in enumerate(contents.submissions)
                if any(run.submission == name for run in runs)),
    note=scales.count(len(runs), 'trial')
    + (f'; the longest goes on to {scales.duration(longest)}' if longest > shown else ''),
  )  # fmt: skip


def _shown_sec(runs: list[Run], longest: float) -> float:
  """Where the axis ends: a little after the last that counts, as others may go on for long."""
  ends = [run.reached_sec if math.isfinite(run.reached_sec) else longest
          for run in runs if run.chosen]  # fmt: skip
  return min(max(ends, default=longest) * _ROOM, longest * 1.02) or 1.0


def _joined(runs: list[Run], series: int, size: float, name: str) -> Line:
  """Many trials as one curve with gaps: one element on the page instead of hundreds."""
  gap = np.array([np.nan])
  x = np.concatenate([part for run in runs for part in (run.seconds / size, gap)])
  y = np.concatenate([part for run in runs for part in (run.values, gap)])
  tip = f'{name}: {scales.count(len(runs), "trial")} that their studies do not count'
  return Line(x, y, series, tip=tip, faint=True)


def _tip(run: Run, goal: Goal) -> str:
  if math.isfinite(run.reached_sec):
    return f'{run.name}: target after {scales.duration(run.reached_sec)}'
  values = run.values[np.isfinite(run.values)]
  if not len(values):
    return f'{run.name}: no finite {goal.metric}'
  best = float(values.max() if goal.rising else values.min())
  return f'{run.name}: not reached, best {goal.metric} {scales.number(best, 4)}'


def _reaching(runs: list[Run], series: int, size: float, goal: Goal) -> Points:
  x = np.array([run.reached_sec for run in runs])
  y = np.array([float(run.values[np.searchsorted(run.seconds, run.reached_sec)])
                if run.reached_sec <= run.seconds[-1] else math.nan for run in runs])  # fmt: skip
  return Points(x / size, y, tuple(_tip(run, goal) for run in runs), series)


def _metric_axis(goal: Goal, runs: list[Run], shown_sec: float) -> Axis:
  """Limits that show the target and what came after the first tenth of what is shown.

  First evaluations are of networks that have hardly begun, and do not count here.
  """
  late: list[Numbers] = [
    run.values[1:][(run.seconds[1:] >= _EARLY_SHARE * shown_sec) & (run.seconds[1:] <= shown_sec)]
    for run in runs
  ]
  values = np.concatenate(late)
  values = values[np.isfinite(values)]
  if len(values):
    low, high = np.quantile(values, [0.01, 0.99])
    best = float(values.max() if goal.rising else values.min())
    values = np.array([low, high, best])
  shown = [*values, *([] if goal.value is None else [goal.value])]
  # What rises, such as an accuracy, is told in equal steps; a loss may span powers of ten.
  log = False if goal.rising else None
  return scales.axis_of(f'validation {goal.metric}', [float(v) for v in shown], log)
