"""Reads results.csv: plot_export.png, what each export costs the run beside it."""

import argparse
import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import style
from style import plt


def main() -> None:
  """Draws the figure."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--table', type=Path, default=HERE / 'results.csv')
  table = parser.parse_args().table
  with table.open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  kinds = [kind for kind in dict.fromkeys(row['export'] for row in rows) if kind != 'none']
  figure, (rates, seconds) = plt.subplots(1, 2, figsize=(9, 3.2), layout='constrained')
  for number, cores in enumerate(dict.fromkeys(row['cores'] for row in rows)):
    label = 'one core' if cores == '1' else f'{cores} cores'
    colour = f'C{number}'
    for place, kind in enumerate(kinds):
      x = place + 0.3 * (number - 0.5)
      ratios, spent = over_none(rows, cores, kind)
      for axes, values, digits in ((rates, ratios, 3), (seconds, spent, 1)):
        middle = statistics.median(values)
        axes.plot([x] * len(values), values, 'o', color=colour, ms=3, alpha=0.4)
        axes.plot([x - 0.1, x + 0.1], [middle] * 2, color=colour, lw=2.5,
                  label='' if place else label)  # fmt: skip
        axes.annotate(
          f'{middle:.{digits}f}', (x, middle), (0, 4), textcoords='offset points', ha='center',
          fontsize=7,
        )  # fmt: skip
  for axes in (rates, seconds):
    axes.set_xticks(range(len(kinds)), [kind if ',' not in kind else 'all' for kind in kinds])
    axes.margins(x=0.12)
  for axes, line in ((rates, 1), (seconds, 0)):
    axes.axhline(line, color='#888888', lw=0.8)
  rates.set(ylabel='steps a second over those without')
  seconds.set(ylabel='processor seconds more')
  rates.legend(fontsize=8)
  style.save(figure, table.parent / 'plot_export.png')


def over_none(rows: list[dict[str, str]], cores: str, kind: str) -> tuple[list[float], list[float]]:
  """(ratios of steps a second, differences in processor seconds) to the bare run of each turn."""
  mine, bare = (
    [row for row in rows if (row['cores'], row['export']) == (cores, name)]
    for name in (kind, 'none')
  )
  pairs = list(zip(mine, bare, strict=True))
  return (
    [float(m['steps_a_second']) / float(b['steps_a_second']) for m, b in pairs],
    [float(m['processor_sec']) - float(b['processor_sec']) for m, b in pairs],
  )


if __name__ == '__main__':
  main()
