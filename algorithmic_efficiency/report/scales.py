"""This file chooses ticks, limits and units, and writes numbers for people."""

import math
from collections.abc import Iterable

import numpy as np

from algorithmic_efficiency.report.figure import Axis, Numbers

_MOST_TICKS = 6
_LOG_FROM_RATIO = 30.0  # limits further apart than this are shown on a logarithmic axis


def ticks(axis: Axis, most: int = _MOST_TICKS) -> list[float]:
  """Round values within the axis, at most about `most` of them."""
  if axis.categories:
    return [float(i) for i in range(len(axis.categories))]
  if axis.log:
    found = _log_ticks(axis.low, axis.high, most)
    if len(found) >= 2:
      return found
  return _linear_ticks(axis.low, axis.high, most)


def _linear_ticks(low: float, high: float, most: int) -> list[float]:
  span = high - low
  if span <= 0 or not math.isfinite(span):
    return [low]
  raw = span / max(most - 1, 1)
  power = 10.0 ** math.floor(math.log10(raw))
  step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
  first = math.ceil(low / step - 1e-9)
  last = math.floor(high / step + 1e-9)
  return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[float]:
  first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
  for factors in ((1, 2, 5), (1, 3), (1,)):
    found = [f * 10.0**e for e in range(first, last + 1) for f in factors]
    found = [t for t in found if low * 0.999 <= t <= high * 1.001]
    if len(found) <= most:
      return found
  every = math.ceil(len(found) / most)
  return found[::every]


def tick_text(value: float, axis: Axis) -> str:
  """A tick as it is written."""
  if axis.categories:
    return axis.categories[int(value)]
  return number(value, 4)


def limits(values: Iterable[float], pad: float = 0.05) -> tuple[float, float]:
  """The smallest and the largest finite value, with some room; (0, 1) where there is none."""
  finite = [v for v in values if math.isfinite(v)]
  if not finite:
    return 0.0, 1.0
  low, high = min(finite), max(finite)
  room = (high - low) * pad or abs(low) * 0.1 or 1.0
  return low - room, high + room


def axis_of(label: str, values: Iterable[float], log: bool | None = None) -> Axis:
  """An axis for these values; logarithmic where they are positive and their ratio is large."""
  finite = [v for v in values if math.isfinite(v)]
  positive = bool(finite) and min(finite) > 0
  if log is None:
    log = positive and max(finite) / min(finite) > _LOG_FROM_RATIO
  if log and positive:
    low, high = limits(np.log10(finite))
    return Axis(label, 10.0**low, 10.0**high, log=True)
  return Axis(label, *limits(finite))


def position(values: Numbers | float, axis: Axis) -> Numbers:
  """Where values lie on the axis, 0 at its low end and 1 at its high end; NaN where nowhere."""
  given = np.asarray(values, dtype=np.float64)
  if not axis.log:
    return (given - axis.low) / ((axis.high - axis.low) or 1.0)
  low, high = math.log(axis.low), math.log(axis.high)
  with np.errstate(divide='ignore', invalid='ignore'):
    logs = np.log(np.where(given > 0, given, np.nan))
  return (logs - low) / ((high - low) or 1.0)


def time_unit(longest_sec: float) -> tuple[float, str]:
  """(seconds in it, its name) of the unit that suits times up to this one."""
  if longest_sec >= 3 * 3600:
    return 3600.0, 'hours'
  if longest_sec >= 10 * 60:
    return 60.0, 'minutes'
  return 1.0, 'seconds'


def number(value: float, digits: int = 3, zeros: bool = False) -> str:
  """A number with so many significant digits, thousands apart; `zeros` keeps those at its end.

  >>> number(61068.4), number(0.00123456), number(2.0)
  ('61,068', '0.00123', '2')
  """
  if not math.isfinite(value):
    return '∞' if value > 0 else ('−∞' if value < 0 else '–')
  size = abs(value)
  if size and (size < 1e-4 or size >= 1e9):
    mantissa, _, power = f'{value:.{digits - 1}e}'.partition('e')
    if '.' in mantissa:
      mantissa = mantissa.rstrip('0').rstrip('.')
    return f'{mantissa}e{int(power)}'.replace('-', '−')
  decimals = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
  text = f'{value:,.{decimals}f}'
  if '.' in text and not zeros:
    text = text.rstrip('0').rstrip('.')
  return text.replace('-', '−')


def percent(share: float, decimals: int = 0) -> str:
  """A share as a percentage, its sign a thin space away."""
  return f'{100 * share:.{decimals}f}\u202f%'


def duration(seconds: float) -> str:
  """A time for people, with three digits and its unit.

  >>> duration(1.254), duration(754.0), duration(61068.0)
  ('1.25 s', '12.6 min', '17.0 h')
  """
  if not math.isfinite(seconds):
    return number(seconds)
  size, unit = clock_unit(seconds)
  return f'{number(seconds / size, zeros=seconds != 0)} {unit}'


def clock_unit(seconds: float) -> tuple[float, str]:
  """(seconds in it, its sign) of the unit that suits a time."""
  for least, size, unit in ((3600.0, 3600.0, 'h'), (120.0, 60.0, 'min')):
    if math.isfinite(seconds) and abs(seconds) >= least:
      return size, unit
  return 1.0, 's'


def count(many: int, noun: str, plural: str = '') -> str:
  """`1 trial`, `3 trials`."""
  return f'{many:,} {noun if many == 1 else plural or noun + "s"}'
