"""This file draws a chart as SVG whose colours come from the page, so that they follow its theme.

Nothing is cut: labels at the ends of curves get a margin as wide as the longest, and are moved
apart where they would touch.
"""

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from algorithmic_efficiency.report import palette, scales, thinning
from algorithmic_efficiency.report.figure import Figure, Line, Numbers, Points, Shade
from algorithmic_efficiency.report.markup import element

# Pixels, of the widest usual sans-serif at the size of a chart's text.
_CHARACTER, _BOLD_CHARACTER = 6.4, 7.6
_LINE_HEIGHT = 13.0
_LONGEST_LABEL = 22
_TOP, _BOTTOM, _RIGHT = 22.0, 36.0, 12.0
_SHADE_LEVELS = 4
_FURTHEST = 1e6  # pixels


@dataclass(frozen=True)
class _Frame:
  """Where the curves are, in pixels."""

  figure: Figure
  left: float
  right: float
  top: float
  bottom: float

  def x(self, values: Numbers | float) -> Numbers:
    return self.left + scales.position(values, self.figure.x) * (self.right - self.left)

  def y(self, values: Numbers | float) -> Numbers:
    return self.bottom - scales.position(values, self.figure.y) * (self.bottom - self.top)


def draw(figure: Figure, width: int = 352, height: int = 232, key: str = '') -> ET.Element:
  """The chart, `width` by `height` pixels at its natural size; `key` makes its ids unique."""
  frame = _frame(figure, width, height)
  clip = f'clip-{key or figure.name}'
  root = element(
    'svg', viewBox=f'0 0 {width} {height}', role='img', aria_label=figure.alt, class_='chart'
  )
  root.append(element('clipPath', element('rect', **_box(frame, 3)), id=clip))
  root.append(_shades(frame))
  root.append(_grid(frame, width, height))
  marks = element('g', clip_path=f'url(#{clip})')
  marks.extend(_bands(frame))
  marks.extend(_line(frame, line) for line in figure.lines if line.faint)
  marks.extend(_rules(frame))
  marks.extend(_line(frame, line) for line in figure.lines if not line.faint)
  for points in figure.points:
    marks.extend(_points(frame, points))
  root.append(marks)
  root.append(_labels(frame))
  return root


def height_for(labels: int) -> int:
  """The least height of a chart in which so many labels do not touch."""
  return int(_TOP + _BOTTOM + _LINE_HEIGHT * labels)


def _frame(figure: Figure, width: int, height: int) -> _Frame:
  texts = [scales.tick_text(t, figure.y) for t in scales.ticks(figure.y)]
  left = max([len(t) for t in texts] or [0]) * _CHARACTER + 12
  labels = [_short(line.label) for line in figure.lines if line.label]
  right = max([len(label) for label in labels] or [0]) * _BOLD_CHARACTER
  return _Frame(figure, left, width - max(right + 10 if right else 0, _RIGHT), _TOP,
                height - _BOTTOM)  # fmt: skip


def _short(text: str) -> str:
  return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + '…'


def _box(frame: _Frame, room: float) -> dict[str, str]:
  return {
    'x': _n(frame.left - room),
    'y': _n(frame.top - room),
    'width': _n(frame.right - frame.left + 2 * room),
    'height': _n(frame.bottom - frame.top + 2 * room),
  }


def _n(value: float) -> str:
  """A coordinate: a tenth of a pixel is enough."""
  return f'{value:.1f}'.removesuffix('.0')


def _grid(frame: _Frame, width: int, height: int) -> ET.Element:
  """Ticks, their lines and the names of the axes."""
  figure = frame.figure
  most = min(max(2, int((frame.right - frame.left) / 58)), 9)
  group = element('g', class_='grid')
  for value in scales.ticks(figure.y):
    at = float(frame.y(value))
    group.append(
      element('line', x1=_n(frame.left), x2=_n(frame.right), y1=_n(at), y2=_n(at)),
    )
    text = scales.tick_text(value, figure.y)
    group.append(element('text', text, x=_n(frame.left - 6), y=_n(at + 3.7), class_='end'))
  for value in scales.ticks(figure.x, most):
    at = float(frame.x(value))
    group.append(
      element('line', x1=_n(at), x2=_n(at), y1=_n(frame.bottom), y2=_n(frame.bottom + 4)),
    )
    text = scales.tick_text(value, figure.x)
    half = len(text) * _CHARACTER / 2
    centre = min(max(at, half), width - half)
    group.append(element('text', text, x=_n(centre), y=_n(frame.bottom + 16), class_='mid'))
  group.append(
    element(
      'text',
      figure.y.label,
      x='2',
      y='11',
    )
  )
  group.append(
    element('text', figure.x.label, x=_n(_label_end(frame, width)), y=_n(height - 4), class_='end')
  )
  group.extend(_rule_name(frame, height))
  return group


def _rule_name(frame: _Frame, height: int) -> list[ET.Element]:
  """What the horizontal line is, outside the frame, where no curve can cross it out."""
  texts = [f'- - {rule.label}' for rule in frame.figure.rules]
  if not texts:
    return []
  needed = (len(frame.figure.y.label) + sum(map(len, texts)) + 2) * _CHARACTER
  text = ', '.join(texts)
  if needed <= frame.right:
    return [element('text', text, x=_n(frame.right), y='11', class_='end target')]
  return [element('text', text, x='2', y=_n(height - 4), class_='target')]


def _label_end(frame: _Frame, width: int) -> float:
  """Where the name of the axis ends: at the frame's end, or further right where it needs that."""
  return min(max(frame.right, len(frame.figure.x.label) * _CHARACTER), width)


def _stairs(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
  return np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]


def _pieces(x: Numbers, y: Numbers) -> list[tuple[Numbers, Numbers]]:
  """The stretches without a NaN."""
  good = np.isfinite(x) & np.isfinite(y)
  edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype(np.int8), [0]))))
  return [(x[a:b], y[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def path_of(x: Numbers, y: Numbers) -> str:
  """A path through points in pixels, without those that nobody could see."""
  text: list[str] = []
  for part_x, part_y in _pieces(x, y):
    kept = thinning.keep(part_x, part_y)
    tenths = np.rint(np.column_stack((part_x[kept], part_y[kept])) * 10).astype(np.int64)
    text.append(f'M{_n(tenths[0, 0] / 10)} {_n(tenths[0, 1] / 10)}')
    moves = np.diff(tenths, axis=0)
    if len(moves):
      text.append('l' + ' '.join(f'{_n(dx / 10)} {_n(dy / 10)}' for dx, dy in moves))
    else:
      text.append('h0')  # a single point: round ends of the stroke make it a dot
  return ''.join(text)


def _drawable(y: Numbers) -> Numbers:
  """Coordinates that a browser can draw: a loss that diverged may lie beyond any of them.

  Not near the frame: a line would enter it at another place then.
  """
  return np.clip(y, -_FURTHEST, _FURTHEST)


def _line(frame: _Frame, line: Line) -> ET.Element:
  x, y = frame.x(line.x), _drawable(frame.y(line.y))
  if line.stairs:
    x, y = _stairs(x, y)
  kind = 'line faint' if line.faint else 'line'
  made = element('path', d=path_of(x, y), class_=f'{kind} {palette.classes(line.series)}')
  if line.tip:
    made.append(element('title', line.tip))
  return made


def _bands(frame: _Frame) -> list[ET.Element]:
  made: list[ET.Element] = []
  for band in frame.figure.bands:
    x, low = _stairs(frame.x(band.x), frame.y(band.low))
    _, high = _stairs(frame.x(band.x), frame.y(band.high))
    outline = path_of(np.concatenate((x, x[::-1])), np.concatenate((low, high[::-1])))
    made.append(element('path', d=outline + 'z', class_=f'band {palette.classes(band.series)}'))
  return made


def _rules(frame: _Frame) -> list[ET.Element]:
  made: list[ET.Element] = []
  for rule in frame.figure.rules:
    at = float(frame.y(rule.y))
    made.append(
      element('line', x1=_n(frame.left), x2=_n(frame.right), y1=_n(at), y2=_n(at), class_='rule')
    )
  return made


def _points(frame: _Frame, points: Points) -> list[ET.Element]:
  x, y = frame.x(points.x), frame.y(points.y)
  kind = 'dot open' if points.open else 'dot'
  made: list[ET.Element] = []
  for at_x, at_y, tip in zip(x, y, points.tips, strict=True):
    if math.isfinite(at_x) and math.isfinite(at_y):
      dot = element('circle', cx=_n(at_x), cy=_n(at_y), r='3.2',
                    class_=f'{kind} {palette.classes(points.series)}')  # fmt: skip
      if tip:
        dot.append(element('title', tip))
      made.append(dot)
  return made


def _shades(frame: _Frame) -> ET.Element:
  """Phases: the darker a pixel's column, the more of its time was spent in them."""
  group = element('g')
  columns = int(frame.right - frame.left)
  for shade in frame.figure.shades:
    share = coverage(shade, frame.figure.x.low, frame.figure.x.high, columns)
    levels = np.ceil(share * _SHADE_LEVELS - 0.05).astype(int)
    for level in range(1, _SHADE_LEVELS + 1):
      outline = ''.join(
        f'M{_n(frame.left + a)} {_n(frame.top)}h{b - a}V{_n(frame.bottom)}h{a - b}z'
        for a, b in _runs(levels == level)
      )
      if outline:
        group.append(element('path', d=outline, class_=f'shade {shade.kind}',
                             opacity=_n(level / _SHADE_LEVELS)))  # fmt: skip
  return group


def coverage(shade: Shade, low: float, high: float, columns: int) -> Numbers:
  """The share of each of so many equal columns that the stretches cover."""
  edges = np.linspace(low, high, columns + 1)
  order = np.argsort(shade.begin)
  begin, end = shade.begin[order], shade.end[order]
  begin = np.maximum(begin, np.concatenate(([-np.inf], np.maximum.accumulate(end)[:-1])))
  end = np.maximum(begin, end)
  covered = np.zeros(columns + 1)
  for at_begin, at_end in zip(begin, end, strict=True):
    covered += np.clip(edges, at_begin, at_end) - at_begin
  return np.diff(covered) / max((high - low) / columns, 1e-300)


def _runs(wanted: np.ndarray) -> list[tuple[int, int]]:
  edges = np.flatnonzero(np.diff(np.concatenate(([0], wanted.astype(np.int8), [0]))))
  return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _labels(frame: _Frame) -> ET.Element:
  """The names of curves at their right ends, moved apart, with a thread where one was moved."""
  group = element('g')
  labelled = sorted((ln for ln in frame.figure.lines if ln.label), key=lambda ln: ln.series or 0)
  ends = [(line, _end(frame, line)) for line in labelled]
  ends = [(line, end) for line, end in ends if end is not None]
  wanted = [end[1] for _, end in ends]
  for (line, (end_x, end_y)), at in zip(
    ends, spread(wanted, frame.top + 4, frame.bottom), strict=True
  ):
    classes = palette.classes(line.series)
    if abs(at - end_y) > 2 or end_x < frame.right - 1:
      ends_at = {'x2': _n(frame.right + 4), 'y2': _n(at)}
      thread = element('line', x1=_n(end_x), y1=_n(end_y), class_=f'thread {classes}', **ends_at)
      group.append(thread)
    text = element('text', _short(line.label), x=_n(frame.right + 6), y=_n(at + 3.7),
                   class_=f'label {classes}')  # fmt: skip
    if _short(line.label) != line.label:
      text.append(element('title', line.label))
    group.append(text)
  return group


def _end(frame: _Frame, line: Line) -> tuple[float, float] | None:
  x, y = frame.x(line.x), frame.y(line.y)
  good = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
  if not len(good):
    return None
  last = good[-1]
  return min(float(x[last]), frame.right), min(max(float(y[last]), frame.top), frame.bottom)


def spread(wanted: Sequence[float], low: float, high: float) -> list[float]:
  """Places near the wanted ones, in their order, a line of text apart and within the ends.

  Where there are too many for the room they stand as close as they must.
  """
  order = sorted(range(len(wanted)), key=lambda i: wanted[i])
  apart = min(_LINE_HEIGHT, (high - low) / max(len(wanted) - 1, 1))
  placed: list[float] = []
  for i in order:
    placed.append(max(wanted[i], placed[-1] + apart if placed else low))
  ceiling = high
  for number in range(len(placed) - 1, -1, -1):
    placed[number] = min(placed[number], ceiling)
    ceiling = placed[number] - apart
  result = [0.0] * len(wanted)
  for place, i in zip(placed, order, strict=True):
    result[i] = place
  return result
