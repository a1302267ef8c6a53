"""This file makes longer windows of short ones: the working set by the length of a window.

The set of a longer window is the union of the short ones' sets, so one fine trace tells what
traces with longer windows would. Of each unit only the window of its last touch is needed: it is
new in a union if that was before the union began.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import working_set
from algorithmic_efficiency.memory_trace.reuse_distance import Recency
from algorithmic_efficiency.memory_trace.working_set import Row

Rule = Callable[
  [int, int | None], int
]  # (index, steps made before it) -> number of its union, < 0: none


class Union(NamedTuple):
  """Windows that follow each other, as one.

  Attributes:
    first: index of the first.
    windows: how many.
    length_sec: their lengths, the pauses between not with them.
    steps: training steps in them; None where nobody tells.
    touched: bytes of the union of their sets.
  """

  first: int
  windows: int
  length_sec: float
  steps: int | None
  touched: float


class Rebinned:
  """Joins windows as a rule says.

  Args:
    name: of the rule, for tables.
    rule: which union a window is of.
    windows: in a whole union, or None if they differ; an incomplete one at the end is left out.

  Attributes:
    unions: those that are complete, so far. The last one of a rule by steps is not: it may go on.
  """

  def __init__(self, name: str, rule: Rule, windows: int | None = None) -> None:
    self.name, self.rule, self.windows = name, rule, windows
    self.unions: list[Union] = []
    self._now: Union | None = None
    self._which = -1
    self._step: int | None = None

  def add(self, row: Row, recency: Recency, unit_bytes: float) -> None:
    """Enters a window; bytes of a unit are those that a followed one stands for (`/ rate`)."""
    index = 0 if self._now is None else self._now.first + self._now.windows
    before = self._step
    which = self.rule(index, before)
    if self._now is None or which != self._which:
      if self._now is not None and self.windows is None and self._which >= 0:
        self.unions.append(self._now)
      self._now, self._which = Union(index, 0, 0.0, None, 0.0), which
    now = self._now
    steps = None if row.step is None or before is None else (now.steps or 0) + row.step - before
    self._step = row.step
    self._now = Union(
      now.first,
      now.windows + 1,
      now.length_sec + row.length_sec,
      steps,
      now.touched + recency.new_since(now.first) * unit_bytes,
    )
    if self._now.windows == self.windows:
      self.unions.append(self._now)

  def table_row(self, steady: int) -> dict[str, Any] | None:
    """Statistics of the unions that begin at the window `steady` or later; None without any."""
    unions = [union for union in self.unions if union.first >= steady]
    if not unions:
      return None
    steps = [union.steps for union in unions if union.steps is not None]
    sizes = working_set.statistics([union.touched for union in unions])
    return {
      'joined': self.name,
      'unions': len(unions),
      'windows_each': round(sum(union.windows for union in unions) / len(unions), 3),
      'seconds_each': round(sum(union.length_sec for union in unions) / len(unions), 6),
      'steps_each': round(sum(steps) / len(steps), 3) if steps else None,
      **{f'{name}_bytes': round(size) for name, size in sizes.items()},
    }


def by_count(windows: int) -> Rebinned:
  """Joins so many windows. Raises UsageError for fewer than one."""
  if windows < 1:
    raise UsageError(f'{windows} windows cannot be joined; give a number from 1 on.')
  return Rebinned(f'{windows} windows', lambda index, _: index // windows, windows)


def by_steps(steps: int) -> Rebinned:
  """Joins the windows that begin within the same so many training steps.

  A window in which a step ends is of the steps in which it begins. Where nobody tells steps there
  are no unions. Raises UsageError for fewer than one step.
  """
  if steps < 1:
    raise UsageError(f'{steps} steps cannot be joined; give a number from 1 on.')
  return Rebinned(f'{steps} steps', lambda _, before: -1 if before is None else before // steps)


def needs_units(granularity: object, path: object) -> UsageError:
  """Why windows of a trace cannot be joined."""
  return UsageError(
    f'windows of {str(path)!r} cannot be joined: by {granularity} it tells how much was touched '
    'and not which pages; trace with longer windows, or with a backend that tells pages.'
  )


def lengths(rebinned: Sequence[Rebinned], steady: int) -> list[dict[str, Any]]:
  """A table with a row of each that has unions."""
  return [row for each in rebinned if (row := each.table_row(steady)) is not None]
