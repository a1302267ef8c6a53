"""Reads results.csv: plot_launching.png, seconds to the first row and trials a minute by engine."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
from matplotlib.axes import Axes

Rows = list[dict[str, str]]


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, (firsts, rates) = plt.subplots(1, 2, figsize=(10, 3), width_ratios=[3, 2])
  draw_firsts(firsts, [row for row in rows if row['part'] == 'first_step'])
  draw_rates(rates, [row for row in rows if row['part'] == 'hundred'])
  figure.tight_layout()
  style.save(figure, HERE / 'plot_launching.png')


def draw_firsts(axes: Axes, rows: Rows) -> None:
  """Every start, and the medians."""
  engines = list(dict.fromkeys(row['engine'] for row in rows))
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


def draw_rates(axes: Axes, rows: Rows) -> None:
  """Trials a minute, with how many were killed and lost."""
  for place, row in enumerate(rows):
    rate = 60 * float(row['trials']) / float(row['seconds'])
    axes.barh(place, rate, 0.5, color='#7a7a7a')
    told = f' {rate:.0f}: {row["kills"]} killed, {row["lost"]} lost, {row["twice"]} twice'
    axes.annotate(told, (0, place), va='center', fontsize=8, color='white')
  axes.set_yticks(range(len(rows)), [row['engine'] for row in rows])
  axes.invert_yaxis()
  axes.set(xlabel='trials a minute')
  axes.set_title('100 trials, a tenth killed', loc='left')


if __name__ == '__main__':
  main()
