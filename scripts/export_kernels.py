#!/usr/bin/env python3
"""Exports kernel statistics of every profiler trace below some folders into one tidy table.

  python scripts/export_kernels.py tboard_logs               → tboard_logs_kernels/kernels.csv
  python scripts/export_kernels.py logs --kinds=host         operators on the host: traces of a CPU
  python scripts/export_kernels.py logs --by_step            a row for each step
  python scripts/export_kernels.py logs --pattern='lr{lr}_b{batch_size}'

Reads *.kernel_stats.pb, *.xplane.pb (TensorFlow, JAX) and torch.profiler's JSON, plain or gzipped.
Parameters come from names such as b64s2k3f10, from --pattern, or from the run that a trace is of.
Writes kernels.csv, steps.csv, manifest.csv with the status of every trace, and export.jsonl, from
which an interrupted export goes on. Exit codes: 0 all traces were read, 1 some could not be, 2 the
command is wrong.
"""

import argparse
import collections
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.profiling import finding, parameters
from algorithmic_efficiency.profiling.activities import Kind
from algorithmic_efficiency.profiling.export import Exporter, Line
from algorithmic_efficiency.profiling.one_trace import SOURCES, Options
from algorithmic_efficiency.status_line import StatusLine

_FAILED = ('corrupt', 'not a trace', 'unreadable', 'crashed')


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    return _export(given)
  except UsageError as error:
    return _complain(str(error), 2)
  except BrokenPipeError:
    raise
  except OSError as error:
    return _complain(f'{error.filename}: {error.strerror}.', 2)
  except MeasurementError as error:
    return _complain(str(error), 1)
  except KeyboardInterrupt:
    return _complain('stopped; what was exported is kept, the same command goes on with it.', 130)


def _export(given: argparse.Namespace) -> int:
  began = time.monotonic()
  pattern = parameters.pattern(given.pattern) if given.pattern else None
  options = Options(frozenset(given.kinds), given.by_step, given.source)
  sources = list(finding.find(given.folder))
  if not sources:
    searched = ', '.join(map(str, given.folder))
    return _complain(
      f'no trace was found below {searched}: no *.xplane.pb, *.kernel_stats.pb or JSON trace of '
      'PyTorch.', 1
    )  # fmt: skip
  folder = given.output_dir or Path(f'{given.folder[0].resolve()}_kernels')
  exporter = Exporter(folder, options, pattern, given.jobs)
  with StatusLine() as status:
    manifest = exporter.run(
      sources, lambda done, line: status.count(done, len(sources), 'traces', line['trace'])
    )
  count = exporter.write_tables(sources, given.parquet)
  if given.gviz:
    print(f'{exporter.write_gviz(sources):,} files in {folder / "gviz"}')
  _summarize(manifest, count, folder, time.monotonic() - began)
  return 1 if any(line['status'] in _FAILED for line in manifest) else 0


def _summarize(manifest: list[Line], rows: int, folder: Path, seconds: float) -> None:
  size = sum(line['bytes'] for line in manifest)
  print(
    f'{len(manifest):,} traces ({size / 1e6:,.1f} MB) in {seconds:.1f} s: {rows:,} rows in '
    f'{folder / "kernels.csv"}'
  )
  counts = collections.Counter(line['status'] for line in manifest)
  for status, count in counts.most_common():
    reasons = collections.Counter(line['reason'] for line in manifest if line['status'] == status)
    if status == 'ok':
      print(f'  {count:,} ok')
      continue
    for reason, same in reasons.most_common(5):
      first = next(n for n in manifest if n['status'] == status and n['reason'] == reason)
      stream = sys.stderr if status in _FAILED else sys.stdout
      others = f' and {same - 1:,} more' if same > 1 else ''
      print(f'  {same:,} {status}: {first["trace"]} ({first["host"]}){others}: {reason}',
            file=stream)  # fmt: skip
    if len(reasons) > 5:
      print(f'  … and {len(reasons) - 5} other reasons, in manifest.csv')


def _complain(message: str, code: int) -> int:
  print(f'export_kernels: error: {message}', file=sys.stderr)
  return code


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', nargs='+', type=Path, help='searched for traces; or a trace itself')
  parser.add_argument('--output_dir', type=Path, help='default: <first folder>_kernels beside it')
  parser.add_argument(
    '--kinds', type=_kinds, default=[Kind.KERNEL],
    help='of what: kernel, memory, host, or several with commas (default: kernel)',
  )  # fmt: skip
  parser.add_argument('--by_step', action='store_true', help='tell steps apart')
  parser.add_argument(
    '--source', choices=SOURCES, default='auto',
    help='auto: kernel_stats.pb where it is, else xplane.pb; xprof: a second engine, if installed',
  )  # fmt: skip
  parser.add_argument('--pattern', help="of names: 'b{batch_size}s{stride}', or named groups")
  parser.add_argument('--parquet', action='store_true', help='write kernels.parquet too')
  parser.add_argument(
    '--gviz', action='store_true', help="write a JSON a trace as TensorBoard's page exported it"
  )
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
  parser.add_argument('--jobs', type=_positive, default=cores, help=f'processes (default: {cores})')
  given = parser.parse_args()
  for folder in given.folder:
    if not folder.exists():
      parser.error(f'there is no {str(folder)!r}')
  if given.gviz and (given.by_step or given.kinds != [Kind.KERNEL]):
    parser.error('--gviz holds kernels over all steps; drop --by_step and --kinds, or --gviz')
  return given


def _kinds(text: str) -> list[Kind]:
  known = {str(kind) for kind in Kind}
  words = text.split(',')
  if not set(words) <= known:
    raise argparse.ArgumentTypeError(f'{text!r} is not of {", ".join(sorted(known))}')
  return [Kind(word) for word in words]


def _positive(text: str) -> int:
  if not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a positive integer')
  return int(text)


if __name__ == '__main__':
  # Not by SIGPIPE's default, which would end the export with the first worker that dies.
  try:
    code = main()
    sys.stdout.flush()
  except BrokenPipeError:  # `| head` is no error
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    code = 0
  sys.exit(code)
