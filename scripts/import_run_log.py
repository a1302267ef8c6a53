#!/usr/bin/env python3
"""Imports training logs with 'Begin CSV' and 'End CSV' into tables and a summary.

  python scripts/import_run_log.py logs/*.txt --output_dir=tables
  python scripts/import_run_log.py run.txt --blocks=all

Per block: <log>_<n>.csv with a row a rank, kind and epoch; summary.json has the times of all, and
their means over runs.
"""

import argparse
import csv
import io
import json
import signal
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.device_logs import opening, runtime_log
from algorithmic_efficiency.records.whole_files import write_whole


def main() -> int:
  """Returns the exit code: 0, 1 if a file holds no row, 2 for a wrong command."""
  given = _parse()
  summaries: list[dict[str, Any]] = []
  code = 0
  for log in given.log:
    try:
      found = _import(log, given)
    except OSError as error:
      what = f'{error.filename or log}: {error.strerror or error}'
      print(f'import_run_log: error: {what}.', file=sys.stderr)
      return 2
    code = code if found else 1
    summaries += found
  content = {'runs': summaries, 'mean_over_runs': runtime_log.over_runs(summaries)}
  write_whole(given.output_dir / 'summary.json', json.dumps(content, indent=2) + '\n')
  print(f'written to {given.output_dir}')
  return code


def _import(log: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
  reader = runtime_log.Reader()
  with opening.text_of(log) as file:
    reader.read(file)
  given.output_dir.mkdir(parents=True, exist_ok=True)
  blocks = runtime_log.choose(reader.blocks, given.blocks)
  print(f'{log}: {reader.diagnosis.num_lines} lines, {len(reader.blocks)} blocks')
  summaries: list[dict[str, Any]] = []
  for number, block in enumerate(blocks, 1):
    path = given.output_dir / f'{log.stem}_{number}.csv'
    write_whole(path, _csv(block))
    summary = runtime_log.summary(block)
    summaries.append({'log': log.name, 'line': block.line, 'table': path.name, **summary})
    times = [f'{k.removesuffix("_sec")} {v:.1f} s' for k, v in summary.items()
             if k.endswith('_sec') and v is not None]  # fmt: skip
    print(f'  line {block.line}: {summary["num_ranks"]} ranks, {summary["epochs"]} epochs'
          f'{"" if block.complete else ", without an end"}; {", ".join(times)}')  # fmt: skip
  for note in reader.diagnosis.notes:
    print(f'  note: {note}')
  for reason, count in reader.diagnosis.refused.items():
    where = next(f'line {n}: {t}' for n, r, t in reader.diagnosis.examples if r == reason)
    print(f'  {count} lines refused: {reason} ({where[:100]})')
  return summaries


def _csv(block: runtime_log.Block) -> str:
  text = io.StringIO()
  names = [field.name for field in fields(runtime_log.Row)]
  writer = csv.DictWriter(text, names, lineterminator='\n')
  writer.writeheader()
  writer.writerows(asdict(row) for row in block.rows)
  return text.getvalue()


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('log', nargs='+', type=Path)
  parser.add_argument('--output_dir', type=Path, default=Path('run_logs_imported'))
  parser.add_argument(
    '--blocks', choices=['last', 'all'], default='last', help='of a file: the last complete one'
  )
  return parser.parse_args()


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
