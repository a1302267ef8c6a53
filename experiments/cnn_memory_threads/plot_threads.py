"""Draws working set, speed and reuse by threads: results.csv to plot_threads.png.

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

PARTS = {50: 'o', 90: 's', 95: '^', 99: 'D'}


def main() -> None:
  """Draws all and prints the figures."""
  folder = tracing_cnn.plot_parser(__doc__, HERE).folder
  rows = tracing_cnn.read_table(folder / 'results.csv')
  for row in rows:
    alone = chosen(rows, framework=row['framework'], threads=1)
    row['speed_up'] = spread(alone, 'step_sec')[0] / row['step_sec']
  threads = sorted({row['threads'] for row in rows})
  figure, (sets, speeds, reuse) = plt.subplots(1, 3, figsize=(12, 3.9), layout='constrained')
  for framework in dict.fromkeys(row['framework'] for row in rows):
    own = chosen(rows, framework=framework)
    line(sets, own, 'working_set_mean_mib', framework)
    line(speeds, own, 'speed_up', framework)
    draw_reuse(reuse, own, framework)
  speeds.plot(threads, threads, color='#999999', lw=0.9, ls=':', label='as many times')
  sets.set(ylim=(0, None), ylabel='MiB touched in 0.5 s')
  speeds.set(ylim=(0, None), ylabel='steps a second, over one thread')
  reuse.set(ylim=(0, None), ylabel='MiB, between the bounds')
  sets.set_title('Working set', loc='left', fontsize=10)
  speeds.set_title('Speed-up, not traced', loc='left', fontsize=10)
  reuse.set_title('Memory for a part of the reuses', loc='left', fontsize=10)
  for axes in (sets, speeds, reuse):
    axes.set_xlabel('threads')
    axes.set_xticks(threads, [f'{count:.0f}' for count in threads])
    axes.set_xlim(min(threads) - 0.4, max(threads) + 0.4)
  speeds.legend(fontsize=8)
  style.save(figure, folder / 'plot_threads.png')
  tell(rows)


def line(axes: Axes, rows: Table, column: str, framework: str) -> None:
  """Means by threads, and from the least to the greatest of the repeats."""
  threads = sorted({row['threads'] for row in rows})
  points = [spread(chosen(rows, threads=count), column) for count in threads]
  colour = style.COLOURS[framework]
  axes.plot(threads, [mean for mean, _, _ in points], 'o-', color=colour, ms=4, label=framework)
  axes.vlines(threads, [p[1] for p in points], [p[2] for p in points], color=colour, lw=1.6)


def draw_reuse(axes: Axes, rows: Table, framework: str) -> None:
  """A bar from the least to the most, for each part."""
  colour, shift = style.COLOURS[framework], -0.2 if framework == 'jax' else 0.04
  for threads in sorted({row['threads'] for row in rows}):
    own = chosen(rows, threads=threads)
    for number, part in enumerate(PARTS):
      low, high = (spread(own, f'reuse_{part}_{end}_mib')[0] for end in ('least', 'most'))
      at = threads + shift + 0.055 * number
      axes.plot([at, at], [low, high], color=colour, lw=4, alpha=0.45, solid_capstyle='butt')
      axes.plot([at], [high], '_', color=colour, ms=6, mew=1.8)
      axes.annotate(f'{part}', (at, high), xytext=(0, 3 + 8 * (number % 2)), ha='center',
                    textcoords='offset points', fontsize=6.5, color=colour)  # fmt: skip


def tell(rows: Table) -> None:
  """The figures of the README."""
  told = tracing_cnn.told_spread
  for framework in dict.fromkeys(row['framework'] for row in rows):
    for threads in sorted({row['threads'] for row in rows}):
      own = chosen(rows, framework=framework, threads=threads)
      steps = (f'{told(own, name, "{:.3f}".format)} s' for name in
               ('step_sec', 'refs_step_sec', 'refs_split_step_sec'))  # fmt: skip
      print(
        f'{framework}, {threads:.0f} threads, {len(own)} repeats: working set '
        f'{told(own, "working_set_mean_mib")} MiB, resident {told(own, "resident_mib")} MiB, '
        f'speed-up {told(own, "speed_up", "{:.2f}".format)}\n  a step untraced, refs, refs_split: '
        f'{", ".join(steps)}\n  reuses within MiB: '
        + ', '.join(
          f'{part} % {told(own, f"reuse_{part}_least_mib")} up to '
          f'{told(own, f"reuse_{part}_most_mib")}'
          for part in PARTS
        )
        + f'; ever {told(own, "unique_mib")}'
      )


if __name__ == '__main__':
  main()
