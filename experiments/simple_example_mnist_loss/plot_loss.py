"""Draws every trial's loss over its steps: logs/all_metrics.csv to plot_loss.png."""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style


def read(table: Path) -> dict[tuple[str, str, int], list[dict[str, str]]]:
  """Rows by (workload, framework, trial)."""
  if not table.is_file():
    sys.exit(f'plot_loss: error: there is no {str(table)!r}; run measure_loss.sh first.')
  trials = defaultdict(list)
  with table.open(newline='', encoding='utf-8') as file:
    for row in csv.DictReader(file):
      trials[row['workload'], row['framework'], int(row['run_idx'])].append(row)
  if not trials:
    sys.exit(f'plot_loss: error: {str(table)!r} has no rows; did the run end before step 1?')
  return dict(sorted(trials.items()))


def describe(row: dict[str, str]) -> str:
  """'learning rate 0.0012': what tells a trial from the others."""
  rate = row.get('hparam.learning_rate')
  return f'learning rate {float(rate):.2g}' if rate else 'no hyperparameters'


def main() -> None:
  """Draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--table', type=Path, default=HERE / 'logs' / 'all_metrics.csv')
  parser.add_argument('--figure', type=Path, default=HERE / 'plot_loss.png')
  arguments = parser.parse_args()
  trials = read(arguments.table)
  figure, axes = plt.subplots()
  for (_, framework, trial), rows in trials.items():
    steps = [int(row['global_step']) for row in rows]
    line: dict[str, Any] = {
      'color': style.COLOURS[framework],
      'linestyle': style.LINES[(trial - 1) % 4],
    }
    label = f'{framework}, trial {trial}: {describe(rows[0])}'
    axes.plot(steps, [float(row['loss']) for row in rows], label=label, marker='.', **line)
    if rows[-1]['goal_reached'] == 'TRUE':
      axes.plot(steps[-1], float(rows[-1]['loss']), marker='*', markersize=13, **line)
  axes.set(xlabel='global step', ylabel='validation loss', yscale='log')
  workloads = ', '.join(sorted({workload for workload, _, _ in trials}))
  axes.set_title(f'{workloads}: validation loss  (star: both targets reached)', loc='left')
  axes.legend()
  style.save(figure, arguments.figure)


if __name__ == '__main__':
  main()
