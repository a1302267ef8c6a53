"""Draws what measure_arrays.py has measured."""

import argparse
import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style
from matplotlib.axes import Axes

COLOURS = {'refs': '#1f6fb4', 'refs_split': '#d9541e', 'uffd_wp': '#2f8f4e', 'page_idle': '#8a4fb0'}
Row = dict[str, str]


def main() -> None:
  """Two pictures: pages missed and too many with the cost of a sample, and training slowed down."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--folder', type=Path, default=HERE)
  folder = parser.parse_args().folder
  accuracy, cost = read(folder / 'accuracy.csv'), read(folder / 'cost.csv')
  figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
  draw_accuracy(left, accuracy)
  draw_cost(right, cost)
  figure.tight_layout()
  style.save(figure, folder / 'plot_accuracy.png')
  rows = read(folder / 'slowdown.csv')
  if rows:
    figure, axes = plt.subplots()
    draw_slowdown(axes, rows)
    style.save(figure, folder / 'plot_slowdown.png')


def draw_accuracy(axes: Axes, rows: list[Row]) -> None:
  """Working set found against the true one; each point is the worst sample of a setting."""
  sizes = sorted({float(r['hot_mib']) for r in rows})
  axes.plot(sizes, sizes, color='#999999', lw=1, label='truth', zorder=1)
  markers = {'refs': 'o', 'refs_split': 's', 'uffd_wp': '^', 'page_idle': 'v'}
  for backend in dict.fromkeys(r['backend'] for r in rows):
    own = [r for r in rows if r['backend'] == backend and r['order'] == 'sequential']
    pages = [(float(r['hot_mib']), int(r['pages']) + int(r['extra_pages_most'])
              - int(r['missed_pages_most'])) for r in own]  # fmt: skip
    axes.plot(
      [hot for hot, _ in pages], [n / 256 for _, n in pages], markers[backend], ms=8, mfc='none',
      color=COLOURS[backend], label=backend,
    )  # fmt: skip
    missed = max(int(r['missed_pages_most']) for r in rows if r['backend'] == backend)
    extra = max(int(r['extra_pages_most']) for r in rows if r['backend'] == backend)
    count = sum(int(r['samples']) for r in rows if r['backend'] == backend)
    print(f'{backend}: {count} samples; at most {missed} pages missed, {extra} too many in one')
  axes.set(xscale='log', yscale='log', xlabel='hot set, MiB', ylabel='found, worst sample, MiB')
  axes.legend()


def draw_cost(axes: Axes, rows: list[Row]) -> None:
  """Milliseconds a process stands still, by what it has in memory."""
  for backend in dict.fromkeys(r['backend'] for r in rows):
    own = [r for r in rows if r['backend'] == backend]
    x = [float(r['resident_mib']) / 1024 for r in own]
    middle, least, most = ([float(r[f'pause_ms_{n}']) for r in own]
                           for n in ('median', 'least', 'most'))  # fmt: skip
    spread = [[m - a for m, a in zip(middle, least, strict=True)],
              [b - m for m, b in zip(middle, most, strict=True)]]  # fmt: skip
    axes.errorbar(x, middle, spread, marker='o', capsize=3, color=COLOURS[backend], label=backend)
    told = ', '.join(f'{m:.1f} ms at {g:.1f} GiB' for m, g in zip(middle, x, strict=True))
    print(f'{backend}: {told}')
  axes.set(xscale='log', yscale='log', xlabel='resident, GiB', ylabel='pause of a sample, ms')
  axes.legend()


def draw_slowdown(axes: Axes, rows: list[Row]) -> None:
  """Time of training against the plain run of the same repeat."""
  kinds = [k for k in dict.fromkeys(r['trace'] for r in rows) if k]
  kinds.sort(key=lambda kind: (kind.startswith('refs_split'), float(kind.rpartition(':')[2])))
  for number, framework in enumerate(style.COLOURS):
    own = [r for r in rows if r['framework'] == framework]
    plain = {r['repeat']: seconds(r) for r in own if not r['trace']}
    for place, kind in enumerate(kinds):
      traced = [r for r in own if r['trace'] == kind]
      walls = [100 * (seconds(r, 'left_out_sec') / plain[r['repeat']] - 1) for r in traced]
      clocks = [100 * (seconds(r) / plain[r['repeat']] - 1) for r in traced]
      for values, marker, shift, what in ((walls, 'o', 0, 'by the wall'), (clocks, 'x', 0.12,
                                          "by the run's clock")):  # fmt: skip
        x = place + 0.3 * number - 0.2 + shift
        label = f'{framework}, {what}' if place == 0 else None
        axes.plot([x] * len(values), values, marker, color=style.COLOURS[framework], ms=5,
                  mfc='none', label=label)  # fmt: skip
        axes.hlines(statistics.median(values), x - 0.05, x + 0.05, color='black', lw=1.5)
      print(
        f'{framework}, {kind}: {statistics.median(walls):+.1f} % by the wall '
        f'({min(walls):+.1f} to {max(walls):+.1f}), {statistics.median(clocks):+.1f} % by the '
        f"run's clock ({min(clocks):+.1f} to {max(clocks):+.1f})"
      )
  axes.axhline(0, color='#999999', lw=1)
  axes.set_xticks(range(len(kinds)), [f'{kind} s' for kind in kinds])
  axes.set(ylabel='slower than the plain run, %')
  axes.legend(fontsize=8)


def seconds(row: Row, *more: str) -> float:
  """Of training a step, on the run's clock, with more columns if they are named."""
  return sum(float(row[name]) for name in ('submission_sec', *more)) / float(row['steps'])


def read(path: Path) -> list[Row]:
  """Rows of a table; none where it was not measured."""
  if not path.exists():
    return []
  with path.open(newline='', encoding='utf-8') as file:
    return [*csv.DictReader(file)]


if __name__ == '__main__':
  main()
