"""This file describes charts as data, so that the page and the pictures draw the same numbers.

Coordinates are the data's own; what draws them decides about pixels. `series` is the index of a
submission, which has one colour and one dash everywhere, or None for what belongs to nobody.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
PHASES = ('evaluation', 'recording', 'checkpoint', 'profiling')


@dataclass(frozen=True)
class Line:
  """A curve; NaN breaks it.

  Attributes:
    x, y: its points.
    series: whose it is.
    label: written at its right end, if any.
    tip: told when it is pointed at.
    faint: drawn behind the others and pale.
    stairs: y holds from its x to the next.
  """

  x: Numbers
  y: Numbers
  series: int | None = None
  label: str = ''
  tip: str = ''
  faint: bool = False
  stairs: bool = False


@dataclass(frozen=True)
class Band:
  """What lies between two stairs."""

  x: Numbers
  low: Numbers
  high: Numbers
  series: int | None = None


@dataclass(frozen=True)
class Points:
  """Marks, each with its own text to tell; `open` ones stand for a limit that was not reached."""

  x: Numbers
  y: Numbers
  tips: tuple[str, ...]
  series: int | None = None
  open: bool = False


@dataclass(frozen=True)
class Rule:
  """A horizontal line, such as a target."""

  y: float
  label: str = ''


@dataclass(frozen=True)
class Shade:
  """The stretches of x in which something was done."""

  kind: str
  begin: Numbers
  end: Numbers


@dataclass(frozen=True)
class Axis:
  """One direction of a chart.

  Attributes:
    label: what is shown, with its unit.
    low, high: its ends.
    log: whether equal ratios have equal lengths.
    categories: names for 0, 1, 2, … where the values are no numbers.
  """

  label: str
  low: float
  high: float
  log: bool = False
  categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figure:
  """One chart.

  Attributes:
    name: of its picture's file, without the ending.
    title: above it.
    alt: what it shows, for who cannot see it.
    note: small, beside the title.
    about: what it belongs to, where the page says so around it and a picture has to.
    names: of the submissions in it, by their series, where no curve bears its own.
  """

  name: str
  title: str
  alt: str
  x: Axis
  y: Axis
  lines: tuple[Line, ...] = ()
  bands: tuple[Band, ...] = ()
  points: tuple[Points, ...] = ()
  rules: tuple[Rule, ...] = ()
  shades: tuple[Shade, ...] = ()
  note: str = ''
  about: str = ''
  names: tuple[tuple[int, str], ...] = ()


def file_name(*parts: str) -> str:
  """A name for a picture's file, of letters, digits and underscores."""
  words = (re.sub(r'[^A-Za-z0-9]+', '_', part).strip('_') for part in parts)
  return '_'.join(word for word in words if word)[:120] or 'chart'
