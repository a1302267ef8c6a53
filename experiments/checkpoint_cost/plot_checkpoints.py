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
  figure, (speed, start) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=[1.7, 1])
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
  starts = [r for r in rows if r['what'].startswith('command to first step')]
  kinds = [row['what'].rpartition(', ')[2] for row in starts]
  for place, (row, kind) in enumerate(zip(starts, kinds, strict=True)):
    seconds = float(row['seconds'])
    alpha = 1.0 if kind == 'resumed' else 0.45
    start.bar(place, seconds, 0.8, color=style.COLOURS[row['framework']], alpha=alpha)
    start.annotate(f'{seconds:.1f}', (place, seconds), ha='center', va='bottom')
  names = [f'{row["framework"]}\n{kind}' for row, kind in zip(starts, kinds, strict=True)]
  start.set_xticks(range(len(starts)), names)
  start.set(ylabel='seconds from command to first step')
  start.set_title('Start', loc='left')
  start.margins(y=0.15)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_checkpoints.png')


if __name__ == '__main__':
  main()
