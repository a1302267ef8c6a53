"""This file is how every figure of the experiments looks."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')  # figures are files; no display is needed

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

COLOURS = {'jax': '#1f6fb4', 'pytorch': '#d9541e'}  # told apart by the colour-blind too
LINES = ('-', '--', ':', '-.')  # by trial

plt.rcParams.update(
  {
    'figure.figsize': (7.2, 4.2),
    'figure.dpi': 150,
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#e4e4e4',
    'axes.axisbelow': True,
    'legend.frameon': False,
  }
)


def log_x(axes: Axes) -> None:
  """A logarithmic x axis with plain numbers at 1, 2, 5, 10, …."""
  axes.set_xscale('log')
  axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
  axes.xaxis.set_major_formatter(FormatStrFormatter('%g'))
  axes.xaxis.set_minor_formatter(NullFormatter())


def save(figure: Figure, path: Path) -> None:
  """Writes the figure and says where."""
  figure.savefig(path, bbox_inches='tight')
  plt.close(figure)
  print(f'figure: {path}')
