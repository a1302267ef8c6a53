"""Draws the same training on one device and on several: results.csv to plot_devices.png."""

import csv
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import matplotlib.pyplot as plt
import style

MARKERS = {'1 device': 'o', '4 devices': 's', '2 processes': '^', '4 processes': 's'}


def main() -> None:
  """Draws a panel for each workload and framework: losses above, differences below."""
  with (HERE / 'results.csv').open(newline='', encoding='utf-8') as file:
    rows = list(csv.DictReader(file))
  panels = list(dict.fromkeys((row['workload'], row['framework']) for row in rows))
  figure, axes = plt.subplots(
    2, len(panels), figsize=(3.1 * len(panels), 5), height_ratios=(1.6, 1), sharex='col',
    squeeze=False,
  )  # fmt: skip
  for (workload, framework), (above, below) in zip(panels, axes.T, strict=True):
    runs = [r for r in rows if (r['workload'], r['framework']) == (workload, framework)]
    first = [float(r['validation/loss']) for r in runs if r['devices'] == '1 device']
    for number, way in enumerate(dict.fromkeys(r['devices'] for r in runs)):
      own = [r for r in runs if r['devices'] == way]
      steps = [int(r['global_step']) for r in own]
      losses = [float(r['validation/loss']) for r in own]
      look = {'color': style.COLOURS[framework], 'marker': MARKERS[way], 'label': way}
      above.plot(steps, losses, fillstyle='none', markersize=5 + 4 * number, **look)
      if number:
        parted = [abs(a / b - 1) for a, b in zip(losses, first, strict=True)]
        below.semilogy(steps, [max(d, 1e-10) for d in parted], fillstyle='none', **look)
    above.set_title(f'{workload}, {framework}', loc='left')
    above.legend()
    below.set_ylim(1e-10, 1e-3)
    below.set_xlabel('step')
  axes[0][0].set_ylabel('validation loss')
  axes[1][0].set_ylabel('relative difference\nfrom one device')
  figure.tight_layout()
  style.save(figure, HERE / 'plot_devices.png')


if __name__ == '__main__':
  main()
