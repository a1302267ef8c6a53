"""Marks of the end of a step, counted."""

from habana_frameworks.torch import count


def mark_step() -> None:
  """Counted."""
  count('mark_step')
