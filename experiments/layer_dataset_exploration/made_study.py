"""A folder in the layout of an edge study: networks that do not exist, by a formula."""

import csv
import random
from pathlib import Path

from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.edge_study import FILES

NETWORKS = {'small_1': 4, 'small_2': 9, 'middle_1': 16, 'middle_1.5': 24, 'large_1': 40}


def write(folder: Path, seed: int = 0) -> None:
  """Three tables for each network; deep ones have several equal layers."""
  chance = random.Random(seed)
  for network, depth in NETWORKS.items():
    tables: dict[str, list[dict[str, object]]] = {kind: [] for kind in FILES}
    for number in range(depth):
      stage = number * 4 // depth
      channels, side = 32 * 2**stage, 112 // 2**stage
      sizes = [1, channels, side, side, channels, side, side]
      window = chance.choice([1, 3])
      work = channels**2 * side**2 * window**2
      _add(
        tables, columns.CONV, [*sizes, window, window, window - 1, window - 1, 1, 1], work, chance
      )
      if number % 6 == 0:
        half = [*sizes[:5], side // 2, side // 2]
        _add(tables, columns.POOLING, [*half, 2, 2, 2, 2], 60 * channels * side**2, chance)
      if number % 4 == 0:
        _add(tables, columns.DENSE, [1, channels * 49, 1000], channels * 49 * 1000, chance)
    for kind, rows in tables.items():
      path = folder / network / FILES[kind]
      path.parent.mkdir(parents=True, exist_ok=True)
      with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(
          file, [*columns.STUDY_FEATURES[kind], 'power', 'runtime', 'layer_name']
        )
        writer.writeheader()
        writer.writerows(rows)


def _add(tables: dict[str, list[dict[str, object]]], kind: str, values: list[int], work: int,
         chance: random.Random) -> None:  # fmt: skip
  row: dict[str, object] = dict(zip(columns.STUDY_FEATURES[kind], values, strict=True))
  row['runtime'] = (0.01 + work / 2e9) * chance.gauss(1, 0.05)
  row['power'] = 1e6 * (1 + 4 * work / (work + 2e7)) * chance.gauss(1, 0.02)
  row['layer_name'] = f'{kind}_{len(tables[kind])}'
  tables[kind].append(row)
