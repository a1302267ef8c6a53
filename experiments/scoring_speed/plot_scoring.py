"""Reads results.csv: plot_scoring.png, seconds and memory by the number of trials."""

import argparse
import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import style
from style import plt


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--table', type=Path, default=HERE / 'results.csv')
  table = parser.parse_args().table
  with table.open(newline='') as file:
    rows = list(csv.DictReader(file))
  figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout='constrained')
  trials = [int(row['trials']) for row in rows]
  for place, (column, label, limit) in enumerate(
    (('seconds', 'seconds', 5), ('megabytes', 'memory at the peak [MB]', 500))
  ):
    axes[place].plot(trials, [float(row[column]) for row in rows], 'o', ms=4, alpha=0.6)
    axes[place].axhline(limit, color='#999999', lw=1, ls='--')
    axes[place].annotate(
      'what is allowed for 4,000', (0.02, limit), ha='left', va='bottom', fontsize=8,
      xycoords=('axes fraction', 'data'), color='#666666',
    )  # fmt: skip
    axes[place].set(xlabel='trials', ylabel=label, xlim=(0, None), ylim=(0, limit * 1.15))
  style.save(figure, table.parent / 'plot_scoring.png')


if __name__ == '__main__':
  main()
