#!/usr/bin/env python3
"""Makes one HTML page of a folder of logs: who won, how sure that is, and how the runs went.

  python scripts/report.py LOGS -o report.html
  python scripts/report.py LOGS -o report.html --tables=tables --pictures=pictures

LOGS holds SUBMISSION/study_1/WORKLOAD_FRAMEWORK/run_1/… of this bench, or trial_1/… of AlgoPerf's.
The page is one file that needs no network and no other file. --tables writes each of its tables as
CSV, with all digits and rows; --pictures each chart as PNG. Without them only the page is written.
Exit codes: 0 the page was written, 1 it could not be, 2 the command is wrong.
"""

import argparse
import datetime
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import algorithmic_efficiency
from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.records.whole_files import write_whole
from algorithmic_efficiency.report import page, pictures, recorded, scored
from algorithmic_efficiency.report.figure import Figure
from algorithmic_efficiency.report.tables import Table
from algorithmic_efficiency.scoring import editions, leaderboard, logs, time_to_target
from algorithmic_efficiency.status_line import StatusLine
from algorithmic_efficiency.workloads.facts import EDITIONS, NEWEST_EDITION


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    with StatusLine('report', log_every_sec=5.0) as status:
      return _report(given, status)
  except UsageError as error:
    return _complain(str(error), 2)
  except MeasurementError as error:
    return _complain(str(error), 1)
  except OSError as error:
    return _complain(f'{error.filename}: {error.strerror}.', 1)
  except KeyboardInterrupt:
    return _complain('stopped; no page was written.', 130)


def _report(given: argparse.Namespace, status: StatusLine) -> int:
  began = time.monotonic()
  if not given.output.absolute().parent.is_dir():
    raise UsageError(f'--output={str(given.output)!r}: its folder is not there; make it first.')
  edition = editions.load(given.edition)
  found = logs.read(
    given.logs, edition, logs.Wanted.named(given.include, given.exclude),
    lambda done, total: status.count(done, total, 'trials read'),
    processes=min(8, len(os.sched_getaffinity(0))),
  )  # fmt: skip
  settings = leaderboard.Settings(
    ruleset=given.tuning_ruleset, mode=given.mode, workloads=given.workloads,
    reference=given.reference, num_samples=given.samples, seed=given.seed,
  )  # fmt: skip
  status.tell('scoring')
  contents = scored.contents(found, leaderboard.make(found, edition, settings))
  if given.title:
    contents.title = given.title
  trials = recorded.trials(given.logs, lambda done: status.tell(f'{done:,} records read'))
  made = page.build(page.Material(
    contents, trials, recorded.studies(trials, given.logs), given.hardware_runs, _made(given),
    status.tell,
  ))  # fmt: skip
  write_whole(given.output, made.html)
  status.clear()
  size = given.output.stat().st_size / 1e6
  print(f'{given.output}: {size:.2f} MB, {len(trials):,} trials, {time.monotonic() - began:.1f} s')
  if given.tables:
    _write_tables(made.tables, given.tables)
  if given.pictures:
    _write_pictures(made.figures, given.pictures, status)
  return 0


def _write_tables(tables: list[Table], folder: Path) -> None:
  folder.mkdir(parents=True, exist_ok=True)
  for table in tables:
    write_whole(folder / f'{table.name}.csv', table.csv())
  print(f'{folder}: {len(tables)} tables')


def _write_pictures(figures: list[Figure], folder: Path, status: StatusLine) -> None:
  total = len(figures)
  pictures.save(figures, folder, lambda done: status.count(done, total, 'pictures drawn'))
  status.clear()
  print(f'{folder}: {total} pictures')


def _made(given: argparse.Namespace) -> str:
  now = datetime.datetime.now().astimezone().isoformat(sep=' ', timespec='minutes')
  version = algorithmic_efficiency.__version__
  return f'Made {now} by algorithmic-efficiency {version} from {given.logs.resolve().name}.'


def _complain(message: str, code: int) -> int:
  print(f'report: error: {message}', file=sys.stderr)
  return code


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('logs', type=Path, metavar='LOGS')
  parser.add_argument('-o', '--output', type=Path, default=Path('report.html'), metavar='FILE',
                      help='the page (default: report.html)')  # fmt: skip
  parser.add_argument('--tables', type=Path, metavar='DIR', help='write every table there as CSV')
  parser.add_argument('--pictures', type=Path, metavar='DIR',
                      help='write every chart there as PNG (needs matplotlib)')  # fmt: skip
  parser.add_argument('--title', default='', help='above the page (default: edition and ruleset)')
  parser.add_argument('--hardware_runs', type=_count, default=4, metavar='N',
                      help='trials whose hardware is drawn (default: 4)')  # fmt: skip
  scoring = parser.add_argument_group('scoring, as in scripts/score.py')
  scoring.add_argument(
    '--edition',
    default=NEWEST_EDITION,
    metavar='NAME',
    help=f'of the rules: {", ".join(EDITIONS)} (default: %(default)s)',
  )
  scoring.add_argument(
    '--tuning_ruleset',
    choices=editions.RULESETS,
    default='external',
    help='which the trials were run under (default: %(default)s)',
  )
  scoring.add_argument(
    '--mode',
    choices=time_to_target.MODES,
    default='published',
    help="AlgoPerf's published rule, or times and areas as they are",
  )
  scoring.add_argument(
    '--workloads',
    default='auto',
    metavar='NAMES',
    help='that are scored: auto, edition, found, or names with commas',
  )
  scoring.add_argument('--include', default='', metavar='NAMES', help='only these submissions')
  scoring.add_argument('--exclude', default='', metavar='NAMES', help='not these submissions')
  scoring.add_argument(
    '--reference', default='', metavar='NAME', help='the submission that speed-ups are over'
  )
  scoring.add_argument(
    '--samples',
    type=_count,
    default=1000,
    metavar='N',
    help='of the bootstrap; 0 for no intervals (default: %(default)s)',
  )
  scoring.add_argument('--seed', type=_count, default=0, metavar='N', help='of the bootstrap')
  return parser.parse_args()


def _count(text: str) -> int:
  if not text.isdigit():
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number from 0')
  return int(text)


if __name__ == '__main__':
  sys.exit(main())
