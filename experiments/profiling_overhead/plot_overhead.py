"""Draws how much slower traced steps are than those before, and the steps after the window."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
from matplotlib.axes import Axes


def main() -> None:
  """Draws the figure: results.csv to plot_overhead.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = [row for row in csv.DictReader(file) if row['workload']]
  workloads = list(dict.fromkeys(row['workload'] for row in rows))
  figure, panels = plt.subplots(1, 3, figsize=(11, 4))
  titles = {
    'traced over before': 'traced steps over those before',
    'after over before': 'steps after the window over those before',
    'profiler ms a step': 'starting and writing, off the clock',
  }
  for axes, (what, title) in zip(panels, titles.items(), strict=True):
    for side, (framework, colour) in zip((-0.2, 0.2), style.COLOURS.items(), strict=True):
      for place, workload in enumerate(workloads):
        key = framework, workload, what
        values = [
          float(r['value']) for r in rows if (r['framework'], r['workload'], r['what']) == key
        ]
        draw(axes, place + side, values, colour, framework if place == 0 else '')
    axes.set_title(title, loc='left', fontsize=10)
    axes.set_xticks(range(len(workloads)), workloads)
    axes.margins(x=0.2, y=0.15)
  for axes in panels[:2]:
    axes.axhline(1, color='#888888', lw=0.8)
  panels[0].set(ylabel='ratio of medians in one run')
  panels[2].set(ylabel='ms for each traced step', yscale='log')
  panels[0].legend(fontsize=8)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_overhead.png')


def draw(axes: Axes, where: float, values: list[float], colour: str, label: str) -> None:
  """A dot a run, and their median as a line."""
  middle = statistics.median(values)
  axes.plot([where] * len(values), values, 'o', color=colour, ms=4, alpha=0.4)
  axes.plot([where - 0.13, where + 0.13], [middle] * 2, color=colour, lw=2.5, label=label)
  axes.annotate(f'{middle:.3g}', (where, max(values)), xytext=(0, 5),
                textcoords='offset points', ha='center', fontsize=8)  # fmt: skip


if __name__ == '__main__':
  main()
