"""Draws speed and the error of samples: results.csv, sampling.csv → plot_reuse.png."""

import argparse
import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[0]))

import style
from matplotlib.axes import Axes

Rows = list[dict[str, str]]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=Path, default=HERE, help='of the picture')
  folder = parser.parse_args().folder
  figure, (speed, error) = style.plt.subplots(1, 2, figsize=(13, 3.8), layout='constrained')
  draw_speed(speed, read('results.csv'))
  draw_error(error, read('sampling.csv'))
  style.save(figure, folder / 'plot_reuse.png')


def read(name: str) -> Rows:
  with (HERE / name).open(newline='') as file:
    return list(csv.DictReader(file))


def column(rows: Rows, case: str, name: str) -> list[float]:
  return [float(row[name]) for row in rows if row['case'] == case]


def draw_speed(axes: Axes, rows: Rows) -> None:
  cases = list(dict.fromkeys(row['case'] for row in rows))[::-1]
  for place, case in enumerate(cases):
    for kind, colour, shift in (('', '#1f6fb4', 0.18), ('python_', '#9a9a9a', -0.18)):
      values = column(rows, case, f'{kind}million_touches_per_sec')
      middle = statistics.median(values)
      axes.barh(place + shift, middle, height=0.34, color=colour)
      axes.plot(values, [place + shift] * len(values), 'o', ms=3, mfc='white', mec='#333333')
      axes.text(max(values) * 1.15, place + shift, f'{middle:.3g}', va='center', fontsize=8)
  axes.set_yticks(range(len(cases)), cases, fontsize=8)
  axes.set(xscale='log', xlabel='million page touches a second, one core')
  axes.set_xlim(0.1, 400)
  axes.set_title('Blue: numpy by runs; grey: a dict, in the same run', fontsize=9, loc='left')
  axes.grid(axis='y', visible=False)


def draw_error(axes: Axes, rows: Rows) -> None:
  styles = zip(dict.fromkeys(row['case'] for row in rows), ('o', 's'), ('-', '--'), strict=False)
  for case, marker, line in styles:
    own = [row for row in rows if row['case'] == case]
    rates = sorted({float(row['rate']) for row in own})
    for name, colour, label in (
      ('mean_error', '#1f6fb4', 'curve, mean'),
      ('max_error', '#d9541e', 'curve, greatest'),
      ('memory_for_90_pct_error', '#2f8f4e', 'memory for 90 %'),
    ):
      means = [
        statistics.mean(float(row[name]) for row in own if float(row['rate']) == rate)
        for rate in rates
      ]
      axes.plot(rates, means, line, marker=marker, ms=4, color=colour, label=f'{label}; {case}')
  axes.set(xscale='log', yscale='log', xlabel='part of the pages that is followed', ylabel='error')
  axes.set_title('How far a sample is from all', fontsize=9, loc='left')
  axes.legend(fontsize=7, loc='upper left', bbox_to_anchor=(1, 1))


if __name__ == '__main__':
  main()
