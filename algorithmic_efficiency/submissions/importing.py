"""This file imports a submission, and is what `import` means within it.

A submission's modules live below a package made up for it, and each is run with an `import` of its
own, so that two submissions with siblings of one name do not meet, and nothing that a submission
may import is hidden from, or lent to, anybody else. Within a submission an absolute name means, in
this order:

1. a module or package beside the submission's file, as if its folder came first on sys.path;
2. whatever is installed;
3. a module or package in a folder above, up to the project's root;
4. for dotted names of a repository's own layout (`submissions.self_tuning.mine.optimizers.x`), the
   longest tail of the name that exists beside the submission (`optimizers.x`).
"""

import builtins
import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

PREFIX = 'submission_'  # of the made-up packages' names
_ROOT_MARKS = ('.git', 'setup.cfg', 'pyproject.toml', 'setup.py')

Lent = Mapping[str, ModuleType]


class Place:
  """Where a submission lies, and which of the names it imports lie there too.

  Attributes:
    path: the submission's file.
    folder: its folder.
    root: the folder that relative imports may reach.
  """

  def __init__(self, path: Path) -> None:
    self.path = path
    self.folder = path.parent
    self.root = _root_of(path)

  def beside(self, head: str) -> Path | None:
    """The submission's own folder if it holds the module or package `head`.

    A folder without `__init__.py` counts only if nothing of its name is installed.
    """
    if _is_module(self.folder, head) or _is_package(self.folder, head):
      return self.folder
    if _holds_python(self.folder / head) and not _installed(head):
      return self.folder
    return None

  def above(self, name: str) -> Path | None:
    """The nearest folder above, up to the root, that holds a dotted name; None if installed.

    All of the name must be there: a folder may by chance be called like another repository's.
    """
    if _installed(name.partition('.')[0]):
      return None
    folders = (f for f in self.folder.parents if f.is_relative_to(self.root))
    return next((f for f in folders if _holds(f, name)), None)

  def tail(self, name: str, wanted: Sequence[str] = ()) -> str | None:
    """The longest tail of a dotted name that exists beside the submission.

    The empty tail means the folder itself; it counts if all that is `wanted` from it is there.
    """
    parts = name.split('.')
    for start in range(1, len(parts)):
      if _holds(self.folder, tail := '.'.join(parts[start:])):
        return tail
    there = [_is_module(self.folder, w) or _holds_python(self.folder / w) for w in wanted]
    return '' if there and all(there) else None

  def files(self, name: str, wanted: Sequence[str], level: int, of: Path) -> Iterator[Path]:
    """The submission's own files that an import statement in the file `of` would run."""
    if level:
      folder, dotted = of.parents[level - 1], name
    else:
      head = name.partition('.')[0]
      found = self.beside(head) or self.above(name)
      tail = None if found else self.tail(name, wanted)
      if not found and (tail is None or _installed(head)):
        return
      folder, dotted = (found, name) if found else (self.folder, tail or '')
    target = folder.joinpath(*dotted.split('.')) if dotted else folder
    for path in (target, *(target / item for item in wanted)):
      for file in (path.with_name(f'{path.name}.py'), path / '__init__.py'):
        if file.is_file():
          yield file


def load(place: Place, lent: Lent) -> ModuleType:
  """Imports a submission anew.

  Args:
    place: where it lies.
    lent: modules it gets in place of those of the same name.
  """
  _install_finder()
  name = f'{PREFIX}{hashlib.sha256(str(place.path).encode()).hexdigest()[:8]}'
  for old in [n for n in sys.modules if n == name or n.startswith(f'{name}.')]:
    del sys.modules[old]
  package = ModuleType(name)
  package.__path__ = [str(place.root)]
  sys.modules[name] = package
  _PLACES[name] = _Import(place, name, lent)
  if str(place.folder) not in sys.path:
    sys.path.append(str(place.folder))  # for importlib.import_module, which asks nobody
  return importlib.import_module(_dotted(name, place.root, place.path.with_suffix('')))


class _Import:
  """The `import` statement of one submission's modules."""

  def __init__(self, place: Place, package: str, lent: Lent) -> None:
    self._place = place
    self._package = package
    self._lent = lent
    self._folders: dict[str, Path | None] = {}

  def __call__(
    self,
    name: str,
    globals: Any = None,
    locals: Any = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
  ) -> ModuleType:
    wanted = fromlist or ()
    if level:
      return builtins.__import__(name, globals, locals, wanted, level)
    folder = self._folder_of(name)
    if folder is not None:
      return self._own(_dotted(self._package, self._place.root, folder), name, wanted)
    try:
      module = builtins.__import__(name, globals, locals, wanted, 0)
    except ModuleNotFoundError as error:
      if not error.name or not f'{name}.'.startswith(f'{error.name}.'):
        raise
      tail = self._place.tail(name, wanted)
      if tail is None:
        raise
      return self._by_tail(name, tail, wanted)
    return self._lent.get(module.__name__, module)

  def on_the_way(self, fullname: str) -> importlib.machinery.ModuleSpec | None:
    """A folder that leads to the submission, whatever else has its name (`mine.py` by `mine/`)."""
    folder = self._place.root.joinpath(*fullname.split('.')[1:])
    if not self._place.folder.is_relative_to(folder) or folder == self._place.root:
      return None
    if (folder / '__init__.py').is_file():
      return importlib.util.spec_from_file_location(fullname, folder / '__init__.py')
    spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec

  def _folder_of(self, name: str) -> Path | None:
    if name not in self._folders:  # an import within a function runs often
      beside = self._place.beside(name.partition('.')[0])
      self._folders[name] = beside or self._place.above(name)
    return self._folders[name]

  def _own(self, above: str, name: str, wanted: Sequence[str]) -> ModuleType:
    """The submission's own module; the first of a dotted name unless something is `wanted`."""
    module = importlib.import_module(f'{above}.{name}' if name else above)
    if wanted:
      return builtins.__import__(module.__name__, None, None, wanted, 0)
    return sys.modules[f'{above}.{name.partition(".")[0]}']

  def _by_tail(self, name: str, tail: str, wanted: Sequence[str]) -> ModuleType:
    above = _dotted(self._package, self._place.root, self._place.folder)
    if wanted:
      return self._own(above, tail, wanted)
    # `import a.b.c as d` walks down from `a`: empty modules lead to the real one.
    module = importlib.import_module(f'{above}.{tail}')
    for part in reversed(name.split('.')[1:]):
      step = ModuleType(name.partition('.')[0])
      setattr(step, part, module)
      module = step
    return module


class _Finder:
  """Finds the modules below the made-up packages."""

  @staticmethod
  def find_spec(
    fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
  ) -> importlib.machinery.ModuleSpec | None:
    own_import = _PLACES.get(fullname.partition('.')[0])
    if own_import is None:
      return None
    spec = own_import.on_the_way(fullname)
    spec = spec or importlib.machinery.PathFinder.find_spec(fullname, path, target)
    if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
      spec.loader = _Loader(spec.loader.name, spec.loader.path, own_import)
    return spec


class _Loader(importlib.machinery.SourceFileLoader):
  """Runs a module with the submission's own `import`."""

  def __init__(self, fullname: str, path: str, own_import: _Import) -> None:
    super().__init__(fullname, path)
    self._own_import = own_import

  def exec_module(self, module: ModuleType) -> None:
    vars(module)['__builtins__'] = {**vars(builtins), '__import__': self._own_import}
    super().exec_module(module)


_PLACES: dict[str, _Import] = {}


def _install_finder() -> None:
  if _Finder not in sys.meta_path:
    sys.meta_path.insert(0, _Finder)


def _dotted(package: str, root: Path, path: Path) -> str:
  return '.'.join([package, *path.relative_to(root).parts])


def _is_module(folder: Path, name: str) -> bool:
  return (folder / f'{name}.py').is_file()


def _is_package(folder: Path, name: str) -> bool:
  return (folder / name / '__init__.py').is_file()


def _holds(folder: Path, name: str) -> bool:
  """Whether a dotted name is a module or a package below a folder."""
  target = folder.joinpath(*name.split('.'))
  return _is_module(target.parent, target.name) or _holds_python(target)


def _holds_python(folder: Path) -> bool:
  """Whether a folder can be a package: it has Python files, or folders that have."""
  return folder.is_dir() and any(any(folder.glob(p)) for p in ('*.py', '*/*.py'))


def _installed(head: str) -> bool:
  """Whether there is such a module for everybody; a folder without `__init__.py` is none."""
  try:
    spec = importlib.util.find_spec(head)
  except (ImportError, ValueError):  # a name that is not one, or a module without a spec
    return head in sys.modules
  return spec is not None and spec.origin is not None


def _root_of(path: Path) -> Path:
  """The nearest folder above that is a project, else the one above the submission's own."""
  for folder in path.parents:
    if any((folder / mark).exists() for mark in _ROOT_MARKS):
      root = folder
      break
  else:
    root = path.parent.parent
  names_can_be_dotted = all('.' not in part for part in path.relative_to(root).parts[:-1])
  return root if names_can_be_dotted else path.parent
