#!/usr/bin/env python3
"""Scores all submissions in a folder of logs, relative to each other.

  python scripts/score.py LOGS --edition=0.5 --tuning_ruleset=self --output_dir=scores

LOGS has SUBMISSION/study_<s>/WORKLOAD_FRAMEWORK/run_<k> or .../trial_<k>, as this bench, its
launcher and AlgoPerf leave them. Prints the leaderboard; with --output_dir it writes scores.csv,
time_to_targets.csv (medians, a submission a row), targets.csv, trials.csv,
performance_profile.csv, hyperparameters.csv, modes.csv and warnings.csv there.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Collection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.records.whole_files import write_whole
from algorithmic_efficiency.scoring import editions, leaderboard, logs, tables, time_to_target
from algorithmic_efficiency.status_line import StatusLine
from algorithmic_efficiency.workloads.facts import EDITIONS, NEWEST_EDITION


def main() -> int:
  """Returns the exit code: 0, 1 if --strict finds fault or a file cannot be written, 2."""
  given = _parse()
  try:
    return score(given)
  except UsageError as error:
    print(f'score: error: {error}', file=sys.stderr)
    return 2
  except MeasurementError as error:
    print(f'score: error: {error}', file=sys.stderr)
    return 1
  except KeyboardInterrupt:
    print('score: stopped.', file=sys.stderr)
    return 130


def score(given: argparse.Namespace) -> int:
  """Reads, scores, tells and writes."""
  edition = editions.load(given.edition)
  settings = leaderboard.Settings(
    given.tuning_ruleset, given.mode, given.workloads, given.reference, given.samples, given.seed
  )
  with StatusLine('score') as status:
    found = logs.read(
      given.logs, edition, logs.Wanted.named(given.include, given.exclude),
      lambda done, total: status.count(done, total, 'trials read'),
      processes=min(8, len(os.sched_getaffinity(0))),
    )  # fmt: skip
  told = _warn(found.warnings)
  board = leaderboard.make(found, edition, settings)
  other = next(mode for mode in time_to_target.MODES if mode != given.mode)
  twin = leaderboard.make(
    dataclasses.replace(found, warnings=logs.Warnings()),
    edition,
    dataclasses.replace(settings, mode=other, num_samples=0),
  )
  _warn(found.warnings, told)
  print('\n'.join(tables.told(board, twin, shutil.get_terminal_size((100, 24)).columns)))
  if given.output_dir:
    _write(Path(given.output_dir), board, twin, settings)
  if given.strict and found.warnings.places:
    print('score: error: --strict takes no warning.', file=sys.stderr)
    return 1
  return 0


def _warn(warnings: logs.Warnings, told: Collection[str] = ()) -> set[str]:
  """A line for each kind that was not told before; returns all kinds."""
  for kind, line in zip(warnings.places, warnings.lines(), strict=True):
    if kind not in told:
      print(f'score: warning: {line}', file=sys.stderr)
  return set(warnings.places)


def _write(
  folder: Path,
  board: leaderboard.Leaderboard,
  twin: leaderboard.Leaderboard,
  settings: leaderboard.Settings,
) -> None:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(
      f'--output_dir={str(folder)!r} cannot be made ({error.strerror}); name another folder.'
    ) from error
  for name, rows in tables.all_tables(board, twin).items():
    if rows:
      write_whole(folder / name, tables.as_csv(rows))
    else:
      (folder / name).unlink(missing_ok=True)  # of an earlier scoring
  facts = {
    'edition': board.edition.name,
    'reference': board.reference,
    **dataclasses.asdict(settings),
    'workloads': board.workloads,
    'held_out_workloads': board.held_out,
  }
  write_whole(folder / 'scoring.json', json.dumps(facts, indent=2) + '\n')
  print(f'\nwritten to {folder}')


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('logs', metavar='LOGS', help='the folder of logs')
  add('--edition', default=NEWEST_EDITION, metavar='NAME',
      help=f'of the rules: {", ".join(EDITIONS)}; default %(default)s')  # fmt: skip
  add('--tuning_ruleset', choices=editions.RULESETS, default='external',
      help='which the trials were run under; default %(default)s')  # fmt: skip
  add('--mode', choices=time_to_target.MODES, default='published',
      help="published: AlgoPerf's rule to the digit (100-point trapezoid, a study's trial picked "
           'by the number of its evaluation); exact: the integral, the trial picked by time; '
           'default %(default)s')  # fmt: skip
  add('--workloads', default='auto', metavar='NAMES',
      help="what the score is over: names with commas, 'edition', 'found', or 'auto', the "
           "edition's if the logs have any of them; default %(default)s")  # fmt: skip
  add('--include', default='', metavar='NAMES', help='only these submissions')
  add('--exclude', default='', metavar='NAMES', help='not these submissions')
  add('--reference', default='', metavar='NAME',
      help="the submission of time ratio 1; default 'baseline', or else the best")  # fmt: skip
  add('--samples', type=int, default=1000, metavar='N',
      help='of the bootstrap; 0 for no intervals; default %(default)s')  # fmt: skip
  add('--seed', type=int, default=0, metavar='N', help='of the bootstrap; default %(default)s')
  add('--output_dir', metavar='DIR', help='where the tables are written')
  add('--strict', action='store_true', help='any warning is an error, exit code 1')
  given = parser.parse_args()
  if given.samples < 0:
    parser.error(f'--samples is {given.samples}; give 0 or more')
  return given


if __name__ == '__main__':
  sys.exit(main())
