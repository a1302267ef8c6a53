"""This file reads single cells of the logs: numbers with units, spellings of "absent", times."""

import datetime
import functools
import re

# What nvidia-smi and hl-smi write where there is no value; case and brackets aside.
_ABSENT = {
  '', '-', 'n/a', 'na', 'nan', 'not supported', 'unknown error', 'gpu requires reset',
  'insufficient permissions', 'not found', 'none', 'err!', 'unknown', 'gpu is lost',
  'requested functionality has been deprecated', 'not available', 'no data',
}  # fmt: skip

_NUMBER = re.compile(r'([-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*([A-Za-z%°/]*)')
_TO_MIB = {'b': 2**-20, 'kib': 2**-10, 'mib': 1.0, 'mb': 1.0, 'gib': 2.0**10, 'tib': 2.0**20}
_TO_WATTS = {'w': 1.0, 'mw': 1e-3, 'kw': 1e3}

_ZONES = {
  'UTC': 0, 'GMT': 0, 'WET': 0, 'BST': 1, 'CET': 1, 'WEST': 1, 'CEST': 2, 'EET': 2, 'EEST': 3,
  'MSK': 3, 'IST': 5.5, 'HKT': 8, 'SGT': 8, 'JST': 9, 'KST': 9, 'AEST': 10, 'AEDT': 11,
  'AST': -4, 'ADT': -3, 'EST': -5, 'EDT': -4, 'CST': -6, 'CDT': -5, 'MST': -7, 'MDT': -6,
  'PST': -8, 'PDT': -7, 'AKST': -9, 'AKDT': -8, 'HST': -10,
}  # fmt: skip
_MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
_DAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
_LONG = re.compile(
  r'(?P<weekday>[A-Z][a-z]{2}) (?P<month>[A-Z][a-z]{2})\s+(?P<day>\d{1,2}) '
  r'(?P<time>\d{2}:\d{2}:\d{2})(?: (?P<zone>[A-Z]{2,5}|[-+]\d{2}:?\d{2}))? (?P<year>\d{3,4})'
)
_SHORT = re.compile(r'(\d{4})[/-](\d{2})[/-](\d{2})[ T](\d{2}):(\d{2}):(\d{2}(?:\.\d+)?)Z?')


@functools.lru_cache(maxsize=4096)
def is_absent(cell: str) -> bool:
  """Whether a cell says that there is no value.

  >>> is_absent('[Not Supported]'), is_absent('0 W')
  (True, False)
  """
  text = cell.strip()
  if text.startswith('[') and text.endswith(']'):
    text = text[1:-1]
  return text.strip().lower() in _ABSENT


@functools.lru_cache(maxsize=65536)
def number(cell: str, unit: str = '') -> float | None:
  """A number in the columns' units: MiB, W, else as written; None for text.

  Args:
    cell: with or without its unit.
    unit: of the header, where the cell has none.

  >>> number('1.5 kW'), number('512Mib'), number('15 %'), number('P0')
  (1500.0, 512.0, 15.0, None)
  """
  match = _NUMBER.fullmatch(cell.strip())
  if match is None:
    return None
  value, written = float(match[1]), (match[2] or unit).strip().lower()
  return value * _TO_MIB.get(written, _TO_WATTS.get(written, 1.0))


class Stamp:
  """A time as a log has it.

  Attributes:
    seconds: since 1970; of `years[0]` where the year was cut short.
    years: that it may be; one unless it was cut short, and none if no year fits the weekday.
    was_cut: its year had three digits.
    unknown_zone: the abbreviation that was taken for UTC.
  """

  def __init__(
    self, parts: tuple[int, int, float], years: list[int], offset_hours: float, was_cut: bool,
    unknown_zone: str = '',
  ) -> None:  # fmt: skip
    self._parts, self._offset_hours = parts, offset_hours
    self.years, self.was_cut, self.unknown_zone = years, was_cut, unknown_zone

  @property
  def seconds(self) -> float:
    """Since 1970, in the first of the years."""
    return self.in_year(self.years[0])

  def in_year(self, year: int) -> float:
    """Since 1970, if it was that year."""
    month, day, second = self._parts
    start = datetime.datetime(year, month, day, tzinfo=datetime.UTC).timestamp()
    return start + second - 3600 * self._offset_hours


@functools.lru_cache(maxsize=1024)  # a poll's rows share theirs
def stamp(cell: str, utc_offset_hours: float = 0.0) -> Stamp | None:
  """A time; None for anything else. Times without a zone count as `utc_offset_hours` from UTC.

  Years of three digits ('202') are those of that decade whose weekday fits.
  """
  text = ' '.join(cell.split())
  short = _SHORT.fullmatch(text)
  try:
    if short is not None:
      year, month, day, hour, minute = (int(short[i]) for i in range(1, 6))
      datetime.date(year, month, day)
      second = 3600 * hour + 60 * minute + float(short[6])
      return Stamp((month, day, second), [year], utc_offset_hours, False)
    long = _LONG.fullmatch(text)
    if long is None:
      return None
    month, day = 1 + _MONTHS.index(long['month']), int(long['day'])
    weekday = _DAYS.index(long['weekday'])
  except ValueError:
    return None
  hour, minute, second = (int(part) for part in long['time'].split(':'))
  offset, unknown = _offset(long['zone'], utc_offset_hours)
  cut = len(long['year']) == 3
  years = [int(long['year'])]
  if cut:
    decade = range(10 * years[0], 10 * years[0] + 10)
    years = [year for year in decade if _weekday(year, month, day) == weekday]
  elif _weekday(years[0], month, day) is None:
    return None
  parts = (month, day, float(3600 * hour + 60 * minute + second))
  return Stamp(parts, years, offset, cut, unknown) if years else None


def _weekday(year: int, month: int, day: int) -> int | None:
  try:
    return datetime.date(year, month, day).weekday()
  except ValueError:
    return None


def _offset(zone: str | None, default: float) -> tuple[float, str]:
  if zone is None:
    return default, ''
  if zone[0] in '+-':
    digits = zone[1:].replace(':', '')
    hours = int(digits[:2]) + int(digits[2:]) / 60
    return (hours if zone[0] == '+' else -hours), ''
  return (_ZONES[zone], '') if zone in _ZONES else (0.0, zone)
