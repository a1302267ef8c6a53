"""Draws what the bench costs beside what it is compared with: results.csv to plot_overhead.png."""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOWEST, HIGHEST = 0.7, 1.3  # of the ratios drawn in their place; others stand at the edge
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def read() -> dict[str, dict[str, list[dict[str, str]]]]:
  """Rows by figure and setting."""
  found: Any = defaultdict(lambda: defaultdict(list))
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    for row in csv.DictReader(file):
      found[row['figure']][row['setting']].append(row)
  return found


def draw_speed(axes, settings: dict[str, list[dict[str, str]]]) -> None:
  """Each run's ratio as a dot, the median as a line."""
  for place, (setting, rows) in enumerate(settings.items()):
    ratios = [float(row['bench']) / float(row['bare']) for row in rows]
    colour = style.COLOURS[setting.split()[1]]
    axes.plot([place] * len(ratios), ratios, 'o', color=colour, alpha=0.5)
    for ratio in (ratio for ratio in ratios if not LOWEST < ratio < HIGHEST):
      edge, marker = (HIGHEST, '^') if ratio > 1 else (LOWEST, 'v')
      axes.plot(place, edge, marker, color=colour, clip_on=False)
      axes.annotate(f'one run at {ratio:.2f}', (place, edge), ha='center', va='bottom')
    median = statistics.median(ratios)
    axes.plot([place - 0.25, place + 0.25], [median] * 2, color=colour, linewidth=2)
    axes.annotate(f'{median:.2f}', (place + 0.28, median), va='center')
  axes.axhline(1, color='#808080', linewidth=1)
  axes.set_xticks(range(len(settings)), [s.replace(' ', '\n') for s in settings])
  axes.set(ylabel='steps per second, bench over bare loop', xlim=(-0.6, len(settings) - 0.2))
  axes.set_ylim(LOWEST, HIGHEST)
  axes.set_title('Speed', loc='left', pad=18)


def draw_start(axes, settings: dict[str, list[dict[str, str]]]) -> None:
  """Seconds to the first step, side by side."""
  for place, (framework, rows) in enumerate(settings.items()):
    for offset, who, alpha in ((-0.18, 'bare', 0.45), (0.18, 'bench', 1.0)):
      seconds = statistics.median(float(row[who]) for row in rows)
      axes.bar(place + offset, seconds, 0.34, color=style.COLOURS[framework], alpha=alpha)
      axes.annotate(f'{who}\n{seconds:.1f} s', (place + offset, seconds), ha='center', va='bottom')
  axes.set_xticks(range(len(settings)), list(settings))
  axes.set(ylabel='seconds from command to first step')
  axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
  axes.grid(axis='x', visible=False)
  axes.set_title('Start', loc='left', pad=18)


def main() -> None:
  """Draws the figure."""
  found = read()
  figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), width_ratios=(2.4, 1))
  draw_speed(left, found['steps_per_sec'])
  draw_start(right, found['start_sec'])
  figure.tight_layout()
  style.save(figure, HERE / 'plot_overhead.png')


if __name__ == '__main__':
  main()
