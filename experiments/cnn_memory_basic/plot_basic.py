"""Draws what a CNN touches over its life: plot_*.png from the tables beside this file.

- plot_sizes.png: virtual, resident and working set over time; below, the first 60 windows.
- plot_working_set.png: how often which working set was met while it trained; what idling touches.
- plot_reuse.png: the part of reuses within a distance, as a band.
- plot_heat_map.png: which memory is touched when.
Prints the figures of the README.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import numpy as np
import style
import tracing_cnn
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from tracing_cnn import Table, chosen

FIRST = 60  # windows of the closer look
KINDS = {'virtual': '#9a9a9a', 'resident': '#333333', 'working_set': '#1f6fb4'}
STAGES = {'import': '#e9e9e9', 'data': '#f6e3c5', 'build': '#e2ecd9'}
REGIONS = {
  'heap': '#d9541e', 'anonymous': '#1f6fb4', 'library': '#8a4fb0', 'file': '#2f8f4e',
  'stack': '#c9a227', 'kernel': '#7a7a7a',
}  # fmt: skip
LOWEST_NAME = 0.03  # of the height


def main() -> None:
  """Draws all and prints the figures."""
  folder = tracing_cnn.plot_parser(__doc__, HERE).folder
  tables = {name: tracing_cnn.read_table(folder / f'{name}.csv')
            for name in ('results', 'windows', 'reuse', 'heat_map', 'heat_parts')}  # fmt: skip
  frameworks = list(dict.fromkeys(row['framework'] for row in tables['windows']))
  draw_sizes(frameworks, tables['windows'], folder)
  draw_working_set(frameworks, tables, folder)
  draw_reuse(frameworks, tables, folder)
  draw_heat_map(frameworks, tables, folder)
  tell(tables['results'])


def draw_sizes(frameworks: list[str], windows: Table, folder: Path) -> None:
  """A column each framework: the whole life above, its first windows below."""
  figure, grid = plt.subplots(
    2, len(frameworks), figsize=(5.4 * len(frameworks), 6.4), squeeze=False, sharey='row',
    layout='constrained',
  )  # fmt: skip
  for framework, (above, below) in zip(frameworks, grid.T, strict=True):
    rows = chosen(windows, framework=framework)
    for axes, shown in ((above, rows), (below, rows[:FIRST])):
      seconds = [row['begin_sec'] for row in shown]
      for kind, colour in KINDS.items():
        axes.plot(seconds, [row[f'{kind}_mib'] for row in shown], color=colour, lw=1.3,
                  label=kind.replace('_', ' '))  # fmt: skip
      mark_stages(axes, shown)
      axes.set_xlim(0, shown[-1]['begin_sec'] + shown[-1]['length_sec'])
    above.set_title(f'{framework}: its life', loc='left')
    below.set_title(f'the first {min(FIRST, len(rows))} windows', loc='left', fontsize=9)
    below.set(xlabel='seconds', yscale='log')
  grid[0, 0].set(ylabel='MiB', ylim=(0, None))
  grid[1, 0].set(ylabel='MiB')
  lines, names = grid[0, 0].get_legend_handles_labels()
  patches = [Patch(color=colour) for colour in STAGES.values()]
  texts = ['imports', 'makes the data', 'builds, and the first step']
  figure.legend([*lines, *patches], [*names, *texts], loc='outside lower center', ncols=6,
                fontsize=8)  # fmt: skip
  style.save(figure, folder / 'plot_sizes.png')


def mark_stages(axes: Axes, rows: Table) -> None:
  """What went on before training, as shades."""
  ends = [row['begin_sec'] for row in rows[1:]] + [rows[-1]['begin_sec'] + rows[-1]['length_sec']]
  for row, end in zip(rows, ends, strict=True):
    if row['stage'] in STAGES:
      axes.axvspan(row['begin_sec'], end, color=STAGES[row['stage']], lw=0, zorder=0)


def draw_working_set(frameworks: list[str], tables: dict[str, Table], folder: Path) -> None:
  """Histograms of the steady windows; beside them the means with what idles."""
  figure, (histogram, bars) = plt.subplots(
    1, 2, figsize=(10.5, 4), width_ratios=[1.3, 1], layout='constrained'
  )
  steady = chosen(tables['windows'], steady=1)
  most = max(row['working_set_mib'] for row in steady)
  for framework in frameworks:
    own = [row['working_set_mib'] for row in chosen(steady, framework=framework)]
    histogram.hist(own, bins=np.linspace(0, 1.05 * most, 42).tolist(), alpha=0.6, label=framework,
                   color=style.COLOURS[framework])  # fmt: skip
    histogram.axvline(float(np.mean(own)), color=style.COLOURS[framework], lw=1.2, ls='--')
  histogram.set(xlabel='MiB touched in a window', ylabel='windows')
  histogram.set_title('While it trains; dashed: the mean', loc='left', fontsize=10)
  histogram.legend()
  histogram.yaxis.get_major_locator().set_params(integer=True)
  measured = [row for row in tables['results'] if not row['reason']]
  names = list(dict.fromkeys(row['what'] for row in measured))
  for place, name in enumerate(reversed(names)):
    mean, low, high = tracing_cnn.spread(chosen(measured, what=name), 'working_set_median_mib')
    colour = style.COLOURS.get(name, '#777777')
    bars.barh(place, 1024 * mean, color=colour, height=0.62)
    bars.plot([1024 * low, 1024 * high], [place, place], color='#222222', lw=1.5)
    told = f'{mean:,.0f} MiB' if mean >= 10 else f'{1024 * mean:,.0f} KiB'
    bars.text(1024 * high * 1.25, place, told, va='center', fontsize=8)
  labels = [
    name if name in style.COLOURS else f'idle: {name}' for name in reversed(names)
  ]  # fmt: skip
  bars.set_yticks(range(len(names)), labels)
  bars.set(xscale='log', xlabel='KiB touched in a window, the median')
  bars.set_xlim(1, 1024 * most * 12)
  bars.grid(axis='y', visible=False)
  bars.set_title('Beside what idles', loc='left', fontsize=10)
  style.save(figure, folder / 'plot_working_set.png')


def draw_reuse(frameworks: list[str], tables: dict[str, Table], folder: Path) -> None:
  """Bands between the bounds, of the training and of the whole life."""
  figure, panels = plt.subplots(1, 2, figsize=(10.5, 4), sharey=True, layout='constrained')
  for axes, part in zip(panels, ('training', 'whole life'), strict=True):
    for framework in frameworks:
      rows = chosen(tables['reuse'], framework=framework, part=part)
      colour = style.COLOURS[framework]
      distances = [0, *(row['distance_mib'] for row in rows)]
      low, high = ([0, *(100 * row[bound] for row in rows)] for bound in ('lower', 'upper'))
      axes.fill_between(distances, low, high, step='post', color=colour, alpha=0.22, lw=0)
      axes.step(distances, low, where='post', color=colour, lw=1.4, label=framework)
      axes.step(distances, high, where='post', color=colour, lw=0.9, ls='--')
    axes.set(xlabel='reuse distance, MiB', ylim=(0, 102), xlim=(0, None))
    axes.set_title(f'{part}: reuses within it', loc='left', fontsize=10)
  panels[0].set_ylabel('reuses, %; solid: at least, dashed: at most')
  panels[0].legend(loc='lower right')
  style.save(figure, folder / 'plot_reuse.png')


def draw_heat_map(frameworks: list[str], tables: dict[str, Table], folder: Path) -> None:
  """Addresses upwards, without those that were never touched; time to the right."""
  figure, grid = plt.subplots(
    len(frameworks), 2, figsize=(10, 4.6 * len(frameworks)), squeeze=False,
    width_ratios=[1, 45], layout='constrained',
  )  # fmt: skip
  image: Any = None
  for framework, (strip, axes) in zip(frameworks, grid, strict=True):
    rows = chosen(tables['heat_map'], framework=framework)
    parts = chosen(tables['heat_parts'], framework=framework)
    height = parts[-1]['high_mib']
    cells = np.array([[int(cell) for cell in row['touched_pct'].split()] for row in rows]).T
    seconds = [row['begin_sec'] for row in rows] + [rows[-1]['end_sec']]
    image = axes.pcolormesh(
      seconds, np.linspace(0, height, len(cells) + 1), np.ma.masked_equal(cells, 0),
      cmap='magma_r', vmin=0, vmax=100, rasterized=True,
    )  # fmt: skip
    training = chosen(tables['windows'], framework=framework, stage='training')
    axes.axvline(training[0]['begin_sec'], color='#333333', lw=0.9, ls=':')
    axes.text(training[0]['begin_sec'], 1.01 * height, ' training begins', fontsize=8)
    mark_parts(strip, axes, parts, height)
    axes.set(xlim=(0, seconds[-1]), ylim=(0, height), xlabel='seconds')
    axes.set_title(
      f'{framework}: {height:,.0f} MiB were ever touched', loc='left', fontsize=10, pad=16
    )
  figure.colorbar(image, ax=grid, label='touched in a window, %', shrink=0.5, pad=0.01)
  regions = [region for region in REGIONS if chosen(tables['heat_parts'], region=region)]
  handles = [Patch(color=REGIONS[region]) for region in regions]
  figure.legend(handles, regions, loc='outside lower center', ncols=6, fontsize=8)
  style.save(figure, folder / 'plot_heat_map.png')


def mark_parts(strip: Axes, axes: Axes, parts: Table, height: float) -> None:
  """The kinds of memory at the left, with the names of those that have room."""
  named: list[tuple[float, str]] = []
  for part in parts:
    low, high = part['low_mib'], part['high_mib']
    strip.axhspan(low, high, color=REGIONS[part['region']], lw=0)
    if high - low >= LOWEST_NAME * height:
      axes.axhline(high, color='#333333', lw=0.4, alpha=0.6)
      name = str(part['name'])
      short = name if len(name) <= 22 else f'{name[:19]}…'
      named.append(((low + high) / 2, f'{short}, {high - low:,.0f} MiB'))
  strip.set_yticks([at for at, _ in named], [text for _, text in named], fontsize=8)
  strip.tick_params(length=0)
  strip.set(xticks=[], ylim=(0, height))
  strip.grid(visible=False)
  axes.grid(visible=False)
  axes.tick_params(labelleft=False, length=0, axis='y')


def tell(results: Table) -> None:
  """The figures of the README."""
  for name in dict.fromkeys(row['what'] for row in results):
    rows = chosen(results, what=name)
    if rows[0]['reason']:
      print(f'{name}: {rows[0]["reason"]}')
      continue
    print(f'{name}, {len(rows)} repeats, mean (least to greatest):')
    columns = ['virtual_mib', 'resident_mib', 'windows', 'window_sec', 'paused_pct']
    columns += [c for c in rows[0] if c.startswith('working_set')]
    if rows[0]['step_sec'] != '':
      columns += ['largest_mib', 'unplaced_mib', 'start_up_sec', 'step_sec']
      columns += [c for c in rows[0] if c.startswith(('unique', 'reuse'))]
    for column in columns:
      told = tracing_cnn.told_spread(rows, column, '{:,.3f}'.format)
      print(f'  {column.replace("_", " "):<24} {told}')


if __name__ == '__main__':
  main()
