"""Draws what filters leave of working set and reuse distances: results.csv to plot_filters.png.

Prints the figures of the README.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
import tracing_cnn
from matplotlib.axes import Axes
from tracing_cnn import Table, chosen, spread

PARTS = (50, 90, 95, 99)


def main() -> None:
  """Draws all and prints the figures."""
  folder = tracing_cnn.plot_parser(__doc__, HERE).folder
  rows = tracing_cnn.read_table(folder / 'results.csv')
  cases = list(dict.fromkeys((row['filter'], row['when']) for row in rows))
  cases.sort(key=lambda case: case[1] == 'sampling')
  figure, (sets, reuse) = plt.subplots(
    1, 2, figsize=(11, 0.5 * len(cases) + 1.6), sharey=True, layout='constrained'
  )
  for framework in dict.fromkeys(row['framework'] for row in rows):
    own = chosen(rows, framework=framework)
    draw(sets, cases, own, framework)
    draw_reuse(reuse, cases, own, framework)
  names = [name if when == 'afterwards' else f'{name},\nwhile sampling' for name, when in cases]
  sets.set_yticks(range(len(cases)), names)
  sets.invert_yaxis()
  sets.set(xlabel='MiB touched in a window', xlim=(0, None))
  reuse.set(xlabel='MiB, at least to at most; marks: at most for 50, 90, 95, 99 %', xlim=(0, None))
  sets.set_title('Working set, with 5 and 95 %', loc='left', fontsize=10)
  reuse.set_title('Memory for parts of the reuses', loc='left', fontsize=10)
  for axes in (sets, reuse):
    axes.grid(axis='y', visible=False)
  sets.legend(fontsize=8)
  style.save(figure, folder / 'plot_filters.png')
  tell(rows)


def draw(axes: Axes, cases: list[tuple[str, str]], rows: Table, framework: str) -> None:
  """A bar each filter; a line from the 5th to the 95th percentile."""
  shift = -0.19 if framework == 'jax' else 0.19
  for place, (name, when) in enumerate(cases):
    own = chosen(rows, filter=name, when=when)
    if own:
      mean = spread(own, 'working_set_mean_mib')[0]
      low, high = (spread(own, f'working_set_{end}_mib')[0] for end in ('p5', 'p95'))
      axes.barh(place + shift, mean, height=0.34, color=style.COLOURS[framework], alpha=0.85,
                label=framework if place == 0 else None)  # fmt: skip
      axes.plot([low, high], [place + shift] * 2, color='#222222', lw=1.2)


def draw_reuse(axes: Axes, cases: list[tuple[str, str]], rows: Table, framework: str) -> None:
  """A line from the least to the most for the median, marks for the parts."""
  shift, colour = -0.19 if framework == 'jax' else 0.19, style.COLOURS[framework]
  for place, (name, when) in enumerate(cases):
    own = chosen(rows, filter=name, when=when)
    if not own:
      continue
    for part, marker in zip(PARTS, 'os^D', strict=True):
      low, high = (spread(own, f'reuse_{part}_{end}_mib')[0] for end in ('least', 'most'))
      axes.plot([low, high], [place + shift] * 2, color=colour, lw=4, alpha=0.16,
                solid_capstyle='butt')  # fmt: skip
      axes.plot([high], [place + shift], marker, color=colour, ms=4)


def tell(rows: Table) -> None:
  """The figures of the README."""
  for framework in dict.fromkeys(row['framework'] for row in rows):
    own = chosen(rows, framework=framework)
    whole = spread(chosen(own, filter='none'), 'working_set_mean_mib')[0]
    for name, when in dict.fromkeys((row['filter'], row['when']) for row in own):
      found = chosen(own, filter=name, when=when)
      kept = 100 * spread(found, 'working_set_mean_mib')[0] / whole
      print(
        f'{framework}, {name} ({when}, {len(found)} repeats): working set '
        f'{tracing_cnn.told_spread(found, "working_set_mean_mib", "{:,.1f}".format)} MiB, '
        f'{kept:.1f} %; reuses within MiB at most: '
        + ', '.join(
          f'{part} % {tracing_cnn.told_spread(found, f"reuse_{part}_most_mib")}' for part in PARTS
        )
      )


if __name__ == '__main__':
  main()
