"""This file turns a JSON search space into a checked one, with every fault found at once.

Two forms. An object gives each hyperparameter a range or a list to draw from:
  {"learning_rate": {"min": 1e-4, "max": 1e-2, "scaling": "log"},
   "epsilon": {"feasible_points": [1e-8, 1e-5, 1e-3]}}
A list of objects gives exact trials, taken in order:
  [{"learning_rate": 1e-3, "epsilon": 1e-8}, …]
"""

import json
import keyword
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from algorithmic_efficiency.errors import UsageError, unknown_name

SCALINGS = ('linear', 'log')


@dataclass(frozen=True)
class Range:
  """A hyperparameter drawn between two bounds, evenly or evenly in its logarithm."""

  minimum: float
  maximum: float
  log: bool

  def at(self, u: float) -> float:
    """The value at the fraction `u` in [0, 1) of the range."""
    if self.log:
      value = self.minimum ** (1 - u) * self.maximum**u
    else:
      value = self.minimum * (1 - u) + self.maximum * u  # the width may exceed the largest float
    return min(max(value, self.minimum), self.maximum)  # rounding must not step outside


@dataclass(frozen=True)
class FeasiblePoints:
  """A hyperparameter drawn from a list of values of any JSON type, each as likely."""

  points: tuple[Any, ...]

  def at(self, u: float) -> Any:
    """The point at the fraction `u` in [0, 1) of the list."""
    return self.points[min(int(u * len(self.points)), len(self.points) - 1)]


@dataclass(frozen=True)
class SearchSpace:
  """Either `dimensions` to draw from or `trials` to take as they are; the other is None.

  Attributes:
    names: the hyperparameters, in the file's order.
    dimensions: name to Range or FeasiblePoints.
    trials: exact points, in order.
  """

  names: tuple[str, ...]
  dimensions: dict[str, Range | FeasiblePoints] | None = None
  trials: tuple[dict[str, Any], ...] | None = None


def load(path: Path) -> SearchSpace:
  """Reads and checks a search space. Raises UsageError naming the file and every fault in it."""
  if not path.is_file():
    raise UsageError(f'There is no search space file {str(path)!r}; check --tuning_search_space.')
  try:
    content = json.loads(path.read_text(encoding='utf-8'), object_pairs_hook=_refuse_repeats)
  except (ValueError, OSError, RecursionError) as error:
    raise UsageError(f'The search space {str(path)!r} is not JSON: {error}.') from error
  faults: list[str] = []
  space = parse(content, faults)
  if faults or space is None:
    raise UsageError(f'The search space {str(path)!r} cannot be used: {"; ".join(faults)}.')
  return space


def parse(content: Any, faults: list[str]) -> SearchSpace | None:
  """Checks a parsed search space; appends one clause per fault to `faults`."""
  if isinstance(content, dict):
    return _parse_dimensions(cast(dict[str, Any], content), faults)
  if isinstance(content, list):
    return _parse_trials(cast(list[Any], content), faults)
  faults.append(
    'it must be an object of ranges or a list of objects, one a trial, '
    f'not a bare {type(content).__name__}'
  )
  return None


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  names = [name for name, _ in pairs]
  for name in names:
    if names.count(name) > 1:
      raise ValueError(f'{name!r} is given twice in one object')
  return dict(pairs)


def _parse_dimensions(content: dict[str, Any], faults: list[str]) -> SearchSpace | None:
  if not content:
    faults.append('it has no hyperparameters; name at least one')
    return None
  _check_names(content, faults)
  dimensions: dict[str, Range | FeasiblePoints] = {}
  for name, description in content.items():
    dimension = _parse_dimension(name, description, faults)
    if dimension is not None:
      dimensions[name] = dimension
  return SearchSpace(names=tuple(content), dimensions=dimensions)


def _parse_trials(content: list[Any], faults: list[str]) -> SearchSpace | None:
  if not content:
    faults.append('the list of trials is empty; give at least one object')
    return None
  for number, trial in enumerate(content, start=1):
    if not isinstance(trial, dict) or not trial:
      faults.append(f'trial {number} must be an object with at least one value, not {trial!r}')
  if faults:
    return None
  trials = cast(list[dict[str, Any]], content)
  names = tuple(trials[0])
  _check_names(trials[0], faults)
  for number, trial in enumerate(trials, start=1):
    missing, extra = set(names) - set(trial), set(trial) - set(names)
    if missing or extra:
      faults.append(
        f'trial {number} has other hyperparameters than trial 1 '
        f'(missing {sorted(missing)}, extra {sorted(extra)})'
      )
    for name, value in trial.items():
      if not _is_finite(value):
        faults.append(f'{name!r} of trial {number} must be finite, not {_shown(value)}')
  if faults:
    return None
  # A submission may read its hyperparameters by position: every trial in the order of the first.
  return SearchSpace(names=names, trials=tuple({n: trial[n] for n in names} for trial in trials))


def _check_names(names: dict[str, Any], faults: list[str]) -> None:
  for name in names:
    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith('_'):
      faults.append(f'{name!r} cannot be read as hyperparameters.<name>; use a Python name')


def _parse_dimension(
  name: str, description: Any, faults: list[str]
) -> Range | FeasiblePoints | None:
  entry = cast(dict[str, Any], description if isinstance(description, dict) else {})
  keys = set(entry)
  if keys == {'feasible_points'}:
    return _parse_points(name, entry['feasible_points'], faults)
  if keys == {'min', 'max', 'scaling'}:
    return _parse_range(name, entry, faults)
  faults.append(
    f'{name!r} must be {{"min", "max", "scaling"}} or {{"feasible_points": [...]}}, '
    f'not {json.dumps(description)}'
  )
  return None


def _parse_points(name: str, points: Any, faults: list[str]) -> FeasiblePoints | None:
  if not isinstance(points, list) or not points:
    faults.append(f'feasible_points of {name!r} must be a list with at least one value')
    return None
  for point in cast(list[Any], points):
    if not _is_finite(point):
      faults.append(f'feasible_points of {name!r} must be finite, not {_shown(point)}')
  return FeasiblePoints(tuple(cast(list[Any], points)))


def _is_finite(value: Any) -> bool:
  """Whether every number in a value read from JSON is one that floats can hold."""
  try:
    json.dumps(value, allow_nan=False)
    return not isinstance(value, int) or math.isfinite(value)
  except (ValueError, OverflowError):
    return False


def _shown(value: Any) -> str:
  text = repr(value)
  return text if len(text) < 60 else f'{text[:40]}… ({len(text)} characters)'


def _parse_range(name: str, description: dict[str, Any], faults: list[str]) -> Range | None:
  low, high, scaling = description['min'], description['max'], description['scaling']
  before = len(faults)
  for key, bound in (('min', low), ('max', high)):
    if isinstance(bound, bool) or not isinstance(bound, int | float) or not _is_finite(bound):
      faults.append(f'{key} of {name!r} must be a finite number, not {_shown(bound)}')
  if scaling not in SCALINGS:
    faults.append(f'scaling of {name!r}: {unknown_name("scaling", str(scaling), SCALINGS)[:-1]}')
  if len(faults) > before:
    return None
  if low > high:
    faults.append(f'min of {name!r} is larger than max ({low} > {high}); swap them')
  if scaling == 'log' and low <= 0:
    faults.append(f'{name!r} has log scaling, so its min must be above 0, not {low}')
  return Range(float(low), float(high), scaling == 'log') if len(faults) == before else None
