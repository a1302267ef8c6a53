"""This file sorts out what runs within what, on one thread."""

from collections.abc import Sequence


def own_durations(spans: Sequence[tuple[int, int]], slack: int = 0) -> list[int]:
  """How long each span lasts without those directly within it.

  Args:
    spans: (begin, end), sorted by begin, and of equal begins the longest first.
    slack: what a span may end after the one it is within; for times that were rounded.
  """
  own = [end - begin for begin, end in spans]
  for index, parent in enumerate(parents(spans, slack)):
    if parent >= 0:
      own[parent] -= spans[index][1] - spans[index][0]
  return [max(0, value) for value in own]  # spans that overlap in part are counted in both


def parents(spans: Sequence[tuple[float, float]], slack: float = 0) -> list[int]:
  """The index of the span that each is directly within, or -1; sorted as for `own_durations`."""
  found: list[int] = []
  open_spans: list[int] = []
  for index, (begin, end) in enumerate(spans):
    while open_spans and (
      spans[open_spans[-1]][1] <= begin or spans[open_spans[-1]][1] + slack < end
    ):
      open_spans.pop()
    found.append(open_spans[-1] if open_spans else -1)
    open_spans.append(index)
  return found
