"""What is in a data set of layers: counts, summaries and distributions, tables and pictures.

  python explore.py --data=FOLDER [--output=FOLDER]     <model>/…/convolutional.csv, pooling.csv, …
  python explore.py --smoke                             on a data set made by a formula

Writes counts.csv, summary_<type>.csv and plot_*.png.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import made_study
import matplotlib.pyplot as plt
import pandas as pd
import style
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns, dataset

PATTERNS = {
  columns.CONV: '*convolutional.csv',
  columns.POOLING: '*pooling.csv',
  columns.DENSE: '*dense.csv',
}
COLOURS = {columns.CONV: '#1f6fb4', columns.POOLING: '#d9541e', columns.DENSE: '#3a8f4d'}


def main() -> int:
  """Returns the exit code."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument('--data', type=Path)
  what.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE)
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    folder = given.data or Path(scratch)
    if given.smoke:
      made_study.write(folder)
    try:
      explore(folder, given.output)
    except UsageError as error:
      print(f'explore: error: {error}', file=sys.stderr)
      return 2
  return 0


def explore(folder: Path, output: Path) -> None:
  """Writes the tables and the pictures. Raises UsageError where there are no tables."""
  counts: dict[str, Any] = {}
  found: dict[str, dataset.Dataset] = {}
  for kind, pattern in PATTERNS.items():
    paths = dataset.find_tables(folder, pattern)
    if paths:
      counts[kind] = dataset.layers_by_model(folder, pattern).set_index('model')['count']
      builder = dataset.DatasetBuilder(columns.STUDY_FEATURES[kind])
      found[kind] = builder.merge_feature_data(paths)
  if not found:
    raise UsageError(f'{str(folder)!r} has none of {", ".join(PATTERNS.values())}.')
  output.mkdir(parents=True, exist_ok=True)
  table = pd.DataFrame(counts).fillna(0).astype(int)
  table = table.loc[table.sum(axis=1).sort_values(ascending=False).index]
  table.to_csv(output / 'counts.csv', index_label='model')
  print(table.to_string())
  for kind, data in found.items():
    shown = dataset.summary(data)
    shown.to_csv(output / f'summary_{kind}.csv', index_label='statistic')
    constant = ', '.join(dataset.constant_features(data)) or 'nothing'
    print(f'\n{kind}: {len(data.power)} layers, {dataset.duplicates(data)} of them like another')
    print(f'the same in all: {constant}')
    print(shown.T.to_string(float_format=lambda number: f'{number:.4g}'))
    draw_features(kind, data, output / f'plot_features_{kind}.png')
  draw_counts(table, output / 'plot_counts.png')
  draw_targets(found, output / 'plot_targets.png')


def draw_counts(table: Any, path: Path) -> None:
  """Layers of each network, by type."""
  figure, axes = plt.subplots(figsize=(7.2, 1.2 + 0.28 * len(table)))
  left = pd.Series(0, index=table.index)
  for kind in table.columns:
    axes.barh(table.index, table[kind], left=left, color=COLOURS[kind], label=kind)
    left = left + table[kind]
  for place, total in enumerate(left):
    axes.annotate(str(total), (total, place), (4, 0), textcoords='offset points', va='center')
  axes.invert_yaxis()
  axes.grid(axis='y', visible=False)
  axes.set(xlabel='layers')
  axes.legend()
  style.save(figure, path)


def draw_targets(found: dict[str, dataset.Dataset], path: Path) -> None:
  """Power against runtime, and how each is distributed."""
  figure, panels = plt.subplots(1, 3, figsize=(11, 3.4))
  for kind, data in found.items():
    colour = COLOURS[kind]
    panels[0].loglog(data.runtime, data.power, 'o', color=colour, markersize=3, label=kind)
    for axes, values in zip(panels[1:], (data.runtime, data.power), strict=True):
      ordered = values.sort_values()
      axes.semilogx(
        ordered, [100 * (n + 1) / len(values) for n in range(len(values))], color=colour
      )
  panels[0].set(xlabel='runtime, ms', ylabel='power above idle, W')
  panels[0].legend()
  panels[1].set(xlabel='runtime, ms', ylabel='layers with less, %')
  panels[2].set(xlabel='power above idle, W', ylabel='layers with less, %')
  for axis in (panels[0].xaxis, panels[0].yaxis, panels[1].xaxis, panels[2].xaxis):
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FormatStrFormatter('%g'))
    axis.set_minor_formatter(NullFormatter())
  figure.tight_layout()
  style.save(figure, path)


def draw_features(kind: str, data: dataset.Dataset, path: Path) -> None:
  """How often each value of each feature occurs."""
  names = list(data.input_features)
  across = min(5, len(names))
  down = -(-len(names) // across)
  figure, panels = plt.subplots(down, across, figsize=(2.3 * across, 2.1 * down), squeeze=False)
  for axes, name in zip(panels.flat, names, strict=False):
    counts = data.input_features[name].value_counts().sort_index()
    axes.bar(range(len(counts)), counts.to_numpy(), color=COLOURS[kind])
    step = max(1, -(-len(counts) // 5))
    axes.set_xticks(range(0, len(counts), step), [f'{v:g}' for v in counts.index[::step]],
                    rotation=45, fontsize=7)  # fmt: skip
    axes.set_title(name, fontsize=9)
    axes.grid(axis='x', visible=False)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
  for axes in list(panels.flat)[len(names) :]:
    axes.set_visible(False)
  figure.supylabel('layers', fontsize=9)
  figure.tight_layout()
  style.save(figure, path)


if __name__ == '__main__':
  sys.exit(main())
