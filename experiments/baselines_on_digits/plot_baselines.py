"""Draws the tables here: plot_baselines.png, steps and seconds to the target and the profile."""

import argparse
import csv
import statistics
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
  found = [framework for framework in ('jax', 'pytorch') if (folder / framework).exists()]
  trials = [t for f in found for t in read(folder / f / 'trials.csv')]
  names = sorted(
    {t['submission'].removesuffix(f'_{t["framework"]}') for t in trials},
    key=lambda name: statistics.median(v for f in found for v in least(trials, name, f, 'step')),
  )
  figure, axes = plt.subplots(
    1, 2 + len(found), figsize=(7.5 + 3 * len(found), 1.6 + 0.34 * len(names)),
    layout='constrained',
  )  # fmt: skip
  for place, (column, label) in enumerate(
    (('step', 'steps to the target'), ('time_sec', 'submission time to the target [s]'))
  ):
    dots(axes[place], trials, names, column)
    axes[place].set_xlabel(label)
  axes[1].set_yticklabels([])
  for place, framework in enumerate(found, start=2):
    order = [row['submission'] for row in read(folder / framework / 'scores.csv')]
    profile(axes[place], read(folder / framework / 'performance_profile.csv'), order, framework)
  figure.suptitle('Best trial of each study; bars: from least to most, and 95 % intervals',
                  x=0.01, ha='left', fontsize=10)  # fmt: skip
  figure.legend(*axes[0].get_legend_handles_labels(), loc='outside upper right', ncols=2)
  style.save(figure, folder / 'plot_baselines.png')


def read(path: Path) -> list[Row]:
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def least(trials: list[Row], name: str, framework: str, column: str) -> list[float]:
  """Of each study the best trial's value, by this column."""
  studies: dict[str, list[float]] = {}
  for trial in trials:
    if trial['submission'] == f'{name}_{framework}':
      studies.setdefault(trial['study'], []).append(float(trial[column]))
  return sorted(min(values) for values in studies.values())


def dots(axes: Axes, trials: list[Row], names: list[str], column: str) -> None:
  """Each study a dot, a bar over a framework's studies."""
  for framework, shift in (('jax', -0.16), ('pytorch', 0.16)):
    for place, name in enumerate(names):
      values = least(trials, name, framework, column)
      if values:
        y = [place + shift] * len(values)
        colour = COLOURS[framework]
        axes.plot([min(values), max(values)], y[:1] * 2, color=colour, lw=2, alpha=0.45)
        axes.plot(values, y, 'o', ms=4, color=colour, label=framework if not place else None)
  axes.set_yticks(range(len(names)), names)
  axes.set_ylim(len(names) - 0.5, -0.5)
  style.log_x(axes)


def profile(axes: Axes, rows: list[Row], order: list[str], framework: str) -> None:
  """Where each submission's profile, of the one workload, rises to 1, with its interval."""
  taus = [float(row['tau']) for row in rows]
  for place, name in enumerate(order):
    colour = COLOURS[framework]
    if f'{name}_low' not in rows[0]:
      continue
    first, median, last = (rise(rows, taus, f'{name}{end}') for end in ('_high', '', '_low'))
    if first is not None:
      axes.plot([first, last or taus[-1]], [place, place], color=colour, lw=2, alpha=0.45)
      if last is None:
        axes.plot(taus[-1], place, '>', ms=5, color=colour, alpha=0.6, clip_on=False)
    if median is not None:
      axes.plot(median, place, 'o', ms=4, color=colour)
  axes.set_yticks(range(len(order)), [name.removesuffix(f'_{framework}') for name in order])
  axes.set_ylim(len(order) - 0.5, -0.5)
  axes.set_xlim(1, taus[-1])
  axes.set_xlabel(f'τ at which the profile rises, {framework}')


def rise(rows: list[Row], taus: list[float], column: str) -> float | None:
  """The ratio from which on a profile is 1."""
  return next((t for t, row in zip(taus, rows, strict=True) if float(row[column]) == 1.0), None)


if __name__ == '__main__':
  main()
