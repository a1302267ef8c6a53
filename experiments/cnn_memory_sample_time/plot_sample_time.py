"""Draws the working set by the length of a window: results.csv to plot_sample_time.png.

Fits a line and a logarithm to what was measured, and prints which fits better, with the figures of
the README.
"""

import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import numpy as np
import style
import tracing_cnn
from tracing_cnn import Table, chosen, spread

MARKS = {'measured': ('o', '-'), 'joined': ('s', ':'), 'fine, pages': ('x', '')}


class Fit(NamedTuple):
  """MiB = base + growth * t, or of the natural logarithm of t; t in seconds.

  Attributes:
    base, growth: by least squares.
    error: root of the mean square of what is left, MiB.
    explained: R squared.
  """

  base: float
  growth: float
  error: float
  explained: float


def main() -> None:
  """Draws all and prints the figures."""
  folder = tracing_cnn.plot_parser(__doc__, HERE).folder
  rows = tracing_cnn.read_table(folder / 'results.csv')
  threads = sorted({row['threads'] for row in rows})
  figure, panels = plt.subplots(
    1, len(threads), figsize=(5.4 * len(threads), 4.4), squeeze=False, sharey=True,
    layout='constrained',
  )  # fmt: skip
  ticks = sorted({row['asked_sec'] for row in chosen(rows, how='measured')})
  for axes, count in zip(panels[0], threads, strict=True):
    for framework in dict.fromkeys(row['framework'] for row in rows):
      colour = style.COLOURS[framework]
      for how, (marker, line) in MARKS.items():
        points = means(chosen(rows, framework=framework, threads=count, how=how))
        seconds = [second for second, *_ in points]
        axes.plot(seconds, [mean for _, mean, _, _ in points], f'{marker}{line}', color=colour,
                  ms=4, mfc=colour if how == 'measured' else 'white', mew=1.4,
                  label=f'{framework}, {how}')  # fmt: skip
        axes.vlines(seconds, [p[2] for p in points], [p[3] for p in points], color=colour, lw=1.6)
    axes.set_xscale('log')
    axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlabel='length of a window, seconds', xlim=(ticks[0] / 1.25, None))
    axes.set_title(f'{count:.0f} thread{"s" * (count > 1)}', loc='left', fontsize=10)
  panels[0, 0].set_ylim(0, None)
  panels[0, 0].set_ylabel('MiB touched in a window')
  handles, labels = panels[0, 0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=6, fontsize=8)
  style.save(figure, folder / 'plot_sample_time.png')
  tell(rows, threads)


def means(rows: Table) -> list[tuple[float, float, float, float]]:
  """(seconds, mean MiB, least, greatest) for each length that was asked for."""
  found: list[tuple[float, float, float, float]] = []
  for asked in sorted({row['asked_sec'] for row in rows}):
    own = chosen(rows, asked_sec=asked)
    found.append((spread(own, 'window_sec')[0], *spread(own, 'working_set_mean_mib')))
  return found


def fitted(terms: list[float], sizes: list[float]) -> Fit:
  """The line through (term, size) with the least squares."""
  growth, base = np.polyfit(terms, sizes, 1)
  left = np.asarray(sizes) - (base + growth * np.asarray(terms))
  whole = float(np.sum((np.asarray(sizes) - np.mean(sizes)) ** 2))
  squares = float(np.sum(left**2))
  explained = 1 - squares / whole if whole else 1.0
  return Fit(float(base), float(growth), float(np.sqrt(squares / len(sizes))), explained)


def tell(rows: Table, threads: list[float]) -> None:
  """The figures of the README."""
  for framework in dict.fromkeys(row['framework'] for row in rows):
    for count in threads:
      for how in MARKS:
        points = means(chosen(rows, framework=framework, threads=count, how=how))
        told = ', '.join(f'{s:.2f} s {m:,.0f} ({low:,.0f} to {high:,.0f})'
                         for s, m, low, high in points)  # fmt: skip
        print(f'{framework}, {count:.0f} threads, {how}: MiB {told}')
        if len(points) < 3:
          continue
        sizes = [mean for _, mean, _, _ in points]
        line = fitted([second for second, *_ in points], sizes)
        log = fitted([float(np.log(second)) for second, *_ in points], sizes)
        better = 'linear' if line.error < log.error else 'logarithmic'
        print(
          f'  {better} fits better: {line.base:.0f} + {line.growth:.1f} t ({told_error(line)}), '
          f'{log.base:.0f} + {log.growth:.1f} ln t ({told_error(log)})'
        )


def told_error(fit: Fit) -> str:
  """As in 'R2 0.987, error 4.1 MiB'."""
  return f'R2 {fit.explained:.3f}, error {fit.error:.1f} MiB'


if __name__ == '__main__':
  main()
