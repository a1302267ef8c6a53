"""Draws working and resident set by batch size: results.csv to plot_batch_size.png.

Prints the figures of the README.
"""

import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
import tracing_cnn
from tracing_cnn import Table, chosen, spread

COLOURS = ('#1f6fb4', '#e9a37f', '#d9541e', '#2f8f4e')  # of the kinds of windows


def main() -> None:
  """Draws all and prints the figures."""
  folder = tracing_cnn.plot_parser(__doc__, HERE).folder
  rows = tracing_cnn.read_table(folder / 'results.csv')
  frameworks = list(dict.fromkeys(row['framework'] for row in rows))
  kinds = list(dict.fromkeys(row['window'] for row in rows))
  figure, panels = plt.subplots(
    1, len(frameworks), figsize=(5.4 * len(frameworks), 4.3), squeeze=False, sharey=True,
    layout='constrained',
  )  # fmt: skip
  for axes, framework in zip(panels[0], frameworks, strict=True):
    own = chosen(rows, framework=framework)
    sizes = sorted({row['batch_size'] for row in own})
    for name, colour, column, kind in (
      *((f'working set, {kind}', colour, 'working_set_mean_mib', kind)
        for kind, colour in zip(kinds, COLOURS, strict=True)),
      ('resident set', '#333333', 'resident_mib', '0.5 s'),
    ):  # fmt: skip
      of_kind = chosen(own, window=kind)
      points = [spread(chosen(of_kind, batch_size=size), column) for size in sizes]
      style_of = ':' if column == 'resident_mib' else '-'
      axes.plot(sizes, [mean for mean, _, _ in points], f'o{style_of}', ms=4, color=colour,
                label=name)  # fmt: skip
      axes.vlines(sizes, [p[1] for p in points], [p[2] for p in points], color=colour, lw=1.6)
    long = [s for s in sizes if spread(chosen(own, batch_size=s), 'step_sec')[0] > 0.5]
    if long:
      low = math.sqrt(long[0] * max((s for s in sizes if s < long[0]), default=long[0] / 2))
      axes.axvspan(low, sizes[-1] * 1.3, color='#000000', alpha=0.05, lw=0, zorder=0)
    axes.set_xscale('log', base=2)
    axes.set_yscale('log', base=2)
    axes.set_xticks(sizes, [f'{size:.0f}' for size in sizes])
    axes.yaxis.set_major_formatter('{x:,.0f}')
    axes.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    axes.set(xlabel='batch size')
    axes.set_title(f'{framework}; grey: a step takes over 0.5 s', loc='left', fontsize=10)
  panels[0, 0].set_ylabel('MiB')
  handles, labels = panels[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=5, fontsize=8)
  style.save(figure, folder / 'plot_batch_size.png')
  tell(frameworks, rows)


def tell(frameworks: list[str], rows: Table) -> None:
  """The figures of the README; the growth is the slope between the logarithms."""
  for framework in frameworks:
    for kind in dict.fromkeys(row['window'] for row in rows):
      own = chosen(rows, framework=framework, window=kind)
      sizes = sorted({row['batch_size'] for row in own})
      print(f'{framework}, windows of {kind}:')
      for size in sizes:
        found = chosen(own, batch_size=size)
        told, resident = (tracing_cnn.told_spread(found, name)
                          for name in ('working_set_mean_mib', 'resident_mib'))  # fmt: skip
        print(
          f'  batch {size:5.0f}: working set {told} MiB, resident {resident} MiB, a step '
          f'{spread(found, "step_sec")[0]:.3f} s, a window {spread(found, "window_sec")[0]:.3f} s, '
          f'{spread(found, "windows")[0]:.0f} windows'
        )
      means = [spread(chosen(own, batch_size=size), 'working_set_mean_mib')[0] for size in sizes]
      if len(sizes) > 1:
        slope = math.log(means[-1] / means[0]) / math.log(sizes[-1] / sizes[0])
        print(f'  from {sizes[0]:.0f} to {sizes[-1]:.0f}: {means[-1] / means[0]:.2f} times, as '
              f'batch size to the power of {slope:.2f}')  # fmt: skip


if __name__ == '__main__':
  main()
