"""Reads results.csv: how often a ranking by few seeds is that by all; luck.csv, plot_seeds.png."""

import argparse
import csv
import statistics
import sys
from collections import defaultdict
from itertools import combinations
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import numpy as np
import style
from matplotlib.axes import Axes
from style import COLOURS, plt

FEW = (1, 3, 5)  # studies: one run, AlgoPerf's number since 0.6, and that of 0.5
NUM_DRAWS = 20_000
Steps = dict[str, list[float]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--table', type=Path, default=HERE / 'results.csv')
  table = parser.parse_args().table
  steps = read(table)
  rows = [row for framework in steps for row in luck(framework, steps[framework])]
  with (table.parent / 'luck.csv').open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  for row in rows:
    print(', '.join(f'{key} {value}' for key, value in row.items()))
  figure, axes = plt.subplots(1, 2, figsize=(10.5, 1.8 + 0.36 * len(next(iter(steps.values())))),
                              width_ratios=[1.5, 1], layout='constrained')  # fmt: skip
  spread(axes[0], steps)
  agreement(axes[1], rows)
  style.save(figure, table.parent / 'plot_seeds.png')


def read(table: Path) -> dict[str, Steps]:
  """Framework to submission to the steps of each seed."""
  found: dict[str, Steps] = defaultdict(lambda: defaultdict(list))
  with table.open(newline='') as file:
    for row in csv.DictReader(file):
      found[row['framework']][row['submission']].append(float(row['steps']))
  return found


def luck(framework: str, steps: Steps) -> list[dict[str, object]]:
  """What rankings by the medians of few seeds have in common with that by all seeds.

  pairs_in_order: the share of pairs of submissions that are in the same order; a tie is half a
  pair. same_winner: of draws, the share in which the best is the best of all seeds; where several
  share the first place, each has its part of it.
  """
  rng = np.random.default_rng(0)
  names = list(steps)
  whole = np.array([np.median(steps[name]) for name in names])
  pairs = [(i, j) for i, j in combinations(range(len(names)), 2) if whole[i] != whole[j]]
  rows = list[dict[str, object]]()
  for few in FEW:
    drawn = np.stack([_medians(np.array(steps[name]), few, rng) for name in names])
    first = drawn == drawn.min(axis=0)
    winner = first[whole.argmin()] / first.sum(axis=0)
    orders = [
      np.where(drawn[i] == drawn[j], 0.5, (drawn[i] < drawn[j]) == (whole[i] < whole[j]))
      for i, j in pairs
    ]
    rows.append({
      'framework': framework, 'seeds': few,
      'pairs_in_order': round(float(np.mean(orders)), 3),
      'same_winner': round(float(winner.mean()), 3),
    })  # fmt: skip
  return rows


def _medians(values: np.ndarray, few: int, rng: np.random.Generator) -> np.ndarray:
  """(NUM_DRAWS,): medians of so many values drawn anew."""
  return np.median(values[rng.integers(len(values), size=(NUM_DRAWS, few))], axis=1)


def spread(axes: Axes, steps: dict[str, Steps]) -> None:
  """Each seed a dot, the median a bar."""
  first = next(iter(steps.values()))
  names = sorted(first, key=lambda name: statistics.median(first[name]))
  for framework, shift in (('jax', -0.18), ('pytorch', 0.18)):
    for place, name in enumerate(names):
      values = steps.get(framework, {}).get(name, [])
      reached = [value for value in values if np.isfinite(value)]
      axes.plot(
        reached,
        [place + shift] * len(reached),
        'o',
        ms=3.5,
        alpha=0.45,
        mew=0,
        color=COLOURS[framework],
        label=framework if not place and values else None,
      )
      if values and np.isfinite(middle := statistics.median(values)):
        axes.plot([middle] * 2, [place + shift - 0.14, place + shift + 0.14],
                  color=COLOURS[framework], lw=2)  # fmt: skip
      if len(reached) < len(values):
        axes.annotate(f'{len(values) - len(reached)} never', (1.0, place + shift), fontsize=7,
                      xycoords=('axes fraction', 'data'), ha='right', va='center',
                      color=COLOURS[framework])  # fmt: skip
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.5, -0.5)
  style.log_x(axes)
  axes.set(xlabel='steps to the target', title='One point, many seeds; bars: medians')
  axes.legend(loc='upper right', fontsize=8)


def agreement(axes: Axes, rows: list[dict[str, object]]) -> None:
  """How much of the ranking few seeds find."""
  for framework in dict.fromkeys(str(row['framework']) for row in rows):
    mine = [row for row in rows if row['framework'] == framework]
    seeds = [float(str(row['seeds'])) for row in mine]
    for column, line, mark in (('pairs_in_order', '-', 'o'), ('same_winner', '--', 's')):
      axes.plot(
        seeds,
        [100 * float(str(row[column])) for row in mine],
        line,
        marker=mark,
        ms=4,
        color=COLOURS[framework],
        label=f'{column.replace("_", " ")}, {framework}',
      )
  axes.set_xticks(FEW)
  axes.set_ylim(0, 102)
  axes.set(xlabel='seeds whose median counts', ylabel='like the ranking by all seeds [%]',
           title='How much few seeds tell')  # fmt: skip
  axes.legend(fontsize=7, loc='lower right')


if __name__ == '__main__':
  main()
