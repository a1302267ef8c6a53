"""This file draws the charts of the page as PNG, with matplotlib, from the same numbers."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.report import palette, scales
from algorithmic_efficiency.report.figure import Axis, Figure, Line

_STYLE: Any = {
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'axes.grid.axis': 'y',
  'grid.color': '#e4e4e4',
  'axes.axisbelow': True,
  'axes.titlelocation': 'left',
  'axes.titlesize': 10,
}
_DASHES = ('-', (0, (5, 2.5)), (0, (1.5, 1.8)))


def save(
  figures: Sequence[Figure], folder: Path, tell: Callable[[int], None] = lambda done: None
) -> list[Path]:
  """Writes every chart into the folder; returns the files.

  Raises UsageError where matplotlib is missing, MeasurementError where nothing can be written.
  """
  try:
    import matplotlib as mpl

    mpl.use('Agg')
    import matplotlib.pyplot as plt
  except ImportError as error:
    raise UsageError(
      'matplotlib is not installed, which --pictures needs; '
      'pip install "algorithmic-efficiency[plots]".'
    ) from error
  paths = list[Path]()
  with mpl.rc_context(_STYLE):
    for figure in figures:
      paths.append(_free(folder, figure.name, paths))
      try:
        folder.mkdir(parents=True, exist_ok=True)
        _draw(figure, paths[-1], plt)
      except OSError as error:
        raise MeasurementError(
          f'{str(paths[-1])!r} cannot be written ({error.strerror}); make room or choose another '
          '--pictures.'
        ) from error
      tell(len(paths))
  return paths


def _free(folder: Path, name: str, taken: Sequence[Path]) -> Path:
  """Names of two charts may differ only in what no file's name may have."""
  path, number = folder / f'{name}.png', 1
  while path in taken:
    number += 1
    path = folder / f'{name}_{number}.png'
  return path


def _draw(figure: Figure, path: Path, plt: Any) -> None:
  sheet, axes = plt.subplots(figsize=(6.4, 3.8), dpi=150)
  for shade in figure.shades:
    for begin, end in zip(shade.begin, shade.end, strict=True):
      axes.axvspan(begin, end, color=palette.PHASES[shade.kind][0], alpha=0.6, lw=0)
    axes.axvspan(math.nan, math.nan, color=palette.PHASES[shade.kind][0], label=shade.kind)
  for band in figure.bands:
    axes.fill_between(band.x, band.low, band.high, step='post', lw=0, alpha=0.12,
                      color=palette.colour(band.series))  # fmt: skip
  for line in sorted(figure.lines, key=lambda line: not line.faint):
    _curve(axes, line)
  for points in figure.points:
    colour = palette.colour(points.series)
    face = 'white' if points.open else colour
    axes.scatter(points.x, points.y, s=18, facecolor=face, edgecolor=colour, lw=0.9, zorder=4)
  for rule in figure.rules:
    axes.axhline(rule.y, color='#1b1f24', lw=0.9, ls='--')
    axes.annotate(rule.label, (1, rule.y), xycoords=('axes fraction', 'data'), fontsize=8,
                  ha='right', va='bottom')  # fmt: skip
  _set(axes.xaxis, axes.set_xscale, axes.set_xlim, figure.x)
  _set(axes.yaxis, axes.set_yscale, axes.set_ylim, figure.y)
  title = f'{figure.title}, {figure.about}' if figure.about else figure.title
  title = f'{title}  ({figure.note})' if figure.note else title
  axes.set_title(_plain(title))
  for series, name in figure.names:
    axes.plot([], [], color=palette.colour(series), ls=_dash(series), label=_plain(name))
  if figure.names or figure.shades or any(line.label for line in figure.lines):
    # Curves are drawn the last first, so that the best lie on top; here the best are named first.
    reverse = any(line.label and line.series is not None for line in figure.lines)
    axes.legend(fontsize=8, frameon=False, loc='upper left', bbox_to_anchor=(1.0, 1.0),
                reverse=reverse)  # fmt: skip
  sheet.savefig(path, bbox_inches='tight')
  plt.close(sheet)


def _plain(text: str) -> str:
  """Text that matplotlib does not take for mathematics."""
  return text.replace('$', r'\$')


def _dash(series: int | None) -> Any:
  return _DASHES[(series or 0) // len(palette.LIGHT) % len(_DASHES)]


def _curve(axes: Any, line: Line) -> None:
  axes.plot(
    line.x, line.y, color=palette.colour(line.series), ls=_dash(line.series),
    lw=0.7 if line.faint else 1.5, alpha=0.4 if line.faint else 1.0,
    drawstyle='steps-post' if line.stairs else 'default',
    label=_plain(line.label) or None,
  )  # fmt: skip


def _set(axis: Any, set_scale: Callable[[str], None], set_limits: Any, given: Axis) -> None:
  if given.log:
    set_scale('log')
  set_limits(given.low, given.high)
  places = scales.ticks(given)
  axis.set_ticks(places, [_plain(scales.tick_text(place, given)) for place in places])
  axis.set_ticks([], minor=True)
  axis.set_label_text(_plain(given.label))
  if np.all([isinstance(c, str) for c in given.categories]) and given.categories:
    axis.set_tick_params(labelsize=8)
