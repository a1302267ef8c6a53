#!/usr/bin/env python3
"""Analyses memory traces: working sets, reuse distances, longer windows, and when what is touched.

  python scripts/analyse_memory.py trace.jsonl --output_dir=memory
  python scripts/analyse_memory.py cpu1=one.jsonl cpu2=two.jsonl --drop=executable,small
  python scripts/analyse_memory.py trace.jsonl --rebin=1,5,25 --rebin_steps=1,10 --steady=50

A trace is [NAME=]FILE. Writes windows.csv, summary.json, filters.csv and, where the trace tells
pages, reuse.csv, miss_ratio.csv, rebinned.csv; pictures where matplotlib is installed. Of several
traces each has a folder of its name.
"""

import argparse
import csv
import importlib.util
import io
import json
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace import filters
from algorithmic_efficiency.records.whole_files import write_whole

if TYPE_CHECKING:
  from algorithmic_efficiency.memory_trace.analysis import Analysis, Options
  from algorithmic_efficiency.memory_trace.reuse_distance import Curve

_MOST_ROWS = 2000  # of a curve


def main() -> int:
  """Returns the exit code: 0, 1 if a trace has no windows, 2 for a wrong command."""
  given = _parse()
  try:
    options, traces = _options(given), _named(given.trace)
  except UsageError as error:
    print(f'analyse_memory: error: {error}', file=sys.stderr)
    return 2
  code = 0
  for name, path in traces.items():
    folder = given.output_dir / name if len(traces) > 1 else given.output_dir
    try:
      _analyse(name, path, options, folder, not given.no_pictures)
    except (UsageError, MeasurementError) as error:
      print(f'analyse_memory: error: {error}', file=sys.stderr)
      if isinstance(error, UsageError):
        return 2
      code = 1
    else:
      print(f'  written to {folder}')
  return code


def _analyse(name: str, path: Path, options: 'Options', folder: Path, pictures: bool) -> None:
  from algorithmic_efficiency.memory_trace import analysis
  from algorithmic_efficiency.memory_trace.trace_file import Trace

  found = analysis.analyse(Trace(path), options)
  summary = analysis.summary(found)
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise UsageError(
      f'--output_dir={folder} cannot be made ({error.strerror}); give another folder.'
    ) from error
  write_whole(folder / 'summary.json', json.dumps(summary, indent=2) + '\n')
  write_whole(folder / 'windows.csv', _csv(row.cells() for row in found.rows))
  write_whole(folder / 'filters.csv', _csv(found.filters))
  if found.rebinned:
    write_whole(folder / 'rebinned.csv', _csv(found.rebinned))
  if found.allocators:
    write_whole(folder / 'allocators.csv', _csv(found.allocators))
  _write_reuse(found, folder)
  print('\n'.join(analysis.told(name, summary)))
  for row in found.filters[1:]:
    if row['steady_kept_pct'] is not None and row['filter'].startswith('drop'):
      print(f'  {row["filter"]}: {row["steady_kept_pct"]:.1f} % of the working set is kept')
  if pictures:
    if importlib.util.find_spec('matplotlib') is None:
      print('  note: there are no pictures, since matplotlib is not installed.')
    else:
      from algorithmic_efficiency.memory_trace.pictures import draw

      draw(found, name, folder)


def _write_reuse(found: 'Analysis', folder: Path) -> None:
  from algorithmic_efficiency.memory_trace import reuse_distance

  reuse, size = found.reuse, found.unit_bytes
  if reuse is None or size is None:
    return
  for name, key, curve in (
    ('reuse.csv', 'distance_bytes', reuse_distance.distribution(reuse)),
    ('miss_ratio.csv', 'memory_bytes', reuse_distance.miss_ratio(reuse)),
  ):
    write_whole(folder / name, _csv(_points(key, curve, size)) or f'{key},lower,upper\n')


def _points(key: str, curve: 'Curve', size: int) -> list[dict[str, Any]]:
  from algorithmic_efficiency.memory_trace import reuse_distance

  curve = reuse_distance.thinned(curve, _MOST_ROWS)
  return [
    {key: units * size, 'lower': round(low, 9), 'upper': round(high, 9)}
    for units, low, high in zip(*(part.tolist() for part in curve), strict=True)
  ]


def _named(texts: list[str]) -> dict[str, Path]:
  """Traces by name: what stands before '=', else the file's."""
  found: dict[str, Path] = {}
  for text in texts:
    name, equals, path = text.partition('=')
    if not equals or '/' in name:
      name, path = Path(text).stem, text
    if name in found or name in ('', '.', '..'):
      raise UsageError(
        f'{text!r} has no name of its own; give NAME=FILE, each with another name without /.'
      )
    found[name] = Path(path)
  return found


def _options(given: argparse.Namespace) -> 'Options':
  kept = filters.parse(_listed(given.drop), _listed(given.keep), given.path)
  if given.steady is not None and given.steady < 0:
    raise UsageError(
      f'--steady={given.steady} is below 0; give how many windows the start-up took.'
    )
  from algorithmic_efficiency.memory_trace.analysis import Options

  return Options(
    filters=kept,
    rebin=None if given.rebin is None else _numbers('rebin', given.rebin),
    rebin_steps=_numbers('rebin_steps', given.rebin_steps),
    rate=given.rate,
    start_up=given.steady,
  )


def _listed(text: str) -> list[str]:
  return [part.strip() for part in text.split(',') if part.strip()]


def _numbers(flag: str, text: str) -> list[int]:
  try:
    found = sorted({int(part) for part in _listed(text)})
  except ValueError as error:
    raise UsageError(
      f'--{flag}={text} is no list of whole numbers; give such as --{flag}=1,2,5,10.'
    ) from error
  if found and found[0] < 1:
    raise UsageError(f'--{flag}={text} has {found[0]}; give numbers from 1 on.')
  return found


def _csv(rows: Iterable[dict[str, Any]]) -> str:
  rows = list(rows)
  if not rows:
    return ''
  text = io.StringIO()
  writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('trace', nargs='+', metavar='[NAME=]FILE')
  parser.add_argument('--output_dir', type=Path, default=Path('memory'))
  parser.add_argument(
    '--drop', default='', help=f'mappings to leave out: {", ".join(filters.DROPPED)}'
  )
  parser.add_argument('--keep', default='', help=f'alone to look at: {", ".join(filters.KEPT)}')
  parser.add_argument('--path', default='', help="a regular expression in a mapping's path")
  parser.add_argument('--rebin', help='windows to join, such as 1,2,5,10')
  parser.add_argument('--rebin_steps', default='', help='training steps to join, such as 1,10')
  parser.add_argument(
    '--rate', type=float, default=1.0, help='part of the pages whose reuse is followed'
  )
  parser.add_argument(
    '--steady', type=int, metavar='N', help='the start-up took N windows; else half of them'
  )
  parser.add_argument('--no_pictures', action='store_true', help='tables only')
  return parser.parse_args()


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
