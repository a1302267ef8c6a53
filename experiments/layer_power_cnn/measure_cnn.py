"""Runtime and power of networks, layer by layer; and of each as predicted from the others.

  python measure_cnn.py                    12 networks, two passes; layers.csv, networks.csv, …
  python measure_cnn.py --device=cuda      on a GPU, with power
  python measure_cnn.py --smoke            two small networks, one repeat

`--work=FOLDER` keeps what is measured, so that a run that was stopped goes on. Every network is
predicted twice: from networks of other families, and from all others, which may share layers with
it.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import pandas as pd

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import predictor, validation
from algorithmic_efficiency.layer_power.columns import CONFIGURATION, CONV, DENSE, POOLING
from algorithmic_efficiency.layer_power.frames import Frame

NETWORKS = ['lenet', 'alexnet', 'vgg11', 'googlenet', 'resnet18', 'resnet34', 'resnet50',
            'resnext50_32x4d', 'mobilenet_v2', 'mobilenet_v3_small', 'mobilenet_v3_large',
            'convnext_tiny']  # fmt: skip
SMOKE = ['lenet', 'resnet18']
SCORED = (CONV, POOLING, DENSE)  # each fold of a score chooses anew, which takes a while
LAYERS = ['network', 'family', 'layer', 'device', *(c.name for c in CONFIGURATION), 'macs',
          'bytes_moved', 'runtime', 'runtime_std', 'runtime_second', 'runtime_in_network', 'power',
          'power_above_idle', 'power_source']  # fmt: skip


def main() -> None:
  """Writes layers.csv, networks.csv, predictions.csv and errors.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--device', default='cpu')
  parser.add_argument('--work', type=Path, help='folder of the measurements; else a temporary one')
  parser.add_argument('--output_dir', type=Path, default=HERE)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as temporary:
    work = given.work or Path(temporary)
    passes = [measure(work / f'pass_{n}', given) for n in (1, 2)]
    layers, networks = join(*passes)
  given.output_dir.mkdir(parents=True, exist_ok=True)
  layers[LAYERS].to_csv(given.output_dir / 'layers.csv', index=False, float_format='%.6g')
  networks.to_csv(given.output_dir / 'networks.csv', index=False, float_format='%.6g')
  errors(layers).to_csv(given.output_dir / 'errors.csv', index=False, float_format='%.4g')
  found = predictions(layers, networks)
  found.to_csv(given.output_dir / 'predictions.csv', index=False, float_format='%.6g')
  print(found.to_string(index=False, float_format='%.4g'))


def measure(folder: Path, given: argparse.Namespace) -> tuple[Frame, Frame]:
  """(layers, networks) of one pass."""
  names = SMOKE if given.smoke else NETWORKS
  repeats = (
    ['--repeats=1', '--repeats_in_network=2']
    if given.smoke
    else ['--repeats=3', '--repeats_in_network=5']
  )
  command = [ROOT / 'scripts' / 'measure_layers.py', f'--networks={",".join(names)}', *repeats,
             f'--device={given.device}', f'--output_dir={folder}']  # fmt: skip
  if given.device != 'cpu':
    command.append('--idle_sec=20')
  subprocess.run([sys.executable, *map(str, command)], check=True)
  return pd.read_csv(folder / 'layers.csv'), pd.read_csv(folder / 'networks.csv')


def join(first: tuple[Frame, Frame], second: tuple[Frame, Frame]) -> tuple[Frame, Frame]:
  """The first pass with the times of the second beside it."""
  tables = []
  for one, other, keys in zip(first, second, (['network', 'layer'], ['network']), strict=True):
    again = other[[*keys, 'runtime']].rename(columns={'runtime': 'runtime_second'})
    tables.append(one.merge(again, on=keys, validate='one_to_one'))
  return tables[0], tables[1]


def errors(layers: Frame) -> Frame:
  """RMSPE and share within 10 % by type of layer and split, and of one pass by the other."""
  distinct = layers.drop_duplicates([c.name for c in CONFIGURATION])
  rows = []
  for kind, some in distinct[distinct['layer_type'].isin(SCORED)].groupby('layer_type'):
    of_noise = validation.metrics(some['runtime'].to_numpy(), some['runtime_second'].to_numpy())
    rows.append(error_row(kind, 'second pass', 'noise floor', len(some), of_noise))
    of_kind = layers[(layers['layer_type'] == kind) & layers['runtime'].notna()]
    for split in (validation.BY_SHAPE, validation.BY_FAMILY):
      data = some if split == validation.BY_SHAPE else of_kind
      for score in validation.score(data.dropna(subset=['runtime']), 'runtime', split, lasso=False):
        if score.model in (validation.MEAN, validation.choice.CHOSEN):
          rows.append(error_row(kind, split, score.model, score.rows, score.metrics))
  return pd.DataFrame(rows)


def error_row(
  kind: object, split: str, model: str, count: int, found: validation.Metrics
) -> dict[str, object]:
  """A row of errors.csv."""
  told = found._asdict()
  return {'layer_type': kind, 'split': split, 'model': model, 'rows': count, **told}


def predictions(layers: Frame, networks: Frame) -> Frame:
  """Each network as predicted by what others were measured to take; milliseconds."""
  rows = []
  fitted: dict[tuple[str, ...], predictor.Predictor | None] = {}
  for network in networks.itertuples():
    own = layers[layers['network'] == network.network]
    row = {
      'network': network.network,
      'family': network.family,
      'runtime': network.runtime,
      'runtime_second': network.runtime_second,
      'sum_alone': network.sum_alone,
      'sum_in_network': network.sum_in_network,
    }
    for name, column in (('family_out', 'family'), ('network_out', 'network')):
      others = layers[layers[column] != getattr(network, column)]
      trained = tuple(sorted(others['network'].unique()))
      if trained not in fitted:
        fitted[trained] = fit(others.drop_duplicates([c.name for c in CONFIGURATION]))
        print(f'fitted without {network.network} ({name})', flush=True)
      row |= predict(fitted[trained], own, name)
    rows.append(row)
  return pd.DataFrame(rows)


def fit(others: Frame) -> predictor.Predictor | None:
  """A predictor; None where there is too little to fit one to."""
  try:
    return predictor.fit(others)
  except UsageError as error:
    print(error, file=sys.stderr)
    return None


def predict(fitted: predictor.Predictor | None, own: Frame, name: str) -> dict[str, object]:
  """The sum of a network's layers as predicted; empty where nothing could be fitted."""
  if fitted is None:
    return {f'predicted_{name}': None, f'unpredicted_{name}': len(own)}
  found = fitted.predict_network(own)
  return {
    f'predicted_{name}': found.runtime_ms,
    f'unpredicted_{name}': sum(found.unpredicted.values()),
  }


if __name__ == '__main__':
  main()
