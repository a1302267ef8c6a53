#!/usr/bin/env python3
"""Imports logs of nvidia-smi and hl-smi that were polled by hand into the project's sample table.

  python scripts/import_smi.py power.txt        → power_imported/session_1/telemetry.jsonl
  python scripts/import_smi.py --start_date=2022-10-18 hl-smi.txt --output_dir=gaudi

Reads the CSV of --query-gpu and --query-aip, dmon, pmon and the XML of -q -x, mixed as they may
be. Every line that gives no sample is told with its number and the reason, in diagnosis.json.
"""

import argparse
import datetime
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.device_logs import dialects, opening, table
from algorithmic_efficiency.device_logs.reading import Reader
from algorithmic_efficiency.device_logs.sessions import arrange


def main() -> int:
  """Returns the exit code: 0, 1 if a file holds no sample, 2 for a wrong command."""
  given = _parse()
  code = 0
  for log in given.log:
    folder = given.output_dir or log.with_name(f'{log.stem}_imported')
    if len(given.log) > 1 and given.output_dir:
      folder = given.output_dir / log.stem
    try:
      code = max(code, _import(log, folder, given))
    except OSError as error:
      what = f'{error.filename or log}: {error.strerror or error}'
      print(f'import_smi: error: {what}.', file=sys.stderr)
      return 2
  return code


def _import(log: Path, folder: Path, given: argparse.Namespace) -> int:
  reader = Reader(given.fields, given.utc_offset)
  began = time.perf_counter()
  with opening.text_of(log) as file:
    reader.read(file)
  diagnosis = reader.diagnosis
  sessions, devices = arrange(reader.readings, diagnosis, given.start_date, given.period_sec)
  seconds = time.perf_counter() - began
  folder.mkdir(parents=True, exist_ok=True)
  content = table.write_diagnosis(folder / 'diagnosis.json', diagnosis, sessions)
  for number, session in enumerate(sessions, 1):
    table.write(folder / f'session_{number}', session, devices, diagnosis, log.name)
  rate = diagnosis.num_lines / max(seconds, 1e-9)
  print(
    f'{log}: {diagnosis.num_lines:,} lines, {len(reader.readings):,} samples ({rate:,.0f} lines/s)'
  )
  for number, session in enumerate(content['sessions'], 1):
    begin = datetime.datetime.fromtimestamp(session['begin'], datetime.UTC)
    missing = ', '.join(f'{name} lacks {n}' for name, n in session['missing'].items())
    print(
      f'  session {number}: from {begin:%Y-%m-%d %H:%M:%S}, '
      f'{session["end"] - session["begin"]:,.0f} s, every {session["period_sec"]:.2f} s, '
      f'{" ".join(session["devices"])}{"; " + missing if missing else ""}'
    )
  for note in diagnosis.notes:
    print(f'  note: {note}')
  for reason, count in diagnosis.passed.items():
    print(f'  {count:,} lines without a reading: {reason}')
  for reason, count in diagnosis.refused.items():
    where = next((f' (line {n}: {t})' for n, r, t in diagnosis.examples if r == reason), '')
    print(f'  {count:,} lines refused: {reason}{where[:140]}')
  print(f'  written to {folder}')
  return 0 if sessions else 1


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('log', nargs='+', type=Path)
  parser.add_argument('--output_dir', type=Path, help='default: <log>_imported beside the log')
  parser.add_argument(
    '--start_date', type=datetime.date.fromisoformat, metavar='YYYY-MM-DD',
    help='of the first line, where years are cut short and the weekday fits several',
  )  # fmt: skip
  parser.add_argument(
    '--fields', default='', help='of a log without headers, as given to --query-gpu or -Q'
  )
  parser.add_argument(
    '--utc_offset', type=float, default=0.0, metavar='HOURS', help='of times without a zone'
  )
  parser.add_argument(
    '--period_sec', type=float, default=1.0, help='between polls, where the log has no times'
  )
  given = parser.parse_args()
  if given.fields and dialects.header(given.fields.split(',')) is None:
    parser.error(f'--fields: {given.fields!r} names no field of nvidia-smi or hl-smi')
  return given


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
