"""Draws slices a second by setting, and joules an epoch where a device told them."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def main() -> None:
  """Draws the figure: results.csv to plot_throughput.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  has_energy = any(row['epoch_joules'] for row in rows)
  figure, panels = plt.subplots(1, 1 + has_energy, figsize=(7.5 * (1 + has_energy), 4.2))
  shown = [(panels, 'slices_per_sec', 'slices a second')] if not has_energy else [
    (panels[0], 'slices_per_sec', 'slices a second'),
    (panels[1], 'epoch_joules', 'joules an epoch'),
  ]  # fmt: skip
  names = list(dict.fromkeys(map(name_of, rows)))
  for axes, column, label in shown:
    for place, (framework, colour) in enumerate(style.COLOURS.items()):
      own = {name_of(r): r for r in rows if r['framework'] == framework and r[column]}
      where = [names.index(name) + 0.4 * (place - 0.5) for name in own]
      values = [float(row[column]) for row in own.values()]
      axes.bar(where, values, 0.38, color=colour, label=framework)
      for x, value in zip(where, values, strict=True):
        axes.annotate(f'{value:.3g}', (x, value), ha='center', va='bottom', fontsize=8)
    axes.set_xticks(range(len(names)), names)
    axes.set(ylabel=label)
    axes.legend()
  figure.tight_layout()
  style.save(figure, HERE / 'plot_throughput.png')


def name_of(row: dict[str, str]) -> str:
  """The label of a setting."""
  name = f'{row["image_size"]} px\nbatch {row["batch_size"]}'
  return name + (f'\n{row["processes"]} processes' if row['processes'] != '1' else '')


if __name__ == '__main__':
  main()
