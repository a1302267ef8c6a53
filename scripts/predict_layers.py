#!/usr/bin/env python3
"""Predicts the runtime, power and energy of a network from measured layers of a device.

  python scripts/predict_layers.py fit layers.csv … --output=device.npz
  python scripts/predict_layers.py predict device.npz network.csv [--output=predicted.csv]
  python scripts/predict_layers.py score layers.csv … [--split=by_shape,by_family] [--lasso]
  python scripts/predict_layers.py score first.csv --second_pass=second.csv

Tables have the columns of layer_power/columns.py; a network's needs no measurements. Scores by
shape and by family are of layers that the predictor never saw; those of random rows and of the
edge study's three networks leak and are shown for reference. Exit codes: 0, 1 if nothing could be
predicted or scored, 2 for a wrong command or table.
"""

import argparse
import signal
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import predictor, tables, validation
from algorithmic_efficiency.layer_power.frames import Frame

_MOST_REFUSED = 5


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    return {'fit': _fit, 'predict': _predict, 'score': _score}[given.what](given)
  except UsageError as error:
    print(f'predict_layers: error: {error}', file=sys.stderr)
    return 2
  except OSError as error:
    print(f'predict_layers: error: {error.filename}: {error.strerror}.', file=sys.stderr)
    return 2


def _fit(given: argparse.Namespace) -> int:
  table = _read(given.table)
  fitted = predictor.fit(table.rows)
  for (kind, target), part in fitted.parts.items():
    error = part.scores.get(part.chosen)
    told = f'{error:.1f} % RMSPE by shape' if error is not None else 'too few to tell'
    print(f'  {kind} {target}: {part.chosen}, {told}, {len(part.residuals)} rows')
  for note in fitted.notes:
    print(f'  not fitted: {note}')
  fitted.save(given.output)
  print(f'written to {given.output}')
  return 0


def _predict(given: argparse.Namespace) -> int:
  fitted = predictor.load(given.model)
  table = tables.read(given.layers, measured=False)
  _tell(table)
  network = fitted.predict_network(table.rows)
  count = len(network.layers)
  missing = sum(network.unpredicted.values())
  low, high = network.runtime_interval_ms
  print(f'{count - missing} of {count} layers on {fitted.device or "the device"}:')
  if missing:
    print(f'  without a prediction: {_counted(network.unpredicted)}')
  outside = int(network.layers['outside'].sum())
  if outside:
    print(f'  unlike all that were measured: {outside} layers; do not trust them')
  if given.output:
    network.layers.to_csv(given.output, index=False)
  if missing == count:
    print('predict_layers: no layer could be predicted.', file=sys.stderr)
    return 1
  print(f'  runtime {network.runtime_ms:.4g} ms ({low:.4g} to {high:.4g} if all layers err alike)')
  if network.energy_j == network.energy_j:
    print(f'  power {network.power_w:.4g} W, energy {network.energy_j:.4g} J')
  else:
    print('  power and energy: not told, for it was not measured for all of these types')
  return 0


def _score(given: argparse.Namespace) -> int:
  rows = _read(given.table).rows
  second = _read([given.second_pass]).rows if given.second_pass else None
  notes: list[str] = []
  shown = 0
  for kind, target, some in predictor.parts_of(rows, notes):
    print(f'\n{kind} {target}: {len(some)} rows, {len(set(tables.configurations(some)))} shapes')
    floor = validation.repeat_floor(some, target)
    if floor:
      print(f'  repeats of a configuration tell each other to {floor.rmspe_pct:.1f} % RMSPE')
    if second is not None:
      noise = validation.noise_floor(some, second[second['layer_type'] == kind], target)
      if noise:
        print(f'  the two passes tell each other to {noise.rmspe_pct:.1f} % RMSPE')
    for split in given.split.split(','):
      scores = validation.score(some, target, split, given.seed, given.lasso)
      if not scores:
        print(f'  {split}: these rows cannot be split so')
        continue
      leak = ', LEAKS' if split in validation.LEAKY else ''
      print(f'  {split}{leak} (shapes of {scores[0].seen_pct:.0f} % of the rows were fitted to)')
      for s in scores:
        print(
          f'    {s.model:<34} RMSPE {s.metrics.rmspe_pct:7.1f} %  MAPE {s.metrics.mape_pct:6.1f} %'
          f'  R2 {s.metrics.r2:7.3f}  within 10 % {s.metrics.within_10_pct:5.1f} %'
          + (f'  in the interval of 90 %: {s.covered_pct:.0f} %' if s.chosen else '')
        )
        shown += 1
  for note in notes:
    print(f'not scored: {note}')
  return 0 if shown else 1


def _read(paths: list[Path]) -> tables.Table:
  table = tables.read_all(paths)
  _tell(table)
  rows: Frame = table.rows
  print(f'{len(rows):,} layers of {", ".join(sorted(set(rows["device"]))) or "a device"}')
  return table


def _tell(table: tables.Table) -> None:
  for why in table.refused[:_MOST_REFUSED]:
    print(f'  left out: {why}')
  if len(table.refused) > _MOST_REFUSED:
    print(f'  … and {len(table.refused) - _MOST_REFUSED:,} more rows left out')
  if table.unknown_types:
    print(f'  types that are not known: {_counted(table.unknown_types)}')


def _counted(counts: Counter[str]) -> str:
  return ', '.join(f'{count} x {name}' for name, count in counts.most_common())


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  commands = parser.add_subparsers(dest='what', required=True)
  fit = commands.add_parser('fit', help='fit a predictor to measured layers')
  fit.add_argument('table', nargs='+', type=Path)
  fit.add_argument('--output', type=Path, required=True, help='an .npz')
  predict = commands.add_parser('predict', help='predict a network')
  predict.add_argument('model', type=Path, help='what fit wrote')
  predict.add_argument('layers', type=Path, help='one row for each time a layer runs')
  predict.add_argument('--output', type=Path, help='a CSV of the layers with their predictions')
  score = commands.add_parser('score', help='cross-validate all models')
  score.add_argument('table', nargs='+', type=Path)
  score.add_argument('--second_pass', type=Path, help='the same layers measured again')
  score.add_argument('--split', default=','.join(validation.SPLITS), help='(default: %(default)s)')
  score.add_argument('--seed', type=int, default=0, help='of the folds (default: %(default)s)')
  score.add_argument('--lasso', action='store_true', help="the edge study's model too (slow)")
  return parser.parse_args()


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` is no error
  sys.exit(main())
