"""This file says which mappings are looked at; by the same names when sampling and afterwards."""

import re
from collections.abc import Callable, Iterable, Sequence

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace.mappings import (
  ANONYMOUS,
  FILE,
  HEAP,
  LIBRARY,
  PAGE_BYTES,
  STACK,
  Mapping,
)

Filter = Callable[[Mapping], bool]

_SMALL_PAGES = 4  # the study's: a mapping of fewer is guard pages and thread-local data
# By what is dropped, or what alone is kept; whether the mapping is kept.
DROPPED: dict[str, Filter] = {
  'executable': lambda mapping: 'x' not in mapping.permissions,
  'inaccessible': lambda mapping: mapping.permissions[:2] != '--',
  'small': lambda mapping: mapping.size >= _SMALL_PAGES * PAGE_BYTES,
}
KEPT = (HEAP, ANONYMOUS, LIBRARY, FILE, STACK)


def parse(dropped: Iterable[str] = (), kept: Iterable[str] = (), path: str = '') -> list[Filter]:
  """What a mapping must satisfy.

  Args:
    dropped: names in DROPPED.
    kept: regions of KEPT, of which it must be one; all if there are none.
    path: a regular expression that is searched in its path.

  Raises UsageError.
  """
  found: list[Filter] = []
  for name in dropped:
    if name not in DROPPED:
      raise UsageError(f'{name!r} names no mappings to drop; there are {", ".join(DROPPED)}.')
    found.append(DROPPED[name])
  regions = frozenset(kept)
  if strange := sorted(regions - set(KEPT)):
    raise UsageError(f'{strange[0]!r} is no kind of mapping; there are {", ".join(KEPT)}.')
  if regions:
    found.append(lambda mapping: mapping.region in regions)
  if path:
    try:
      pattern = re.compile(path)
    except re.error as error:
      raise UsageError(f'{path!r} is no regular expression ({error}).') from error
    found.append(lambda mapping: pattern.search(mapping.path) is not None)
  return found


def keeps(filters: Sequence[Filter], mapping: Mapping) -> bool:
  """Whether the mapping satisfies all."""
  return all(satisfied(mapping) for satisfied in filters)
