"""This file shows what each hyperparameter did: over trials, and as a rank correlation.

Spearman's coefficient (1904) over the trials of one submission on one workload, of all its studies.
A trial that never reached the target ranks behind all that did. p-values are told from ten trials
on, and are not corrected for how many were looked at.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from algorithmic_efficiency.report import scales
from algorithmic_efficiency.report.contents import Contents, Goal, Run
from algorithmic_efficiency.report.figure import Axis, Figure, Numbers, Points, Rule, file_name
from algorithmic_efficiency.report.tables import Cell, Column, Table
from algorithmic_efficiency.scoring.effects import rank_correlation

_LEAST_FOR_P = 10
_SURE_P = 0.05
_MOST_CATEGORIES = 8


@dataclass(frozen=True)
class Effect:
  """One hyperparameter of one submission on one workload.

  Attributes:
    runs: the trials, of all studies.
    by_time: whether the outcome is the time to the target; else the best metric.
    outcome: of each trial; infinite times where the target was not reached.
    rho, p: Spearman's coefficient and its p-value; None where there is none.
  """

  submission: str
  workload: str
  name: str
  runs: tuple[Run, ...]
  by_time: bool
  outcome: Numbers
  rho: float | None
  p: float | None

  @property
  def measure(self) -> str:
    """What the outcome is."""
    return 'time to target' if self.by_time else 'best metric'


def effects(contents: Contents) -> list[Effect]:
  """Of every hyperparameter that was varied."""
  found = list[Effect]()
  for submission, (workload, goal) in itertools.product(
    contents.submissions, contents.goals.items()
  ):
    runs = [r for r in contents.runs if r.submission == submission and r.workload == workload]
    names = dict.fromkeys(name for run in runs for name in run.hparams)
    for name in names:
      having = tuple(run for run in runs if name in run.hparams)
      if len({str(run.hparams[name]) for run in having}) > 1:
        found.append(_effect(submission, workload, name, having, goal))
  return found


def _effect(submission: str, workload: str, name: str, runs: tuple[Run, ...], goal: Goal) -> Effect:
  by_time = sum(math.isfinite(run.reached_sec) for run in runs) >= 2
  outcome = np.array([run.reached_sec if by_time else _best(run, goal) for run in runs])
  rho = p = None
  values = [run.hparams[name] for run in runs]
  if all(_is_number(v) for v in values):
    rho = rank_correlation([float(v) for v in values], [float(v) for v in outcome])
    p = chance(rho, int((~np.isnan(outcome)).sum()))
  return Effect(submission, workload, name, runs, by_time, outcome, rho, p)


def _best(run: Run, goal: Goal) -> float:
  values = run.values[np.isfinite(run.values)]
  if not len(values):
    return math.nan
  return float(values.max() if goal.rising else values.min())


def _is_number(value: Any) -> bool:
  if not isinstance(value, int | float) or isinstance(value, bool):
    return False
  try:
    return math.isfinite(value)
  except OverflowError:  # an integer beyond all floats
    return False


def chance(rho: float | None, trials: int) -> float | None:
  """How often chance alone gives a coefficient as far from zero; None below ten trials.

  By Student's t with n - 2 degrees of freedom, which is close enough from ten on.
  """
  if rho is None or trials < _LEAST_FOR_P:
    return None
  from scipy.special import stdtr

  if abs(rho) >= 1.0:
    return 0.0
  t = abs(rho) * math.sqrt((trials - 2) / (1.0 - rho**2))
  return float(2.0 * stdtr(trials - 2, -t))


def table(found: Sequence[Effect]) -> Table:
  """The coefficients of all."""
  columns = [
    Column('submission', 'Submission'),
    Column('workload', 'Workload'),
    Column('hyperparameter', 'Hyperparameter'),
    Column('outcome', 'Outcome'),
    Column('spearman', 'Rank correlation', number=True),
    Column('p', 'p', number=True),
    Column('trials', 'Trials', number=True),
  ]
  result = Table(
    'hyperparameter_effects',
    'Spearman’s rank correlation over trials. Positive with time: larger values were slower. Bold: '
    'p < 0.05, not corrected for the number of rows.',
    columns,
  )
  for effect in found:
    sure = effect.p is not None and effect.p < _SURE_P
    rho = '–' if effect.rho is None else f'{effect.rho:+.2f}'.replace('-', '−')
    result.rows.append([
      Cell(effect.submission), Cell(effect.workload), Cell(effect.name), Cell(effect.measure),
      Cell(effect.rho, rho, 'best' if sure else ''),
      Cell(effect.p, '–' if effect.p is None else scales.number(effect.p, 2)),
      Cell(len(effect.runs)),
    ])  # fmt: skip
  return result


def figures(found: Sequence[Effect], contents: Contents) -> Iterator[tuple[Effect, Figure]]:
  """A chart for each: every trial's outcome over the hyperparameter."""
  for effect in found:
    series = contents.series(effect.submission)
    yield effect, _figure(effect, contents.goals[effect.workload], series)


def _figure(effect: Effect, goal: Goal, series: int) -> Figure:
  x, x_axis = _x(effect)
  reached = np.isfinite(effect.outcome)
  if effect.by_time:
    size, unit = scales.time_unit(float(effect.outcome[reached].max()))
    y = effect.outcome / size
    axis = scales.axis_of(f'time to target [{unit}]', [float(v) for v in y[reached]])
    axis, y = _with_room_on_top(axis, y, reached)
    rules = ()
  else:
    y = effect.outcome
    targets = [] if goal.value is None else [goal.value]
    axis = scales.axis_of(f'best {goal.metric}', [*(float(v) for v in y), *targets])
    rules = tuple(Rule(t, f'target {scales.number(t, 5)}') for t in targets)
  tips = tuple(f'{run.name}: {effect.name} {_shown(run.hparams[effect.name])}, {_told(run, goal)}'
               for run in effect.runs)  # fmt: skip
  groups = [
    Points(x[where], y[where], tuple(t for t, w in zip(tips, where, strict=True) if w), series,
           open=not closed)
    for closed, where in ((True, reached), (False, ~reached))
    if where.any()
  ]  # fmt: skip
  told = 'none' if effect.rho is None else f'{effect.rho:+.2f}'
  missed = int((~reached).sum())
  note = '' if effect.rho is None else f'ρ = {told}'.replace('-', '−')
  if missed and effect.by_time:
    note += f'{", " if note else ""}{scales.count(missed, "trial")} not reached'
  return Figure(
    file_name('hyperparameter', effect.submission, effect.workload, effect.name), effect.name,
    f'{effect.measure} over {effect.name}, {effect.submission} on {effect.workload}: '
    f'{len(effect.runs)} trials, rank correlation {told}.',
    x_axis, axis, points=tuple(groups), rules=rules, note=note,
    about=f'{effect.submission} on {effect.workload}',
  )  # fmt: skip


def _with_room_on_top(axis: Axis, y: Numbers, reached: Numbers) -> tuple[Axis, Numbers]:
  """A strip above for trials that have no time, where there are any."""
  if reached.all():
    return axis, y
  if axis.log:
    strip = axis.high * (axis.high / axis.low) ** 0.10
    axis = Axis(axis.label, axis.low, axis.high * (axis.high / axis.low) ** 0.15, log=True)
  else:
    strip = axis.high + 0.10 * (axis.high - axis.low)
    axis = Axis(axis.label, axis.low, axis.high + 0.15 * (axis.high - axis.low))
  return axis, np.where(reached, y, strip)


def _x(effect: Effect) -> tuple[Numbers, Axis]:
  values = [run.hparams[effect.name] for run in effect.runs]
  if all(_is_number(v) for v in values):
    numbers = np.array(values, dtype=np.float64)
    return numbers, scales.axis_of(effect.name, [float(v) for v in numbers])
  names = sorted({_shown(v) for v in values})
  shown = names[:_MOST_CATEGORIES]
  x = np.array([shown.index(_shown(v)) if _shown(v) in shown else math.nan for v in values])
  return x, Axis(effect.name, -0.5, len(shown) - 0.5, categories=tuple(shown))


def _shown(value: Any) -> str:
  return scales.number(float(value), 4) if _is_number(value) else str(value)


def _told(run: Run, goal: Goal) -> str:
  if math.isfinite(run.reached_sec):
    return f'target after {scales.duration(run.reached_sec)}'
  return f'not reached, best {goal.metric} {scales.number(_best(run, goal), 4)}'
