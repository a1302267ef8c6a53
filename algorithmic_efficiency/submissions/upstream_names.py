"""This file makes `algoperf` another name of this package: one set of objects under two names.

AlgoPerf's submissions since its edition 0.6 import `algoperf.spec` where older ones import
`algorithmic_efficiency.spec`. They compare enum members, and members of two copies of a module are
never equal; so a module of either name is the very same module.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

NAME = 'algoperf'
_OURS = __name__.partition('.')[0]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds `algoperf.x` where `algorithmic_efficiency.x` is."""

  def find_spec(
    self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
  ) -> importlib.machinery.ModuleSpec | None:
    if fullname.partition('.')[0] != NAME:
      return None
    return importlib.machinery.ModuleSpec(fullname, self)

  def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
    ours = _OURS + spec.name.removeprefix(NAME)
    try:
      module = importlib.import_module(ours)
    except ModuleNotFoundError as error:
      if error.name != ours:
        raise
      raise ModuleNotFoundError(f'No module named {spec.name!r}', name=spec.name) from error
    spec.loader_state = module.__spec__  # what is imported gets the new name's; see below
    return module

  def exec_module(self, module: ModuleType) -> None:
    """The module has run; it keeps the name it was made with."""
    assert module.__spec__ is not None
    module.__spec__ = module.__spec__.loader_state


def install() -> None:
  """From here on, `import algoperf` finds this package. Does nothing the second time."""
  if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())
