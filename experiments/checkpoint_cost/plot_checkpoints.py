"""Draws how fast checkpoints are written and read, and how soon a run goes on."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def main() -> None:
  """Draws the figure: results.csv to plot_checkpoints.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, (speed, start) = plt.subplots(1, 2, figsize=(10.5, 4), width_ratios=[2.2, 1])
  large = [r for r in rows if int(r['bytes']) and not r['what'].startswith('cifar')]
  for place, row in enumerate(reversed(large)):
    value = int(row['bytes']) / float(row['seconds']) / 1e6
    ours = row['what'] in ('save', 'restore')
    colour = style.COLOURS[row['framework']]
    speed.barh(place, value, color=colour, alpha=1.0 if ours else 0.45)
    speed.annotate(f' {value:,.0f}', (value, place), va='center')
  labels = [f'{r["framework"]}: {r["what"]}' for r in reversed(large)]
  speed.set_yticks(range(len(large)), labels)
  speed.set(xlabel='MB/s, 1.2 GB, until the disk has it')
  speed.set_title('A model of 100 million parameters', loc='left')
  speed.margins(x=0.15)
  for place, framework in enumerate(style.COLOURS):
    for offset, kind, alpha in ((-0.18, 'fresh', 0.45), (0.18, 'resumed', 1.0)):
      (row,) = [r for r in rows if r['framework'] == framework and r['what'].endswith(f', {kind}')]
      seconds = float(row['seconds'])
      start.bar(place + offset, seconds, 0.34, color=style.COLOURS[framework], alpha=alpha)
      start.annotate(
        f'{kind}\n{seconds:.1f} s', (place + offset, seconds), ha='center', va='bottom'
      )
  start.set_xticks(range(len(style.COLOURS)), list(style.COLOURS))
  start.set(ylabel='seconds from command to first step')
  start.set_title('Start', loc='left')
  start.margins(y=0.2)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_checkpoints.png')


if __name__ == '__main__':
  main()
