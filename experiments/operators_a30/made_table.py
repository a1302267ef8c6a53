"""Layers of a device that does not exist: times and powers by a formula, with repeats and noise."""

import csv
import itertools
import random
from pathlib import Path

from algorithmic_efficiency.layer_power import columns

_MACS_IN_A_MS, _BYTES_IN_A_MS, _LAUNCH_MS = 4e9, 5e8, 0.02
_IDLE_W, _LIMIT_W = 40.0, 160.0


def write(
  path: Path, network: str = 'made', seed: int = 0, channels: tuple[int, ...] = (16, 40, 96)
) -> None:
  """Some hundred convolutions, poolings and dense layers, a third of them twice."""
  chance = random.Random(seed)
  rows = []
  for inside, outside, side, window in itertools.product(channels, channels, (7, 14, 28), (1, 3)):
    rows.append(_row('conv', 'Conv2d', inside, side, outside, side, window, 1))
  for inside, side in itertools.product((*channels, 200, 320), (8, 16, 32)):
    rows.append(_row('pooling', 'AvgPool2d', inside, side, inside, side // 2, 2, 2))
  for inside, outside in itertools.product((64, 256, 700, 2048), (10, 100, 1000, 4096)):
    rows.append(_row('dense', 'Linear', inside, 1, outside, 1, 1, 1))
  rows += rows[::3]
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, columns.NAMES, lineterminator='\n')
    writer.writeheader()
    for number, row in enumerate(rows):
      where = {'network': network, 'layer': f'layer{number}', 'device': 'made'}
      writer.writerow({**row, **_measured(row, chance), **where})


def _row(kind: str, op: str, inside: int, side: int, outside: int, end: int, window: int,
         stride: int) -> dict[str, object]:  # fmt: skip
  weights = 0 if kind == 'pooling' else inside * outside * window**2
  moved = 4 * (8 * inside * side**2 + 8 * outside * end**2 + weights)
  values = (kind, op, 'float32', 8, inside, side, side, outside, end, end, window, window,
            window - 1, window - 1, stride, stride, 1, 8 * end**2 * weights, moved)  # fmt: skip
  names = (c.name for c in (*columns.CONFIGURATION, *columns.DERIVED))
  return dict(zip(names, values, strict=True))


def _measured(row: dict[str, object], chance: random.Random) -> dict[str, object]:
  macs, moved = float(str(row['macs'])), float(str(row['bytes_moved']))
  runtime = _LAUNCH_MS + max(macs / _MACS_IN_A_MS, moved / _BYTES_IN_A_MS)
  busy = (macs / _MACS_IN_A_MS + moved / _BYTES_IN_A_MS) / runtime
  power = min(_IDLE_W + 90 * busy, _LIMIT_W)
  return {
    'runtime': runtime * chance.gauss(1, 0.01),
    'power': power * chance.gauss(1, 0.005),
    'power_source': 'none',
  }
