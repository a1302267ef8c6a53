"""Draws how long each method took to join the tables: results.csv → plot_concatenation.png."""

import csv
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

HERE = Path(__file__).parent
# From bottom to top.
METHODS = {
  'pandas': ('pandas\n(read_csv, concat, to_csv)', '#b0b7c3'),
  'ours': ('concatenate_csvs', '#0b6fb8'),
}


def main() -> None:
  with (HERE / 'results.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), sharey=True, layout='constrained')
  draw_bars(axes[0], rows, 'seconds', ('time', 's'))
  draw_bars(axes[1], rows, 'peak_megabytes', ('peak memory of the process', 'MB'))
  seconds = {method: read_column(rows, method, 'seconds') for method in METHODS}
  ratio = statistics.median(seconds['pandas']) / statistics.median(seconds['ours'])
  figure.suptitle(
    f'concatenate_csvs joins the tables {ratio:.0f} times as fast as pandas\n', fontsize=12
  )
  note = f'Bars: median of {len(seconds["ours"])} repeats; dots: each repeat'
  figure.text(0.5, 0.86, note, ha='center', fontsize=9, color='#555555')
  figure.savefig(HERE / 'plot_concatenation.png', dpi=150)


def read_column(rows: list[dict[str, str]], method: str, column: str) -> list[float]:
  return [float(row[column]) for row in rows if row['method'] == method]


def draw_bars(
  axes: Axes, rows: list[dict[str, str]], column: str, quantity: tuple[str, str]
) -> None:
  label, unit = quantity
  for position, (method, (_, colour)) in enumerate(METHODS.items()):
    values = read_column(rows, method, column)
    median, last = statistics.median(values), max(values)
    axes.barh(position, median, height=0.55, color=colour)
    axes.plot(values, [position] * len(values), 'o', ms=4, mfc='white', mec='#333333', mew=0.8)
    text = f'  {median:.1f} {unit}' if median < 100 else f'  {median:.0f} {unit}'
    axes.text(last, position, f' {text}', va='center')
  axes.set_yticks(range(len(METHODS)), [name for name, _ in METHODS.values()])
  axes.set_xlabel(f'{label} ({unit})')
  axes.set_xlim(0, 1.28 * max(float(row[column]) for row in rows))
  axes.tick_params(axis='y', length=0)
  axes.spines[['top', 'right']].set_visible(False)


if __name__ == '__main__':
  main()
