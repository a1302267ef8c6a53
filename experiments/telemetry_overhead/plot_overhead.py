"""Draws how fast runs are with telemetry, over runs without, and what the sampler takes."""

import csv
import statistics
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

MODES = ['off', 'row', '2 Hz', '10 Hz']


def main() -> None:
  """Draws the figure: results.csv to plot_overhead.png."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  figure, (speed, share) = plt.subplots(1, 2, figsize=(9, 4), width_ratios=[2.2, 1])
  for place, (framework, colour) in enumerate(style.COLOURS.items()):
    for number, mode in enumerate(MODES):
      values = values_of(rows, framework, mode, 'rate over off')
      where = number + 0.25 * (place - 0.5)
      speed.plot([where] * len(values), values, 'o', color=colour, ms=4, alpha=0.5)
      label = framework if number == 0 else None
      middle = statistics.median(values)
      speed.plot([where - 0.1, where + 0.1], [middle] * 2, color=colour, lw=2.5, label=label)
      speed.annotate(f' {middle:.3f}', (where + 0.1, middle), va='center', fontsize=8)
  speed.axhline(1, color='#888888', lw=0.8)
  speed.set_xticks(range(len(MODES)), MODES)
  speed.set(ylabel='steps a second over those without telemetry')
  speed.legend()
  modes = [mode for mode in dict.fromkeys(r['mode'] for r in rows) if mode.endswith('alone')]
  values = [100 * values_of(rows, '', mode, 'share of a core')[0] for mode in modes]
  share.bar(range(len(modes)), values, 0.5, color='#7a7a7a')
  for x, value in enumerate(values):
    share.annotate(f'{value:.2f} %', (x, value), ha='center', va='bottom')
  share.set_xticks(range(len(modes)), [mode.removesuffix(' alone') for mode in modes])
  share.set(ylabel='sampler, per cent of a core, 8 GPUs')
  share.margins(x=0.4, y=0.15)
  figure.tight_layout()
  style.save(figure, HERE / 'plot_overhead.png')


def values_of(rows: list[dict[str, str]], framework: str, mode: str, what: str) -> list[float]:
  """Of all turns."""
  key = framework, mode, what
  return [float(r['value']) for r in rows if (r['framework'], r['mode'], r['what']) == key]


if __name__ == '__main__':
  main()
