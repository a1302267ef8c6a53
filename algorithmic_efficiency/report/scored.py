"""This file turns what the room of scoring found into what the page shows."""

import math

import numpy as np

from algorithmic_efficiency.report import contents as page
from algorithmic_efficiency.scoring import leaderboard, time_to_target
from algorithmic_efficiency.scoring.editions import Goal
from algorithmic_efficiency.scoring.logs import Logs, Trial

_MODES = {
  'published': 'scored as AlgoPerf’s published leaderboards are',
  'exact': 'scored by time and by the exact area',
}


def contents(logs: Logs, board: leaderboard.Leaderboard) -> page.Contents:
  """All that the page shows of the results."""
  names = dict.fromkeys((*board.workloads, *board.held_out))
  names |= dict.fromkeys(sorted(logs.workloads))
  goals = {name: goal for name in names if (goal := board.edition.goal(name)) is not None}
  return page.Contents(
    title=f'AlgoPerf {board.edition.name}, {_RULESETS[board.ruleset]}',
    standings=[_standing(one) for one in board.standings],
    goals={name: _goal(goal, board) for name, goal in goals.items()},
    runs=_runs(logs, board, goals),
    times={place: _time(time) for place, time in board.times.items()},
    taus=board.taus,
    profiles={
      name: page.Curve(found.rho, found.low, found.high) for name, found in board.profiles.items()
    },
    reference=board.reference,
    rules=_rules(board),
    warnings=board.warnings.lines(),
  )


_RULESETS = {'external': 'external tuning', 'self': 'self-tuning'}


def _standing(one: leaderboard.Standing) -> page.Standing:
  ratio = one.time_ratio
  return page.Standing(
    submission=one.submission,
    score=_interval(one.score),
    rank=_interval(one.rank),
    share_first=one.share_first,
    speedup=None if ratio is None else page.Interval(
      _inverse(ratio.value), _inverse_or_none(ratio.high), _inverse_or_none(ratio.low)
    ),
    hours=one.hours,
    device_hours=one.device_hours,
    num_targets=one.num_reached,
  )  # fmt: skip


def _outside(score: leaderboard.Interval) -> bool:
  if score.low is None or score.high is None:
    return False
  return not score.low <= score.value <= score.high


def _interval(given: leaderboard.Interval) -> page.Interval:
  return page.Interval(given.value, given.low, given.high)


def _inverse(ratio: float) -> float:
  return 1.0 / ratio if ratio else math.inf


def _inverse_or_none(ratio: float | None) -> float | None:
  return None if ratio is None else _inverse(ratio)


def _goal(goal: Goal, board: leaderboard.Leaderboard) -> page.Goal:
  return page.Goal(
    metric=goal.metric,
    value=goal.target,
    rising=not goal.lower_is_better,
    counts=goal.workload in board.workloads,
    held_out=goal.workload in board.held_out,
  )


def _time(time: leaderboard.WorkloadTime) -> page.Time:
  return page.Time(time.counted_sec, time.raw_sec.value, tuple(time.study_sec.values()))


def _runs(logs: Logs, board: leaderboard.Leaderboard, goals: dict[str, Goal]) -> list[page.Run]:
  """Every trial, with where it met its target and whether its study counts with it."""
  runs: list[page.Run] = []
  studies = board.studies or time_to_target.studies(logs.trials, board.edition, board.mode)
  for found in studies.values():
    for study in found:
      closest = study.chosen or _closest([t for t, _ in study.trials], goals)
      runs += [_run(t, reached.time_sec, t is closest) for t, reached in study.trials]
  return runs


def _closest(trials: list[Trial], goals: dict[str, Goal]) -> Trial:
  """The trial with the best value of its metric; the first where none has any."""

  def worst_first(trial: Trial) -> float:
    values = trial.values[np.isfinite(trial.values)]
    if not len(values):
      return -math.inf
    lower = goals[trial.workload].lower_is_better
    return float(-values.min() if lower else values.max())

  return max(trials, key=worst_first)


def _run(trial: Trial, reached_sec: float, chosen: bool) -> page.Run:
  known = np.isfinite(trial.submission_sec)
  return page.Run(
    submission=trial.submission,
    study=str(trial.study),
    workload=trial.workload,
    framework=trial.framework,
    number=trial.number,
    folder=trial.folder,
    hparams=trial.hparams,
    seconds=trial.submission_sec[known],
    steps=trial.steps[known],
    values=trial.values[known],
    reached_sec=reached_sec,
    chosen=chosen,
  )


def _rules(board: leaderboard.Leaderboard) -> list[str]:
  workloads = len(board.workloads)
  rules = [
    f'The score is the area under the performance profile over {workloads} '
    f'{"workload" if workloads == 1 else "workloads"}, relative to the submissions here, '
    f'{_MODES[board.mode]}; a time counts up to four times the fastest.'
  ]
  if board.held_out:
    rules.append('A workload counts only where its held-out variant was reached as well.')
  if board.num_samples:
    rules.append(
      f'Intervals hold the middle 95 % of {board.num_samples:,} samples in which studies, and the '
      'trials in them, were drawn again with replacement.'
    )
    if any(_outside(one.score) for one in board.standings):
      rules.append(
        'A score may lie outside its interval: it is relative to rivals, who are redrawn as well.'
      )
  else:
    rules.append('There are no intervals: they need more than one study of a workload.')
  return rules
