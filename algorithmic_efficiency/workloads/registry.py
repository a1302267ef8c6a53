"""This file finds workloads: a folder here with FACTS is one; there is no list to keep."""

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.frameworks import FRAMEWORKS
from algorithmic_efficiency.workloads.facts import Facts

_ROOM = 'algorithmic_efficiency.workloads'


@dataclass(frozen=True)
class Found:
  """A workload or variant and the folder it lives in."""

  facts: Facts
  folder: str

  def part(self, name: str) -> ModuleType:
    """A module of the folder, such as 'input_pipeline' or 'model_jax'."""
    return importlib.import_module(f'{_ROOM}.{self.folder}.{name}')


def find_all() -> dict[str, Found]:
  """Every workload and variant by name; imports no framework."""
  found: dict[str, Found] = {}
  for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if module.ispkg:
      package = importlib.import_module(f'{_ROOM}.{module.name}')
      for facts in (package.FACTS, *getattr(package, 'VARIANTS', ())):
        found[facts.name] = Found(facts, module.name)
  return found


def find(name: str) -> Found:
  """The workload of this name. Raises UsageError with the nearest name."""
  found = find_all()
  if name not in found:
    raise UsageError(unknown_name('workload', name, found))
  return found[name]


def split_name(name: str, framework: str | None) -> tuple[str, str]:
  """('mnist', 'jax') from 'mnist_jax', or from 'mnist' and --framework. Raises UsageError."""
  if framework is not None and framework not in FRAMEWORKS:
    raise UsageError(unknown_name('framework', framework, FRAMEWORKS))
  base, _, suffix = name.rpartition('_')
  if suffix not in FRAMEWORKS or not base:
    base, suffix = name, framework
  find(base)
  if suffix is None:
    raise UsageError(
      f'Which framework? Give --framework={" or --framework=".join(FRAMEWORKS)}, '
      f'or a workload name such as {base}_jax.'
    )
  if framework is not None and suffix != framework:
    raise UsageError(
      f'--workload={name} names {suffix} but --framework={framework}; '
      f'use --workload={base} with --framework={framework}, or drop --framework.'
    )
  return base, suffix
