"""Draws where each kill struck, and whether the record came out the same: plot_resume.png."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

MARKERS = {'1': 'o', '2': 's'}  # by processes


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, axes = plt.subplots()
  for framework, colour in style.COLOURS.items():
    for processes, marker in MARKERS.items():
      chosen = [r for r in rows if (r['framework'], r['processes']) == (framework, processes)]
      label = f'{framework}, {processes} process{"es" * (processes != "1")}: {len(chosen)} kills'
      seconds = [float(r['killed_after_sec']) for r in chosen]
      steps = [int(r['checkpoint_at_kill']) for r in chosen]
      axes.plot(seconds, steps, marker, color=colour, alpha=0.6, label=label)
  wrong = [r for r in rows if r['same'] != 'yes']
  for row in wrong:
    axes.plot(float(row['killed_after_sec']), int(row['checkpoint_at_kill']), 'kx', markersize=12)
  axes.set(xlabel='seconds from the command to the kill', ylabel='step of the newest checkpoint')
  title = f'{len(rows)} kills by SIGKILL: {len(rows) - len(wrong)} records the same'
  axes.set_title(title, loc='left')
  axes.legend(fontsize=8)
  style.save(figure, HERE / 'plot_resume.png')


if __name__ == '__main__':
  main()
