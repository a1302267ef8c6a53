"""Draws ten steps of SGD in both frameworks: results.csv to plot_parity.png."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

FLOAT32_ROUNDING = 2**-24  # half a unit in the last place, relative


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = [row for row in csv.DictReader(file) if row['figure'].startswith('step ')]
  steps = range(1, len(rows) + 1)
  figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
  for (framework, colour), width in zip(style.COLOURS.items(), (5, 1.8), strict=True):
    losses = [float(row[framework]) for row in rows]
    left.plot(steps, losses, color=colour, linewidth=width, label=framework)
  left.set(xlabel='step', ylabel='loss before the step')
  left.legend()
  left.set_title('Ten steps of SGD from the same weights', loc='left')
  differences = [float(row['difference']) * 1e7 for row in rows]
  right.bar(steps, differences, color='#404040', width=0.5)
  right.axhline(
    FLOAT32_ROUNDING * 1e7, color='#d9541e', linestyle='--', label='rounding of one float32'
  )
  right.legend()
  right.set(xlabel='step', ylabel='relative difference of the losses [1e-7]')
  right.set_title('How far they part', loc='left')
  figure.tight_layout()
  style.save(figure, HERE / 'plot_parity.png')


if __name__ == '__main__':
  main()
