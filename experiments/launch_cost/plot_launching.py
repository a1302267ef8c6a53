"""Draws the seconds to the first row by engine and framework: results.csv to plot_launching.png."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = [row for row in csv.DictReader(file) if row['part'] == 'first_step']
  engines = list(dict.fromkeys(row['engine'] for row in rows))
  figure, axes = plt.subplots(figsize=(7.2, 0.6 + 0.7 * len(engines)))
  for shift, (framework, colour) in zip((-0.12, 0.12), style.COLOURS.items(), strict=True):
    for place, engine in enumerate(engines):
      chosen = [r for r in rows if (r['engine'], r['case']) == (engine, framework)]
      seconds = sorted(float(row['seconds']) for row in chosen)
      label = framework if place == 0 else None
      axes.plot(seconds, [place + shift] * len(seconds), 'o', color=colour, alpha=0.5, label=label)
      middle = statistics.median(seconds)
      axes.plot([middle], [place + shift], '|', color=colour, markersize=16)
  axes.set_yticks(range(len(engines)), engines)
  axes.margins(y=0.2)
  axes.invert_yaxis()
  axes.set_xlim(left=0)
  axes.set(xlabel='seconds from start to the first recorded row; bars: medians')
  axes.set_title('What launching adds to the start of a trial', loc='left')
  axes.legend(loc='lower left', ncols=2)
  style.save(figure, HERE / 'plot_launching.png')


if __name__ == '__main__':
  main()
