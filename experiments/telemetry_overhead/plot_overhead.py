"""Draws how fast runs are with telemetry, over runs without, and what the sampler takes."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
from matplotlib.axes import Axes

MODES = ['row', '2 Hz', '10 Hz']


def main() -> None:
  """Draws the figure: results.csv to plot_overhead.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, (loop, runs, share) = plt.subplots(1, 3, figsize=(11, 4), width_ratios=[1, 2, 1])
  for place, (framework, colour) in enumerate(style.COLOURS.items()):
    pairs = values_of(rows, framework, '10 Hz', 'rate over stopped')
    draw(loop, place, pairs, colour, framework)
    for number, mode in enumerate(MODES):
      values = values_of(rows, framework, mode, 'rate over off')
      draw(runs, number + 0.4 * (place - 0.5), values, colour, '')
  loop.set(xticks=[], ylabel='steps a second, 10 Hz over stopped')
  loop.set_title('60 pairs of seconds', loc='left')
  loop.margins(x=0.35)
  loop.legend(loc='lower center', fontsize=8)
  runs.set_xticks(range(len(MODES)), MODES)
  runs.set(ylabel='steps a second over those without')
  runs.set_title('whole runs, 4 turns', loc='left')
  for axes in (loop, runs):
    axes.axhline(1, color='#888888', lw=0.8)
  modes = [mode for mode in dict.fromkeys(r['mode'] for r in rows) if mode.endswith('alone')]
  values = [100 * values_of(rows, '', mode, 'share of a core')[0] for mode in modes]
  share.bar(range(len(modes)), values, 0.5, color='#7a7a7a')
  for x, value in enumerate(values):
    share.annotate(f'{value:.2f} %', (x, value), ha='center', va='bottom')
  share.set_xticks(range(len(modes)), [mode.removesuffix(' alone') for mode in modes])
  share.set(ylabel='per cent of a core, 8 GPUs')
  share.set_title('sampler', loc='left')
  share.margins(x=0.4, y=0.15)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_overhead.png')


def draw(axes: Axes, where: float, values: list[float], colour: str, label: str) -> None:
  """Dots, and their median as a line."""
  middle = statistics.median(values)
  axes.plot([where] * len(values), values, 'o', color=colour, ms=3, alpha=0.35)
  axes.plot([where - 0.12, where + 0.12], [middle] * 2, color=colour, lw=2.5, label=label)
  axes.annotate(f' {middle:.3f}', (where + 0.12, middle), va='center', fontsize=8)


def values_of(rows: list[dict[str, str]], framework: str, mode: str, what: str) -> list[float]:
  """Of all turns."""
  key = framework, mode, what
  return [float(r['value']) for r in rows if (r['framework'], r['mode'], r['what']) == key]


if __name__ == '__main__':
  main()
