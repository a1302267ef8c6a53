"""This file draws what an analysis of a memory trace found, a picture a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency.memory_trace import reuse_distance
from algorithmic_efficiency.memory_trace.analysis import PARTS, Analysis
from algorithmic_efficiency.memory_trace.heat_map import HeatMap, Part
from algorithmic_efficiency.memory_trace.mappings import REGIONS

_MIB = 2**20
# Told apart by the colour-blind too (after Okabe and Ito).
_COLOURS: dict[str, str] = dict(
  zip(REGIONS, ('#d9541e', '#1f6fb4', '#8a4fb0', '#2f8f4e', '#c9a227', '#7a7a7a'), strict=True)
)
_BAND, _INK = '#1f6fb4', '#333333'
_MOST_POINTS = 4000
_LOWEST_LABEL = 0.025  # of the height: a part that is lower has no room for its name


def draw(found: Analysis, name: str, folder: Path) -> list[Path]:
  """Draws what there is into a folder; the pictures' paths."""
  import matplotlib as mpl

  mpl.use('Agg')
  import matplotlib.pyplot as plt

  drawers: dict[str, tuple[bool, Callable[[Any, Analysis], None]]] = {
    'working_set': (True, _working_set),
    'reuse': (_has_reuses(found), _reuse),
    'miss_ratio': (_has_reuses(found), _miss_ratio),
    'heat_map': (found.heat_map is not None and found.heat_map.units > 0, _heat_map),
    'rebinned': (len(found.rebinned) > 1, _rebinned),
  }
  style: dict[Any, Any] = {
    'font.size': 10, 'axes.spines.top': False, 'axes.spines.right': False, 'axes.grid': True,
    'grid.color': '#e4e4e4', 'axes.axisbelow': True, 'legend.frameon': False,
    'figure.dpi': 130, 'axes.titlelocation': 'left',
  }  # fmt: skip
  paths: list[Path] = []
  with plt.rc_context(style):
    for picture, (there, drawer) in drawers.items():
      if not there:
        continue
      figure = plt.figure(figsize=(10, 6.4 if picture in ('working_set', 'heat_map') else 4.6),
                          layout='constrained')  # fmt: skip
      drawer(figure, found)
      figure.suptitle(name, x=0.01, ha='left', fontsize=9, color='#777777')
      paths.append(folder / f'{picture}.png')
      figure.savefig(paths[-1])
      plt.close(figure)
  return paths


def _has_reuses(found: Analysis) -> bool:
  return found.reuse is not None and found.reuse.reuses > 0


def _working_set(figure: Any, found: Analysis) -> None:
  """All three sizes above; below the working set alone, by region."""
  rows = _thinned(found.rows)
  seconds = [row.begin_sec for row in rows]
  whole, close = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
  for kind, colour in (('virtual', '#9a9a9a'), ('resident', _INK), ('touched', _BAND)):
    label = 'working set' if kind == 'touched' else kind
    whole.plot(seconds, [getattr(row, kind) / _MIB for row in rows], color=colour, lw=1.3,
               label=label)  # fmt: skip
  for device in dict.fromkeys(row['device'] for row in found.allocators):
    own = [row for row in found.allocators if row['device'] == device]
    line = whole.plot([row['sec'] for row in own], [row['in_use'] / _MIB for row in own], lw=1.3,
                      label=f'{device}, in use')[0]  # fmt: skip
    peak = max(row['peak'] or 0 for row in own) / _MIB
    whole.axhline(peak, color=line.get_color(), lw=0.8, ls=':')
  sizes = np.array([row.regions for row in rows], float).T / _MIB
  shown = [place for place in range(len(REGIONS)) if sizes[place].any()]
  close.stackplot(seconds, sizes[shown], colors=[_COLOURS[REGIONS[p]] for p in shown], lw=0,
                  alpha=0.85, labels=[REGIONS[p] for p in shown])  # fmt: skip
  steady = found.rows[found.steady :]
  mean = float(np.mean([row.touched for row in steady])) / _MIB
  close.plot([steady[0].begin_sec, steady[-1].end_sec], [mean, mean], color=_INK, lw=1.2, ls='--',
             label=f'steady mean, {mean:,.0f} MiB')  # fmt: skip
  top = 1.12 * max(
    float(np.percentile([row.touched for row in found.rows], 99.5)),
    max(row.touched for row in steady),
  ) / _MIB  # fmt: skip
  close.set_ylim(0, top or 1)
  highest = max(row.touched for row in found.rows) / _MIB
  if highest > top:
    close.annotate(f'up to {highest:,.0f} MiB', (0.005, 0.97), xycoords='axes fraction', va='top',
                   fontsize=8, color=_INK)  # fmt: skip
  for axes in (whole, close):
    axes.axvspan(0, steady[0].begin_sec, color='#000000', alpha=0.05, lw=0, zorder=0)
    axes.legend(fontsize=8, loc='upper left', bbox_to_anchor=(1.0, 1.0))
  whole.set(ylabel='MiB', ylim=(0, None))
  close.set(ylabel='MiB touched in a window', xlabel='seconds; grey: start-up')
  close.set_xlim(0, found.rows[-1].end_sec)
  whole.set_title('Memory that is there, and the part that is touched')
  pauses = [row.paused_sec for row in found.rows]
  length = float(np.median([row.length_sec for row in found.rows]))
  part = sum(pauses) / (sum(pauses) + sum(row.length_sec for row in found.rows) or 1)
  close.set_title(
    f'Working set of windows of {length:.3g} s; stopped {1000 * float(np.median(pauses)):.3g} ms '
    f'between them, {part:.1%} of the time', fontsize=9,
  )  # fmt: skip


def _reuse(figure: Any, found: Analysis) -> None:
  """The part of reuses within a distance, as a band."""
  reuse, unit = _reuse_of(found)
  axes = figure.subplots()
  curve = reuse_distance.thinned(reuse_distance.distribution(reuse), _MOST_POINTS)
  sizes = np.concatenate([[0], curve.units * unit / _MIB])
  axes.fill_between(sizes, _percent(curve.lower, 0), _percent(curve.upper, 0), step='post',
                    color=_BAND, alpha=0.3, lw=0, label='between the bounds')  # fmt: skip
  for bound, style in ((curve.lower, '-'), (curve.upper, '--')):
    label = 'at least' if bound is curve.lower else 'at most'
    axes.step(sizes, _percent(bound, 0), where='post', color=_BAND, lw=1.4, ls=style, label=label)
  for part in PARTS:
    bounds = reuse_distance.memory_for(reuse, part)
    assert bounds is not None
    size = bounds[1] * unit / _MIB
    axes.plot([size], [100 * part], 'o', color=_INK, ms=4)
    axes.annotate(f'{100 * part:g} %: {size:,.0f} MiB', (size, 100 * part), xytext=(7, -11),
                  textcoords='offset points', fontsize=8, color=_INK)  # fmt: skip
  most = reuse_distance.memory_for(reuse, 0.999)
  assert most is not None
  axes.set(xlim=(0, 1.15 * most[1] * unit / _MIB), ylim=(0, 102))
  axes.set(xlabel='reuse distance, MiB', ylabel='reuses within it, %')
  axes.legend(fontsize=8, loc='lower right')
  axes.set_title('How much else is touched before memory is touched again')


def _miss_ratio(figure: Any, found: Analysis) -> None:
  reuse, unit = _reuse_of(found)
  axes = figure.subplots()
  curve = reuse_distance.thinned(reuse_distance.miss_ratio(reuse), _MOST_POINTS)
  sizes = np.concatenate([[0], curve.units * unit / _MIB])
  low, high = (_percent(bound, 1) for bound in (curve.lower, curve.upper))
  axes.fill_between(sizes, low, high, step='post', color=_BAND, alpha=0.35, lw=0)
  axes.step(sizes, high, where='post', color=_BAND, lw=1.2, ls='--', label='at most')
  axes.step(sizes, low, where='post', color=_BAND, lw=1.2, label='at least')
  cold = 100 * reuse.cold / max(reuse.cold + reuse.reuses, 1)
  axes.axhline(cold, color=_INK, lw=0.9, ls=':', label=f'first touches, {cold:.2g} %')
  axes.set(xlim=(0, sizes[-1]), ylim=(0, 102))
  axes.set(xlabel='memory, MiB', ylabel='touches that miss, %')
  axes.legend(fontsize=8)
  axes.set_title('Touches (a page in a window) that memory of a size would miss, by LRU')


def _heat_map(figure: Any, found: Analysis) -> None:
  """Addresses upwards, time to the right, at the left the kinds of memory with their names."""
  heat = found.heat_map
  assert heat is not None
  assert found.unit_bytes is not None
  height = heat.units * found.unit_bytes / _MIB
  strip, axes = figure.subplots(1, 2, sharey=True, width_ratios=[1, 40])
  begins = [found.rows[int(edge)].begin_sec for edge in heat.edges[:-1]]
  image = axes.pcolorfast(
    [*begins, found.rows[-1].end_sec], np.linspace(0, height, len(heat.touched) + 1),
    np.ma.masked_equal(100 * heat.touched, 0), cmap='magma_r', vmin=0, vmax=100,
  )  # fmt: skip
  axes.grid(visible=False)
  strip.grid(visible=False)
  scale = found.unit_bytes / _MIB
  named: list[tuple[float, str]] = []
  for part in heat.parts:
    low, high = part.first * scale, part.last * scale
    strip.axhspan(low, high, color=_COLOURS[part.region], lw=0)
    if high - low >= _LOWEST_LABEL * height:
      axes.axhline(low, color=_INK, lw=0.4, alpha=0.6)
      axes.axhline(high, color=_INK, lw=0.4, alpha=0.6)
      named.append(((low + high) / 2, _label(part, heat, high - low)))
  strip.set_yticks([at for at, _ in named], [text for _, text in named], fontsize=8)
  strip.tick_params(length=0)
  strip.set_xticks([])
  strip.set_ylim(0, height)
  for side in ('left', 'bottom'):
    strip.spines[side].set_visible(False)
  axes.tick_params(labelleft=False, length=0, axis='y')
  axes.set_xlabel('seconds')
  regions = dict.fromkeys(part.region for part in heat.parts)
  handles = [_patch(_COLOURS[region]) for region in regions]
  figure.legend(handles, list(regions), loc='outside lower center', ncols=len(regions), fontsize=8)
  figure.colorbar(image, ax=axes, label='touched in a window, %', pad=0.01)
  axes.set_title(f'Memory that was ever touched, {height:,.0f} MiB in the order of addresses')


def _rebinned(figure: Any, found: Analysis) -> None:
  """The working set by the length of the window."""
  axes = figure.subplots()
  counted = [row for row in found.rebinned if row['joined'].endswith('windows')]
  by_steps = [row for row in found.rebinned if not row['joined'].endswith('windows')]
  for rows, colour, label in ((counted, _BAND, 'windows joined'), (by_steps, '#d9541e', 'steps')):
    if not rows:
      continue
    seconds = [row['seconds_each'] for row in rows]
    low, high = ([row[f'{kind}_bytes'] / _MIB for row in rows] for kind in ('p5', 'p95'))
    axes.fill_between(seconds, low, high, color=colour, alpha=0.15, lw=0)
    axes.plot(seconds, [row['mean_bytes'] / _MIB for row in rows], 'o-', color=colour, ms=4,
              label=f'{label}: mean, 5 to 95 %')  # fmt: skip
    for second, row in zip(seconds, rows, strict=True):
      text = f'{row["mean_bytes"] / _MIB:,.0f}' + ('' if rows is counted else f' ({row["joined"]})')
      above = (-4, 7, 'right') if rows is counted else (6, -14, 'left')
      axes.annotate(text, (second, row['mean_bytes'] / _MIB), xytext=above[:2], ha=above[2],
                    textcoords='offset points', fontsize=8, color=colour)  # fmt: skip
  axes.set_xscale('log')
  ticks = sorted({row['seconds_each'] for row in counted or by_steps})
  axes.set_xticks(ticks, [f'{tick:.3g}' for tick in ticks])
  axes.set_xticks([], minor=True)
  most = max(row['p95_bytes'] for row in found.rebinned) / _MIB
  axes.set(xlabel='length of a window, seconds', ylabel='working set, MiB', ylim=(0, 1.12 * most))
  axes.legend(fontsize=8, loc='lower right')
  axes.set_title('Working set by the length of the window (unions of windows; steady ones)')


def _reuse_of(found: Analysis) -> tuple[reuse_distance.ReuseDistances, int]:
  assert found.reuse is not None
  assert found.unit_bytes is not None
  return found.reuse, found.unit_bytes


def _percent(bound: np.ndarray, at_zero: float) -> np.ndarray:
  return 100 * np.concatenate([[at_zero], bound])


def _thinned(rows: list[Any]) -> list[Any]:
  """Every so many-th row, with the greatest working set of each stretch, so that peaks stay."""
  every = -(-len(rows) // _MOST_POINTS)
  stretches = [rows[start : start + every] for start in range(0, len(rows), every)]
  return [max(stretch, key=lambda row: row.touched) for stretch in stretches]


def _label(part: Part, heat: HeatMap, size: float) -> str:
  name = part.name if len(part.name) <= 24 else f'{part.name[:21]}…'
  several = any(other.process for other in heat.parts)
  return f'{name}{f" ({part.process + 1})" if several else ""}, {size:,.0f} MiB'


def _patch(colour: str) -> Any:
  from matplotlib.patches import Patch

  return Patch(color=colour)
