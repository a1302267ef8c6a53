"""This file makes a leaderboard's tables: rows for files, and lines for people."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from algorithmic_efficiency.scoring.effects import best_value, effects
from algorithmic_efficiency.scoring.leaderboard import Interval, Leaderboard, Standing
from algorithmic_efficiency.scoring.time_to_target import Study

Row = dict[str, Any]


def all_tables(board: Leaderboard, other: Leaderboard) -> dict[str, list[Row]]:
  """File name to rows. `other`: the same logs scored by the other mode."""
  return {
    'scores.csv': [_score_row(standing) for standing in board.standings],
    'time_to_targets.csv': time_rows(board),
    'targets.csv': target_rows(board),
    'trials.csv': trial_rows(board),
    'performance_profile.csv': profile_rows(board),
    'hyperparameters.csv': effect_rows(board),
    'modes.csv': mode_rows(board, other),
    'warnings.csv': [
      {'warning': kind, 'count': len(places), 'where': '; '.join(places)}
      for kind, places in board.warnings.places.items()
    ],
  }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
  """The rows as CSV; NaN and None are empty cells, infinite values are 'inf'."""
  text = io.StringIO()
  names = dict.fromkeys(name for row in rows for name in row)
  writer = csv.DictWriter(text, list(names), lineterminator='\n')
  writer.writeheader()
  for row in rows:
    writer.writerow({k: '' if v is None or v != v else v for k, v in row.items()})
  return text.getvalue()


def _bounds(name: str, interval: Interval | None) -> Row:
  if interval is None:
    return {name: None, f'{name}_low': None, f'{name}_high': None}
  return {name: interval.value, f'{name}_low': interval.low, f'{name}_high': interval.high}


def _score_row(standing: Standing) -> Row:
  return {
    'submission': standing.submission,
    **_bounds('score', standing.score),
    **{k: v if v is None else int(v) for k, v in _bounds('rank', standing.rank).items()},
    'share_first': standing.share_first,
    **_bounds('time_ratio', standing.time_ratio),
    'num_reached': standing.num_reached,
    'num_trials': standing.num_trials,
    'hours': standing.hours,
    'device_hours': standing.device_hours,
  }


def time_rows(board: Leaderboard) -> list[Row]:
  """Median seconds to the target before the rules, a submission a row and a workload a column."""
  names = sorted((*board.workloads, *board.held_out))
  submissions = sorted(standing.submission for standing in board.standings)
  return [
    {'submission': s, **{w: board.times[s, w].raw_sec.value for w in names}} for s in submissions
  ]


def target_rows(board: Leaderboard) -> list[Row]:
  """All that is known of each submission on each workload."""
  rows = list[Row]()
  for (submission, workload), time in board.times.items():
    goal = board.edition.goal(workload)
    assert goal is not None
    rows.append({
      'submission': submission, 'workload': workload, 'metric': goal.metric,
      'target': goal.target, 'held_out': workload in board.held_out,
      'num_studies': len(time.study_sec), 'num_studies_reached': time.num_reached,
      **_bounds('median_sec', time.raw_sec), 'counted_sec': time.counted_sec, 'ratio': time.ratio,
      'median_steps': time.steps, 'median_joules': time.joules,
    })  # fmt: skip
  return rows


def trial_rows(board: Leaderboard) -> list[Row]:
  """Each trial that was read and belongs to a scored workload."""
  rows = list[Row]()
  for (submission, workload), studies in board.studies.items():
    goal = board.edition.goal(workload)
    if goal is None or (submission, workload) not in board.times:
      continue
    for study in studies:
      for trial, result in study.trials:
        rows.append({
          'submission': submission, 'workload': workload, 'framework': trial.framework,
          'study': study.number, 'trial': trial.number, 'chosen': trial is study.chosen,
          'time_sec': result.time_sec, 'step': result.step, 'joules': result.joules,
          'best_value': best_value(trial, goal.lower_is_better),
          'num_evaluations': len(trial.values), 'total_sec': trial.total_sec,
          'hparams': json.dumps(trial.hparams),
        })  # fmt: skip
  return rows


def profile_rows(board: Leaderboard) -> list[Row]:
  """The performance profile, a tau a row."""
  rows = list[Row]()
  for place, tau in enumerate(board.taus):
    row: Row = {'tau': float(tau)}
    for submission, profile in board.profiles.items():
      row[submission] = float(profile.rho[place])
      if profile.low is not None and profile.high is not None:
        row[f'{submission}_low'] = float(profile.low[place])
        row[f'{submission}_high'] = float(profile.high[place])
    rows.append(row)
  return rows


def effect_rows(board: Leaderboard) -> list[Row]:
  """The effect of each hyperparameter."""
  return [
    {
      'submission': e.submission, 'workload': e.workload, 'hyperparameter': e.name,
      'num_trials': len(e.values), 'num_reached': int(np.isfinite(e.times_sec).sum()),
      'least': min(e.values), 'greatest': max(e.values),
      'rank_correlation_with_time': e.with_time, 'rank_correlation_with_best': e.with_best,
    }
    for e in effects(board.studies, board.edition)
  ]  # fmt: skip


def mode_rows(board: Leaderboard, other: Leaderboard) -> list[Row]:
  """Where the two modes differ: scores, and in how many studies another trial counts."""
  boards = {board.mode: board, other.mode: other}
  scores = {mode: {s.submission: s.score.value for s in b.standings} for mode, b in boards.items()}
  twins = defaultdict[str, list[tuple[Study, Study]]](list)
  for key in board.studies.keys() & board.times.keys():
    twins[key[0]] += zip(board.studies[key], other.studies[key], strict=True)
  rows = list[Row]()
  for standing in board.standings:
    name = standing.submission
    published, exact = scores['published'][name], scores['exact'][name]
    pairs = twins[name]
    rows.append(
      {
        'submission': name,
        'score_published': published,
        'score_exact': exact,
        'difference': exact - published,
        'num_studies': len(pairs),
        'num_studies_with_another_trial': sum(a.chosen is not b.chosen for a, b in pairs),
      }
    )
  return rows


def told(board: Leaderboard, other: Leaderboard, width: int) -> list[str]:
  """The leaderboard as lines of at most `width` characters where names allow it."""
  trials = sum(standing.num_trials for standing in board.standings)
  held_out = f' and {len(board.held_out)} held out' if board.held_out else ''
  lines = [
    f'edition {board.edition.name}, {board.ruleset} tuning, {board.mode} mode: '
    f'{len(board.workloads)} workloads{held_out}, {len(board.standings)} submissions, '
    f'{trials:,} trials',
    '',
    *_aligned(_standing_cells(board)),
    '',
    _how_sure(board),
    f'time ratio: geometric mean of times over those of {board.reference}; below 1 is faster.',
    '',
    'median seconds to the target, before the rules (inf: not reached, -: not tried):',
    *_time_lines(board, width),
  ]
  lines += ['', *_mode_lines(board, other)]
  return lines


def _how_sure(board: Leaderboard) -> str:
  if not board.num_samples:
    return 'no intervals: there is one study of each workload, or --samples=0.'
  return (
    f'in brackets the middle 95 % of {board.num_samples:,} samples, redrawn over studies and '
    'trials; first: the share of samples in which it has rank 1.'
  )


def _standing_cells(board: Leaderboard) -> list[list[str]]:
  rows = [['rank', '', 'submission', 'score', '', 'first', 'reached', 'time ratio', '', 'hours']]
  for s in board.standings:
    rows.append([
      f'{s.rank.value:.0f}', _range(s.rank, '.0f'), s.submission, f'{s.score.value:.4f}',
      _range(s.score, '.3f'), '' if s.share_first is None else f'{100 * s.share_first:.0f} %',
      f'{s.num_reached}/{len(board.workloads)}',
      '' if s.time_ratio is None else f'{s.time_ratio.value:.3f}',
      '' if s.time_ratio is None else _range(s.time_ratio, '.2f'), _hours(s.hours),
    ])  # fmt: skip
  return rows


def _range(interval: Interval, form: str) -> str:
  if interval.low is None or interval.high is None:
    return ''
  return f'({interval.low:{form}} to {interval.high:{form}})'


def _hours(hours: float) -> str:
  return f'{hours:,.0f}' if hours >= 100 else f'{hours:.3g}'


def _time_lines(board: Leaderboard, width: int) -> Iterable[str]:
  """Workloads down, submissions across, in as many blocks as the width asks for."""
  names = sorted((*board.workloads, *board.held_out))
  columns = [
    [s.submission, *(seconds(board.times[s.submission, w].raw_sec.value) for w in names)]
    for s in board.standings
  ]
  first = ['', *(f'{w} *' if w in board.held_out else w for w in names)]
  left = max(map(len, first))
  while columns:
    block, used = list[list[str]](), left
    while columns and (not block or used + 2 + max(map(len, columns[0])) <= width):
      used += 2 + max(map(len, columns[0]))
      block.append(columns.pop(0))
    yield from _aligned([list(row) for row in zip(first, *block, strict=True)])
    if columns:
      yield ''
  if board.held_out:
    yield '* held out: its base workload counts only if this is reached as well'


def seconds(value: float) -> str:
  """'5794.3', '1.234', 'inf', or '-' for a time that there is none of."""
  if np.isnan(value):
    return '-'
  return f'{value:.1f}' if not np.isfinite(value) or value >= 100 else f'{value:.4g}'


def _mode_lines(board: Leaderboard, other: Leaderboard) -> Iterable[str]:
  rows = mode_rows(board, other)
  changed = [row for row in rows if abs(row['difference']) >= 5e-5]
  others = sum(row['num_studies_with_another_trial'] for row in rows)
  studies = sum(row['num_studies'] for row in rows)
  yield f'published and exact mode pick another trial in {others} of {studies:,} studies; ' + (
    'their scores differ by less than 0.00005.' if not changed else 'scores that differ:'
  )
  for row in changed:
    yield (
      f'  {row["submission"]}: published {row["score_published"]:.4f}, '
      f'exact {row["score_exact"]:.4f}'
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Columns as wide as they need; what begins with a digit or a dash stands to the right."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  right = [
    all(c[:1].isdigit() or c in ('', '-', 'inf') for c in column[1:])
    for column in zip(*rows, strict=True)
  ]
  return [
    '  '.join(
      cell.rjust(width) if is_right else cell.ljust(width)
      for cell, width, is_right in zip(row, widths, right, strict=True)
    ).rstrip()
    for row in rows
  ]
