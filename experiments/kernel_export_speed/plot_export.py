"""Draws seconds and memory of each way to export: results.csv to plot_export.png."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

OURS, OTHERS = '#1f6fb4', '#8a8a8a'


def main() -> None:
  """Draws the figure."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  names = list(dict.fromkeys(map(name_of, rows)))
  figure, panels = plt.subplots(1, 2, figsize=(9.5, 3.2), sharey=True)
  shown = (('seconds', 'seconds'), ('peak_mebibytes', 'peak memory of all processes, MiB'))
  for axes, (column, label) in zip(panels, shown, strict=True):
    for place, name in enumerate(names):
      values = [float(row[column]) for row in rows if name_of(row) == name]
      colour = OURS if name.startswith('ours') else OTHERS
      middle = statistics.median(values)
      axes.barh(place, middle, 0.6, color=colour)
      axes.plot(values, [place] * len(values), 'o', color='black', markersize=3)
      axes.annotate(f'{middle:.3g}', (max(values), place), (6, 0), textcoords='offset points',
                    va='center')  # fmt: skip
    axes.set(xlabel=label)
    axes.margins(x=0.18)
  panels[0].set_yticks(range(len(names)), names)
  panels[0].invert_yaxis()
  traces, size = rows[0]['traces'], float(rows[0]['megabytes']) / 1000
  figure.suptitle(f'{int(traces):,} traces, {size:.1f} GB; dots are repeats', fontsize=10)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_export.png')


def name_of(row: dict[str, str]) -> str:
  """The label of a way to export."""
  what = 'kernels' if row['kinds'] == 'kernel' else 'kernels and host operators'
  processes = 'process' if row['jobs'] == '1' else 'processes'
  return f'{row["engine"]}: {what},\n{row["jobs"]} {processes}'


if __name__ == '__main__':
  main()
