"""Draws power and energy of the systems over one axis of time."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

COLOURS = ['#1f6fb4', '#d9541e', '#2f8f4e', '#8a4fb0']


def main() -> None:
  """Draws the figure: results.csv to plot_power.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, (power, energy) = plt.subplots(2, 1, figsize=(8, 6), sharex=True, height_ratios=[3, 2])
  for name, colour in zip(dict.fromkeys(r['system'] for r in rows), COLOURS, strict=False):
    own = [row for row in rows if row['system'] == name]
    seconds = [float(row['seconds']) for row in own]
    count = own[0]['devices']
    label = f'{name}, {count} device{"" if count == "1" else "s"} at work'
    power.plot(seconds, [float(row['watts']) for row in own], color=colour, lw=1.2, label=label)
    for begin, end in evaluations(own):
      power.axvspan(begin, end, ymax=0.05, color=colour, alpha=0.5, lw=0)
    for column, line, kind in (('joules', '-', 'gross'), ('net_joules', '--', 'net of idle')):
      values = [float(row[column]) / 1000 for row in own]
      energy.plot(seconds, values, color=colour, ls=line, lw=1.2, label=f'{name}, {kind}')
  power.set(ylabel='power [W]')
  power.set_ylim(bottom=0)
  power.legend(loc='lower left', bbox_to_anchor=(0, 1), title='strips: evaluations')
  energy.set(ylabel='energy [kJ]', xlabel='seconds since the devices began to work')
  energy.legend(fontsize=8)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_power.png')


def evaluations(rows: list[dict[str, str]]) -> list[tuple[float, float]]:
  """(begin, end) of each stretch of rows in an evaluation."""
  found: list[tuple[float, float]] = []
  last = ''
  for row in rows:
    at = float(row['seconds'])
    if row['phase'] == 'eval':
      found = [*found[:-1], (found[-1][0], at)] if last == 'eval' else [*found, (at, at)]
    last = row['phase']
  return found


if __name__ == '__main__':
  main()
