#!/usr/bin/env python3
"""Imports the raw data of an edge study (power log, TensorRT's layer times) into tables of layers.

  python scripts/import_edge_study.py raw_data                 → raw_data_imported/<model>/…
  python scripts/import_edge_study.py raw_data/resnet18 --output_dir=tables --min_samples=100

Of each model: the mapping of power to every run of a layer, averages, the study's tables
convolutional.csv, pooling.csv and dense.csv, and layers.csv for predict_layers.py. Layers of
unknown types and layers with few readings of power are counted and named. Exit codes: 0, 1 if a
model could not be imported, 2 for a wrong command or folder.
"""

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import edge_study

_MOST_NAMED = 3


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  folder = given.folder
  output = given.output_dir or folder.with_name(f'{folder.resolve().name}_imported')
  try:
    models = edge_study.find_models(folder)
  except UsageError as error:
    print(f'import_edge_study: error: {error}', file=sys.stderr)
    return 2
  failed = 0
  for model in models:
    try:
      _import(model, output, given)
    except UsageError as error:
      print(f'import_edge_study: error: {error}', file=sys.stderr)
      failed += 1
    except OSError as error:
      print(f'import_edge_study: error: {error.filename}: {error.strerror}.', file=sys.stderr)
      return 2
  print(f'{len(models) - failed} of {len(models)} models written to {output}')
  return 1 if failed else 0


def _import(folder: Path, output: Path, given: argparse.Namespace) -> None:
  study = edge_study.read_study(folder, given.idle)
  edge_study.write_study(study, output, given.device, given.min_samples)
  runs = max(len(layer.runtime_ms) for layer in study.layers)
  print(f'{study.model}: {len(study.layers)} layers, {runs:,} runs')
  for kind, count in edge_study.unknown_types(study).most_common():
    print(f'  {count} layers of the type {kind}, which has no table')
  few = edge_study.with_few_readings(study, given.min_samples)
  for layer in few[:_MOST_NAMED]:
    print(f'  left out, {layer.readings} readings of power: {layer.name[:80]}')
  if len(few) > _MOST_NAMED:
    print(f'  … and {len(few) - _MOST_NAMED} more with fewer than {given.min_samples} readings')
  for note in study.notes:
    print(f'  note: {note[:160]}')


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('folder', type=Path, help='of one model or of all')
  parser.add_argument('--output_dir', type=Path, help='default: <folder>_imported beside it')
  parser.add_argument('--idle', type=Path, help="idling_power.json (default: beside a model's)")
  parser.add_argument(
    '--min_samples', type=int, default=10, help='readings of power a layer needs (default: 10)'
  )
  parser.add_argument('--device', default='edge board', help='name of it in layers.csv')
  given = parser.parse_args()
  if given.min_samples < 1:
    parser.error(f'--min_samples is {given.min_samples}; it must be at least 1')
  return given


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
