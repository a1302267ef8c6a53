"""Draws the tables here: plot_baselines.png, steps and seconds to the target and the profile."""

import argparse
import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import style
from matplotlib.axes import Axes
from style import COLOURS, plt

Row = dict[str, str]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--tables', type=Path, default=HERE, help='where the tables are')
  folder = parser.parse_args().tables
  trials = [row for row in read(folder / 'trials.csv') if row['chosen'] == 'True']
  order = [row['submission'] for row in read(folder / 'scores.csv')]
  names = list(dict.fromkeys(name.rpartition('_')[0] for name in order))
  figure, axes = plt.subplots(
    1, 3, figsize=(11, 1.6 + 0.36 * len(names)), width_ratios=[1, 1, 1.15], layout='constrained'
  )
  for place, (column, label) in enumerate(
    (('step', 'steps to the target'), ('time_sec', 'submission time to the target [s]'))
  ):
    dots(axes[place], trials, names, column)
    axes[place].set_xlabel(label)
  axes[1].set_yticklabels([])
  profile(axes[2], read(folder / 'performance_profile.csv'), order)
  figure.suptitle('Best of five trials in each of three studies; bars: from least to most',
                  x=0.01, ha='left', fontsize=10)  # fmt: skip
  style.save(figure, folder / 'plot_baselines.png')


def read(path: Path) -> list[Row]:
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def dots(axes: Axes, trials: list[Row], names: list[str], column: str) -> None:
  """Each study a dot, a bar over a framework's studies."""
  for framework, shift in (('jax', -0.16), ('pytorch', 0.16)):
    for place, name in enumerate(names):
      values = [float(t[column]) for t in trials if t['submission'] == f'{name}_{framework}']
      if values:
        y = [place + shift] * len(values)
        colour = COLOURS[framework]
        axes.plot([min(values), max(values)], y[:1] * 2, color=colour, lw=2, alpha=0.45)
        axes.plot(values, y, 'o', ms=4, color=colour, label=framework if not place else None)
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.5, -0.5)
  style.log_x(axes)
  axes.legend(loc='lower right', fontsize=8)


def profile(axes: Axes, rows: list[Row], order: list[str]) -> None:
  """Where each submission's median lies, as a ratio to the best, with its interval."""
  taus = [float(row['tau']) for row in rows]
  for place, name in enumerate(order):
    colour = COLOURS[name.rpartition('_')[2]]
    if f'{name}_low' not in rows[0]:
      continue
    first, median, last = (rise(rows, taus, f'{name}{end}') for end in ('_high', '', '_low'))
    if first is not None:
      axes.plot([first, last or taus[-1]], [place, place], color=colour, lw=2, alpha=0.45)
      if last is None:
        axes.plot(taus[-1], place, '>', ms=5, color=colour, alpha=0.6, clip_on=False)
    if median is not None:
      axes.plot(median, place, 'o', ms=4, color=colour)
  axes.set_yticks(range(len(order)), order, fontsize=7)
  axes.set_ylim(len(order) - 0.5, -0.5)
  axes.set_xlim(1, taus[-1])
  axes.set_xlabel('ratio τ to the best at which the profile rises to 1')


def rise(rows: list[Row], taus: list[float], column: str) -> float | None:
  """The ratio from which on a profile is 1."""
  return next((t for t, row in zip(taus, rows, strict=True) if float(row[column]) == 1.0), None)


if __name__ == '__main__':
  main()
