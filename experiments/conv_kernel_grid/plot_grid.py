"""Draws results.csv: durations by setting, by batch size, by filters and batch, by stride.

python plot_grid.py                     plot_*.png beside this file
python plot_grid.py --table=full.csv --folder=.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

import matplotlib.pyplot as plt
import numpy as np
import style
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter

from algorithmic_efficiency.profiling import analysis

NUMBERS = ('batch_size', 'stride', 'kernel_size', 'filters', 'repeat')
SHADES = plt.get_cmap('viridis')
PLAIN = FuncFormatter(lambda value, _: f'{value:,.10g}')

Row = dict[str, Any]


def main() -> None:
  """Draws the four figures."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--table', type=Path, default=HERE / 'results.csv')
  parser.add_argument('--folder', type=Path, default=HERE)
  given = parser.parse_args()
  rows = read(given.table)
  draw_distribution(rows, given.folder / 'plot_distribution.png')
  draw_batches(rows, given.folder / 'plot_batches.png')
  draw_filters(rows, given.folder / 'plot_filters.png')
  draw_strides(rows, given.folder / 'plot_strides.png')


def read(path: Path) -> list[Row]:
  """The rows with their numbers."""
  with path.open(newline='', encoding='utf-8') as file:
    return [
      {name: int(text) if name in NUMBERS else float(text) if name.endswith('_us') else text
       for name, text in row.items()}
      for row in csv.DictReader(file)
    ]  # fmt: skip


def frameworks_of(rows: Sequence[Row]) -> list[str]:
  """Those that there are, in the order of the colours."""
  there = {row['framework'] for row in rows}
  return [name for name in style.COLOURS if name in there]


def medians(rows: Sequence[Row], names: Sequence[str], column: str) -> list[analysis.Spread]:
  """Median and extremes of the repeats by these parameters."""
  return analysis.spreads([{**row, 'total_us': row[column]} for row in rows], names)


def chosen(rows: Sequence[Row], **values: Any) -> list[Row]:
  """The rows with these values."""
  return [row for row in rows if all(row[name] == value for name, value in values.items())]


def values_of(rows: Sequence[Row], name: str) -> list[int]:
  """The values of a parameter."""
  return sorted({row[name] for row in rows})


def panels_of(rows: Sequence[Row], height: float, **options: Any) -> tuple[Any, Any, list[str]]:
  """A figure with a panel a framework."""
  names = frameworks_of(rows)
  figure, panels = plt.subplots(
    1, len(names), figsize=(5.6 * len(names), height), squeeze=False, **options
  )
  return figure, panels[0], names


def draw_distribution(rows: Sequence[Row], path: Path) -> None:
  """A box for each kernel size and stride: all batches, filters and repeats."""
  figure, panels, names = panels_of(rows, 4.2, sharey=True)
  kinds = [(k, s) for k in values_of(rows, 'kernel_size') for s in values_of(rows, 'stride')]
  for axes, framework in zip(panels, names, strict=True):
    own = chosen(rows, framework=framework)
    durations = [
      [r['forward_us'] for r in chosen(own, kernel_size=k, stride=s) if r['forward_us'] > 0]
      for k, s in kinds
    ]
    boxes = axes.boxplot(durations, patch_artist=True, widths=0.6, medianprops={'color': 'black'})
    for box in boxes['boxes']:
      box.set(facecolor=style.COLOURS[framework], alpha=0.5)
    labels = [f'{k} x {k}\nstride {s}' for k, s in kinds]
    axes.set_xticks(range(1, len(kinds) + 1), labels, fontsize=8)
    axes.set_yscale('log')
    axes.yaxis.set_major_formatter(PLAIN)
    axes.set_title(f'{framework}: {len(own):,} trials', loc='left')
  panels[0].set_ylabel('forward convolution, microseconds a step')
  figure.tight_layout()
  style.save(figure, path)


def draw_batches(rows: Sequence[Row], path: Path) -> None:
  """Duration by batch size for each number of filters, forward and backward."""
  kernel, stride = max(values_of(rows, 'kernel_size')), 1
  names, filters = frameworks_of(rows), values_of(rows, 'filters')
  figure, grid = plt.subplots(
    2, len(names), figsize=(5.6 * len(names), 7.2), squeeze=False, sharex=True, sharey='row'
  )
  for column, framework in enumerate(names):
    own = chosen(rows, framework=framework, kernel_size=kernel, stride=stride)
    for axes, phase in zip(grid[:, column], ('forward', 'backward'), strict=True):
      for place, count in enumerate(filters):
        found = medians(chosen(own, filters=count), ['batch_size'], f'{phase}_us')
        found = [s for s in found if s.median_us > 0]
        colour = SHADES(0.9 * place / max(len(filters) - 1, 1))
        middle = np.array([s.median_us for s in found])
        reach = [middle - [s.min_us for s in found], [s.max_us for s in found] - middle]
        axes.errorbar([s.setting[0] for s in found], middle, reach, marker='o', markersize=4,
                      capsize=2.5, color=colour, label=str(count))  # fmt: skip
      axes.set(xscale='log', yscale='log')
      partly = phase == 'backward' and any(row['unnamed_us'] for row in own)
      told = f'{phase}{", as far as named" if partly else ""}'
      axes.set_title(f'{framework}, {told}; {kernel} x {kernel}, stride {stride}', loc='left')
      most = medians(own, ['batch_size'], f'{phase}_us')[-1]
      batch, top = most.setting[0], most.median_us
      axes.plot([1, batch], [top / batch, top], ':', color='grey', label='in proportion')
      axes.xaxis.set_major_formatter(PLAIN)
      axes.yaxis.set_major_formatter(PLAIN)
      batches = values_of(rows, 'batch_size')
      axes.set_xticks(batches if len(batches) < 9 else [1, 4, 16, 64, 128, 320])
      axes.minorticks_off()
  for axes in grid[-1]:
    axes.set_xlabel('batch size')
  for axes in grid[:, 0]:
    axes.set_ylabel('microseconds a step')
  grid[0, 0].legend(fontsize=8, title='filters', title_fontsize=8)
  figure.tight_layout()
  style.save(figure, path)


def draw_filters(rows: Sequence[Row], path: Path) -> None:
  """Filters against batch size, coloured by duration."""
  kernel, stride = max(values_of(rows, 'kernel_size')), 1
  own = [r for r in chosen(rows, kernel_size=kernel, stride=stride) if r['forward_us'] > 0]
  batches = values_of(rows, 'batch_size')
  figure, panels, names = panels_of(rows, 1.4 + 0.42 * len(batches))
  norm = _norm(own)
  for axes, framework in zip(panels, names, strict=True):
    of_framework = chosen(own, framework=framework)
    _draw_table(axes, of_framework, ('filters', 'batch_size'), norm)
    title = f'{framework}: forward, {kernel} x {kernel}, stride {stride}; us a step'
    axes.set_title(title, loc='left', fontsize=10)
  figure.tight_layout()
  style.save(figure, path)


def draw_strides(rows: Sequence[Row], path: Path) -> None:
  """Stride against filters, coloured by duration, at a small and at the largest batch."""
  kernel, batches = max(values_of(rows, 'kernel_size')), values_of(rows, 'batch_size')
  names, shown = frameworks_of(rows), [min(batches, key=lambda b: abs(b - 8)), batches[-1]]
  figure, grid = plt.subplots(2, len(names), figsize=(5.6 * len(names), 5.2), squeeze=False)
  for line, batch in zip(grid, shown, strict=True):
    own = [r for r in chosen(rows, kernel_size=kernel, batch_size=batch) if r['forward_us'] > 0]
    for axes, framework in zip(line, names, strict=True):
      _draw_table(axes, chosen(own, framework=framework), ('filters', 'stride'), _norm(own))
      title = f'{framework}: forward, {kernel} x {kernel}, batch {batch}; us a step'
      axes.set_title(title, loc='left', fontsize=10)
  figure.tight_layout()
  style.save(figure, path)


def _norm(rows: Sequence[Row]) -> LogNorm:
  durations = [row['forward_us'] for row in rows]
  return LogNorm(min(durations), max(durations))


def _draw_table(axes: Any, rows: Sequence[Row], names: tuple[str, str], norm: LogNorm) -> None:
  """Medians as coloured fields with their numbers, and the range of the repeats where it fits."""
  found = {s.setting: s for s in medians(rows, names, 'forward_us')}
  xs, ys = values_of(rows, names[0]), values_of(rows, names[1])
  image = np.full((len(ys), len(xs)), np.nan)
  is_roomy = len(xs) < 6
  for (x, y), spread in found.items():
    column, line = xs.index(x), ys.index(y)
    image[line, column] = spread.median_us
    range_pct = 100 * (spread.max_us - spread.min_us) / spread.median_us
    text = f'{spread.median_us:,.0f}' + (f'  ({range_pct:.0f}%)' if is_roomy else '')
    colour = 'white' if norm(spread.median_us) < 0.6 else 'black'
    axes.text(column, line, text, ha='center', va='center', color=colour,
              fontsize=9 if is_roomy else 6)  # fmt: skip
  axes.imshow(image, norm=norm, cmap=SHADES, aspect='auto', origin='lower')
  axes.set_xticks(range(len(xs)), xs)
  axes.set_yticks(range(len(ys)), ys)
  axes.set(xlabel=names[0], ylabel=names[1].replace('_', ' '))
  axes.grid(False)


if __name__ == '__main__':
  main()
