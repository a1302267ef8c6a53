"""Draws the rows found after each kill against those told of: results.csv to plot_kills.png."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, axes = plt.subplots()
  most = max(int(row['rows_in_csv']) for row in rows)
  axes.plot([0, most], [0, most], color='#b0b0b0', linewidth=1, label='none lost')
  for framework, colour in style.COLOURS.items():
    chosen = [row for row in rows if row['framework'] == framework]
    told = [int(row['rows_told']) for row in chosen]
    found = [int(row['rows_in_csv']) for row in chosen]
    axes.plot(told, found, 'o', color=colour, label=f'{framework}, {len(chosen)} kills')
  axes.set(xlabel='rows the run had told of', ylabel='rows readable in metrics.csv')
  axes.set_title('Rows left by runs killed with SIGKILL', loc='left')
  axes.legend()
  style.save(figure, HERE / 'plot_kills.png')


if __name__ == '__main__':
  main()
