#!/usr/bin/env python3
"""Measures runtime and power of networks layer by layer: each distinct layer alone, and in place.

  python scripts/measure_layers.py --networks=lenet,resnet18 --output_dir=layers
  python scripts/measure_layers.py --networks=all --batch_sizes=1,4 --device=cuda --idle_sec=20
  python scripts/measure_layers.py --networks=vgg19 --shapes_only --output_dir=vgg19
  python scripts/measure_layers.py --networks=my_models:make_net --input_shape=3,64,64

Writes layers.csv (a row a layer of each network), networks.csv (whole networks beside the sums of
their layers), study/ (the same with the columns of the edge study) and measured.jsonl, from which
an interrupted run goes on. Power is empty, and its source 'none', where no counter, NVML or RAPL
tells it. Exit codes: 0, 1 failed, 2 a wrong command.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.layer_power.zoo import NETWORKS
from algorithmic_efficiency.status_line import StatusLine


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    _measure(given)
  except UsageError as error:
    return _complain(str(error), 2)
  except MeasurementError as error:
    return _complain(str(error), 1)
  except KeyboardInterrupt:
    return _complain('stopped; what was measured is kept, the same command goes on with it.', 130)
  return 0


def _measure(given: argparse.Namespace) -> None:
  from algorithmic_efficiency.layer_power.measuring import (
    Asked,
    Measurement,
    load_runner,
    write_shapes,
  )
  from algorithmic_efficiency.layer_power.meter import Meter
  from algorithmic_efficiency.telemetry.sample import Telemetry

  networks = list(NETWORKS) if given.networks == 'all' else given.networks.split(',')
  asked = [Asked(n, b, given.input_shape) for n in networks for b in given.batch_sizes]
  runner = load_runner(given.framework, given.device)
  if given.shapes_only:
    _show(write_shapes(given.output_dir, runner, asked))
    print(f'written to {given.output_dir / "layers.csv"}, for predict_layers.py')
    return
  meter = Meter(Telemetry(), given.idle_sec, given.repeats, given.min_sec)
  print(f'{given.framework} on {runner.kind}, power by {meter.source}', flush=True)
  with StatusLine() as status:
    measurement = Measurement(
      given.output_dir, runner, meter,
      lambda what, done, total: status.count(done, total, 'measured', what),
    )  # fmt: skip
    measurement.run(asked, given.repeats_in_network)
  print(f'written to {given.output_dir / "layers.csv"} and networks.csv')


def _show(networks: list[dict[str, Any]]) -> None:
  """What is known of networks without running them."""
  for network in networks:
    kinds = ', '.join(f'{count} {kind}' for kind, count in network['layers'].items())
    others = ', '.join(f'{name} {count}' for name, count in network['others'].items())
    print(
      f'{network["network"]}, batch {network["batch_size"]}: {network["parameters"]:,} parameters, '
      f'{network["macs"] / 1e9:.3f} GMACs; {kinds}; no layers: {others or "none"}'
    )


def _complain(message: str, code: int) -> int:
  print(f'measure_layers: error: {message}', file=sys.stderr)
  return code


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--networks', required=True, help='names with commas, module:callable, or all of the zoo'
  )
  parser.add_argument('--framework', choices=('pytorch', 'jax'), default='pytorch')
  parser.add_argument('--device', choices=('cpu', 'cuda', 'hpu'), default='cpu')
  parser.add_argument('--batch_sizes', type=_integers, default=[1], help='with commas')
  parser.add_argument('--input_shape', type=_shape, help="channels,height,width; of a user's own")
  parser.add_argument('--repeats', type=int, default=5, help='of each measurement')
  parser.add_argument('--repeats_in_network', type=int, default=10)
  parser.add_argument(
    '--min_sec', type=float, default=0.0, help='of a repeat; power sources need a second or two'
  )
  parser.add_argument(
    '--shapes_only', action='store_true', help='run nothing: the layers of networks to predict'
  )
  parser.add_argument('--idle_sec', type=float, default=0.0, help='measure the idle power first')
  parser.add_argument('--output_dir', type=Path, default=Path('layers'))
  return parser.parse_args()


def _integers(text: str) -> list[int]:
  parts = text.split(',')
  if not all(part.isdigit() and int(part) > 0 for part in parts):
    raise argparse.ArgumentTypeError(f'{text!r} is not positive integers with commas')
  return [int(part) for part in parts]


def _shape(text: str) -> tuple[int, ...]:
  return tuple(_integers(text))


if __name__ == '__main__':
  sys.exit(main())
