"""Draws results.csv: a bar a workload, made of the operators that take most of a step.

python plot_kernels.py                     plot_kernels.png beside this file
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
from matplotlib.axes import Axes

MOST = 10  # operators with a colour of their own
PHASES = ('forward', 'backward', 'update', 'other')
# Blues forward, oranges backward, greens in the update: the phase is seen before the operator.
SHADES = {'forward': 'Blues', 'backward': 'Oranges', 'update': 'Greens', 'other': 'Purples'}
PLAIN = {'not attributed': '#7a7a7a', 'nothing': '#f0f0f0', 'all others': '#c4c4c4'}

Row = dict[str, str]
Key = tuple[str, str]


def main() -> None:
  """Draws the figure."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--table', type=Path, default=HERE / 'results.csv')
  parser.add_argument('--figure', type=Path, default=HERE / 'plot_kernels.png')
  given = parser.parse_args()
  with given.table.open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  frameworks = [name for name in style.COLOURS if any(r['framework'] == name for r in rows)]
  figure, panels = plt.subplots(
    len(frameworks), 1, figsize=(11, 0.6 + 3.2 * len(frameworks)), squeeze=False
  )
  for axes, framework in zip(panels[:, 0], frameworks, strict=True):
    draw(axes, [row for row in rows if row['framework'] == framework])
    axes.set_title(framework, loc='left')
  panels[-1, 0].set_xlabel('share of a training step, %')
  figure.tight_layout()
  style.save(figure, given.figure)


def draw(axes: Axes, rows: Sequence[Row]) -> None:
  """A panel: bars from forward to what nothing ran in, and a legend of this framework."""
  workloads = list(dict.fromkeys(row['workload'] for row in rows))
  keys = parts_of(rows)
  lefts = dict.fromkeys(workloads, 0.0)
  for key, colour in colours_of(keys).items():
    widths = [share_of(rows, workload, key, keys) for workload in workloads]
    places = [lefts[workload] for workload in workloads]
    bars = axes.barh(workloads, widths, left=places, color=colour, label=' '.join(key).strip(),
                     edgecolor='white', linewidth=0.6)  # fmt: skip
    for bar, width in zip(bars, widths, strict=True):
      if width >= 5:
        middle = (bar.get_x() + width / 2, bar.get_y() + bar.get_height() / 2)
        axes.annotate(f'{width:.0f}', middle, ha='center', va='center', fontsize=8)
    for workload, width in zip(workloads, widths, strict=True):
      lefts[workload] += width
  labels = [f'{name}\n{milliseconds_of(rows, name)}' for name in workloads]
  axes.set_yticks(range(len(workloads)), labels)
  axes.invert_yaxis()
  axes.grid(axis='y', visible=False)
  axes.set_xlim(0, 103)  # the threads of a step may overlap by a little
  axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), fontsize=8)


def parts_of(rows: Sequence[Row]) -> list[Key]:
  """The operators that take most in any workload, by phase."""
  most: dict[Key, float] = {}
  for row in rows:
    key = (row['phase'], row['operator'])
    if row['operator'] not in (*PLAIN, 'smaller ones'):
      most[key] = max(most.get(key, 0.0), float(row['share_pct']))
  largest = sorted(most, key=lambda key: -most[key])[:MOST]
  return sorted(largest, key=lambda key: (PHASES.index(key[0]), -most[key]))


def colours_of(keys: Sequence[Key]) -> dict[Key, object]:
  """A colour for each part, in the order in which they are drawn."""
  colours: dict[Key, object] = {}
  for phase in PHASES:
    own = [key for key in keys if key[0] == phase]
    for place, key in enumerate(own):
      colours[key] = plt.get_cmap(SHADES[phase])(0.65 - 0.4 * place / max(len(own) - 1, 1))
  for name in ('all others', 'not attributed', 'nothing'):
    colours['', name] = PLAIN[name]
  return colours


def share_of(rows: Sequence[Row], workload: str, key: Key, keys: Sequence[Key]) -> float:
  """The share of a part in a workload."""
  own = {(r['phase'], r['operator']): float(r['share_pct']) for r in rows
         if r['workload'] == workload}  # fmt: skip
  if key == ('', 'all others'):
    return sum(v for k, v in own.items() if k not in keys and k[1] not in PLAIN)
  return own.get(key, 0.0)


def milliseconds_of(rows: Sequence[Row], workload: str) -> str:
  """How long the step took."""
  step_us = next(float(row['step_us']) for row in rows if row['workload'] == workload)
  return f'{step_us / 1000:,.{1 if step_us < 1e5 else 0}f} ms'


if __name__ == '__main__':
  main()
