"""Draws the worst error of the energy by how often the power is sampled."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

SHADES = ('#c6dbef', '#9ecae1', '#6baed6', '#3182bd', '#08519c')


def main() -> None:
  """Draws the figure: results.csv to plot_energy.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, axes = plt.subplots()
  sources = list(dict.fromkeys(row['source'] for row in rows))
  periods = list(dict.fromkeys(row['period_sec'] for row in rows))
  for place, (period, shade) in enumerate(zip(periods, SHADES, strict=True)):
    chosen = {r['source']: r for r in rows if r['period_sec'] == period and r['gap_sec'] == '0.0'}
    values = [max(abs(float(chosen[source]['worst_percent'])), 1e-3) for source in sources]
    where = [i + 0.16 * (place - 2) for i in range(len(sources))]
    axes.bar(where, values, 0.15, color=shade, label=f'{period} s')
  axes.set_yscale('log')
  axes.set_xticks(range(len(sources)), sources)
  axes.set(xlabel='power sampled at, or the counter read at both ends')
  axes.set(ylabel='worst error of the energy of a minute [%]')
  axes.legend(title='power swings every', ncols=5, loc='lower center', bbox_to_anchor=(0.5, 1.0))
  figure.tight_layout()
  style.save(figure, HERE / 'plot_energy.png')


if __name__ == '__main__':
  main()
