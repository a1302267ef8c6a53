"""This file lists where a record can be exported to, and says what each of them must do."""

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.exports.trials import Point, Status, Trial

DEFAULT_PROJECT = 'algorithmic_efficiency'


class Export(Protocol):
  """One trial in one sink."""

  def log(self, points: Sequence[Point]) -> None:
    """Takes the next points, from the trial's first on; those that are there are skipped."""
    ...

  def close(self, status: Status) -> None:
    """Ends it; what was logged can be read by others when this returns."""
    ...


class Sink(Protocol):
  """A program that shows runs.

  Attributes:
    place: where its users find them, for people: a folder or an address.
  """

  place: str

  def open(self, trial: Trial, points: Sequence[Point]) -> Export:
    """Begins the trial's export anew or goes on with it; `points` are those recorded by now."""
    ...


@dataclasses.dataclass(frozen=True)
class Kind:
  """A sink that can be asked for.

  Attributes:
    module: of this room, with a class `Sink`.
    needs: the packages.
  """

  module: str
  needs: tuple[str, ...]


KINDS = {
  'tensorboard': Kind('tensorboard_sink', ('tensorboard',)),
  'wandb': Kind('wandb_sink', ('wandb',)),
  'mlflow': Kind('mlflow_sink', ('mlflow',)),
}


def parse(text: str, flag: str) -> tuple[str, ...]:
  """The sinks that a list with commas names. Raises UsageError also where a package is missing."""
  names = tuple(dict.fromkeys(name.strip() for name in text.split(',')))
  for name in names:
    if name not in KINDS:
      raise UsageError(f'{flag}={text!r}: {unknown_name("export", name, KINDS)}')
  for name in names:
    missing = [need for need in _needs(name) if importlib.util.find_spec(need) is None]
    if missing:
      raise UsageError(
        f'{flag}={text!r} needs {" and ".join(missing)}, not installed here; '
        f'pip install "algorithmic-efficiency[{name}]".'
      )
  return names


def _needs(name: str) -> tuple[str, ...]:
  # A server has its own store; a local one is a data base.
  local = name == 'mlflow' and not os.environ.get('MLFLOW_TRACKING_URI')
  return (*KINDS[name].needs, *(('sqlalchemy', 'alembic') if local else ()))


def make(name: str, folder: Path, project: str, say: Callable[[str], None]) -> Sink:
  """The sink, which writes below `folder`; imports its package and may raise anything."""
  module = importlib.import_module(f'{__package__}.{KINDS[name].module}')
  return module.Sink(folder, project, say)
