#!/usr/bin/env python3
"""Shows recorded runs in TensorBoard, Weights & Biases or MLflow.

  python scripts/export.py logs                          → logs/exports/tensorboard/…
  python scripts/export.py logs --to=wandb,mlflow        several at once
  python scripts/export.py study_0 --output_dir=boards   AlgoPerf's logs: trial_<k>/….csv

Reads every trial at or below the folders: of --log_dir, of --experiment_dir, and AlgoPerf's own
eval_measurements.csv. Each becomes a run with its rows, telemetry, hyperparameters, metadata and
how it ended. A trial that has not changed since its last export is skipped; one that has is
exported anew, never twice. Exit codes: 0 all is exported, 1 something could not be, 2 the command
is wrong.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.exports import sinks, trials
from algorithmic_efficiency.exports.exporter import Busy, Exporter, Outcome, describe
from algorithmic_efficiency.status_line import StatusLine


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    names = sinks.parse(given.to, '--to')
    return _export(given, names)
  except UsageError as error:
    return _complain(str(error), 2)
  except OSError as error:
    return _complain(f'{error.filename}: {error.strerror}.', 1)
  except KeyboardInterrupt:
    return _complain('stopped; the same command goes on with what is left.', 130)


def _export(given: argparse.Namespace, names: tuple[str, ...]) -> int:
  output = given.output_dir or trials.default_output(given.logs)
  paths = trials.find(given.logs, leave_out=output)
  if not paths:
    return _complain(
      f'no trial was found at or below {str(given.logs)!r}: no metrics.jsonl, metrics.csv or '
      'eval_measurements.csv.', 1
    )  # fmt: skip
  period = None if given.no_telemetry else given.telemetry_period_sec
  with StatusLine() as status:

    def warn(sentence: str) -> None:
      status.clear()
      print(f'export: {sentence}.', file=sys.stderr)

    exporter = Exporter(given.logs, output, given.project, period, warn)
    codes = [_export_to(name, exporter, paths, status) for name in names]
  return max(codes)


def _export_to(name: str, exporter: Exporter, paths: list[Path], status: StatusLine) -> int:
  """One sink; what goes wrong with a trial keeps no other from being exported."""
  began = time.monotonic()
  outcomes: list[Outcome] = []
  for done, path in enumerate(paths):
    status.count(done, len(paths), 'trials', f'{path} to {name}')
    try:
      outcomes.append(exporter.follow(path, name).end())
    except Busy as error:
      exporter.tell(f'{error}; it is left to that')
    except MeasurementError as error:  # the sink itself, or a full disk
      status.clear()
      return _complain(str(error), 1)
    except Exception as error:  # noqa: BLE001 - a foreign package may raise anything
      exporter.tell(f'{path} could not be exported to {name} ({describe(error)})')
  status.clear()
  skipped = sum(outcome.skipped for outcome in outcomes)
  rows = sum(outcome.rows for outcome in outcomes)
  unchanged = f', {skipped:,} unchanged and skipped' if skipped else ''
  print(
    f'{name}: {len(outcomes) - skipped:,} trials with {rows:,} rows in '
    f'{time.monotonic() - began:.1f} s{unchanged}: {exporter.place(name)}'
  )
  return int(len(outcomes) < len(paths))


def _complain(message: str, code: int) -> int:
  print(f'export: error: {message}', file=sys.stderr)
  return code


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('logs', type=Path, metavar='LOGS', help='searched for trials; or a trial')
  parser.add_argument(
    '--to', default='tensorboard',
    help=f'{", ".join(sinks.KINDS)}, or several with commas (default: tensorboard)',
  )  # fmt: skip
  parser.add_argument(
    '--output_dir', type=Path,
    help="default: LOGS/exports; LOGS_exports beside AlgoPerf's logs, where every folder counts",
  )  # fmt: skip
  parser.add_argument(
    '--project', default=sinks.DEFAULT_PROJECT,
    help='of W&B, or experiment of MLflow; WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME come first '
    f'(default: {sinks.DEFAULT_PROJECT})',
  )  # fmt: skip
  parser.add_argument(
    '--telemetry_period_sec', type=_seconds, default=0.0,
    help='leave out samples that come sooner after the last (default: 0, none is left out)',
  )  # fmt: skip
  parser.add_argument('--no_telemetry', action='store_true', help='leave out telemetry.jsonl')
  given = parser.parse_args()
  if not given.logs.is_dir():
    parser.error(f'{str(given.logs)!r} is no folder; give a --log_dir, a study or a trial')
  return given


def _seconds(text: str) -> float:
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not 0 <= value < math.inf:
    raise argparse.ArgumentTypeError(f'{text!r} is not a number of seconds, 0 or more')
  return value


if __name__ == '__main__':
  try:
    code = main()
    sys.stdout.flush()
  except BrokenPipeError:  # `| head` is no error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 0
  sys.exit(code)
