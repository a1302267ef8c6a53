"""Draws networks' runtimes beside the sums and predictions, and errors by type of layer."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

SERIES = {
  'sum_alone': ('layers alone, summed', '#8a8a8a', 's'),
  'sum_in_network': ('layers in the network, summed', '#444444', 'x'),
  'predicted_family_out': ('predicted from other families', '#d9541e', 'o'),
  'predicted_network_out': ('predicted from all other networks', '#1f6fb4', '^'),
}
MODELS = {'second pass': '#8a8a8a', 'family': '#d9541e', 'shape': '#1f6fb4'}


def main() -> None:
  """Draws plot_networks.png and plot_errors.png."""
  draw_networks(read('predictions.csv'))
  draw_errors(read('errors.csv'))


def read(name: str) -> list[dict[str, str]]:
  """The rows of a table."""
  with (HERE / name).open(newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def draw_networks(rows: list[dict[str, str]]) -> None:
  """Each estimate as a multiple of the whole network's measured runtime."""
  rows = sorted(rows, key=lambda row: float(row['runtime']))
  figure, axes = plt.subplots(figsize=(8.5, 4.6))
  places = range(len(rows))
  for column, (label, colour, marker) in SERIES.items():
    ratios = [float(row[column]) / float(row['runtime']) if row[column] else None for row in rows]
    known = [(p, r) for p, r in zip(places, ratios, strict=True) if r]
    axes.plot(*zip(*known, strict=True), marker, color=colour, label=label, markersize=6)
  axes.axhline(1, color='black', linewidth=0.8)
  axes.set_yscale('log')
  ticks = [0.25, 0.5, 0.8, 1, 1.25, 2, 4]
  axes.set_yticks(ticks, [f'{tick:g}' for tick in ticks])
  axes.minorticks_off()
  labels = [f'{row["network"]}\n{float(row["runtime"]):,.0f} ms' for row in rows]
  axes.set_xticks(places, labels, rotation=55, ha='right', fontsize=8)
  axes.set(ylabel='share of the measured runtime')
  axes.legend(fontsize=8, loc='upper center', bbox_to_anchor=(0.5, 1.2), ncol=2)
  style.save(figure, HERE / 'plot_networks.png')


def draw_errors(rows: list[dict[str, str]]) -> None:
  """Error by type of layer: of the second pass, and of predictions."""
  kinds = list(dict.fromkeys(row['layer_type'] for row in rows))
  splits = list(dict.fromkeys(row['split'] for row in rows))
  figure, axes = plt.subplots(figsize=(8, 3.8))
  width = 0.8 / len(splits)
  for number, split in enumerate(splits):
    own = {r['layer_type']: float(r['rmspe_pct']) for r in rows
           if r['split'] == split and r['model'] != 'mean'}  # fmt: skip
    places = [kinds.index(kind) + (number - (len(splits) - 1) / 2) * width for kind in own]
    colours = list(MODELS.values())
    bars = axes.bar(places, list(own.values()), width * 0.9, color=colours[number], label=split)
    axes.bar_label(bars, fmt='%.0f', fontsize=8)
  axes.set_xticks(range(len(kinds)), kinds)
  axes.set(ylabel='RMSPE of the runtime, %')
  axes.set_yscale('log')
  axes.legend(fontsize=8)
  style.save(figure, HERE / 'plot_errors.png')


if __name__ == '__main__':
  main()
