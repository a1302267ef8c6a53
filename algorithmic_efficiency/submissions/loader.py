"""This file turns a path into a Submission, or into one line that names all that is wrong."""

import ast
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from types import ModuleType

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.submissions import source_checks
from algorithmic_efficiency.submissions.submission import Submission

_PACKAGE = 'submission_'  # of the made-up package that a submission is imported below
_ROOT_MARKS = ('.git', 'setup.cfg', 'pyproject.toml', 'setup.py')


def resolve(path: Path) -> Path:
  """The submission's file: `path` itself, or submission.py in the folder it names."""
  file = path
  if file.is_dir():
    file = file / 'submission.py'
  if not file.is_file():
    raise UsageError(f'There is no submission file {str(file)!r}; check --submission_path.')
  if file.suffix != '.py' or '.' in file.stem:
    raise UsageError(
      f'The submission {str(file)!r} cannot be imported under this name; '
      'name the file <name>.py, without another dot.'
    )
  return file.resolve()


def check_source(path: Path, framework: str, hyperparameters: Iterable[str] | None) -> list[str]:
  """All faults that can be seen without importing; a clause each."""
  try:
    tree = ast.parse(path.read_bytes(), filename=str(path))
  except SyntaxError as error:
    place = f'line {error.lineno}' if error.lineno else 'it'
    return [f'{place} is not Python: {error.msg}']
  except ValueError as error:  # a null byte, before Python 3.11.4
    return [f'it is not Python: {error}']
  except (OSError, RecursionError) as error:
    return [f'it cannot be read: {error}']
  return source_checks.find_faults(tree, framework, hyperparameters)


def load(path: Path) -> Submission:
  """Imports a checked submission. Raises UsageError with the reason if that fails."""
  try:
    module = _import(path)
  except ModuleNotFoundError as error:
    name = re.sub(rf'^{_PACKAGE}[0-9a-f]+\.', '', error.name or str(error))
    raise UsageError(
      f'The submission {str(path)!r} needs the module {name!r}, which is not installed '
      f'({place_of(error, path)}); install it, or keep it beside the submission.'
    ) from error
  except (Exception, SystemExit) as error:  # someone else's module may raise anything
    raise UsageError(
      f'The submission {str(path)!r} cannot be imported: {describe(error, path)}.'
    ) from error
  missing = [n for n in source_checks.REQUIRED if not callable(getattr(module, n, None))]
  if missing:
    raise UsageError(f'The submission {str(path)!r} has no function {", ".join(missing)}.')
  return Submission(
    path=path,
    get_batch_size=module.get_batch_size,
    init_optimizer_state=module.init_optimizer_state,
    update_params=module.update_params,
    data_selection=module.data_selection,
    prepare_for_eval=getattr(module, 'prepare_for_eval', None),
    get_eval_batch_size=getattr(module, 'get_eval_batch_size', None),
    wants_train_state='train_state' in inspect.signature(module.update_params).parameters,
  )


def batch_sizes(
  submission: Submission, workload_name: str, base_name: str, override: int | None
) -> tuple[int, int | None]:
  """(training, evaluation) batch sizes over all devices; evaluation None for the workload's own.

  A variant that the submission does not know is asked for again by its base name.
  """
  evaluation = None
  if submission.get_eval_batch_size is not None:
    evaluation = _ask(submission, 'get_eval_batch_size', workload_name, base_name)
  if override is not None:
    return override, evaluation
  return _ask(submission, 'get_batch_size', workload_name, base_name), evaluation


def describe(error: BaseException, path: Path) -> str:
  """An exception in a line: its type, its message and where in the submission it came from."""
  message = ''.join(str(error).strip().splitlines()[:1])[:300]
  return f'{type(error).__name__}{": " * bool(message)}{message} ({place_of(error, path)})'


def place_of(error: BaseException, path: Path) -> str:
  """'submission.py, line 12': the deepest frame of the submission's own folder, or of any."""
  frames = traceback.extract_tb(error.__traceback__)
  own = [f for f in frames if Path(f.filename).resolve().is_relative_to(path.parent)]
  if isinstance(error, SyntaxError) and error.filename:
    return f'{Path(error.filename).name}, line {error.lineno}'
  if not frames:
    return path.name
  deepest = (own or frames)[-1]
  return f'{Path(deepest.filename).name}, line {deepest.lineno}'


def _ask(submission: Submission, function: str, workload_name: str, base_name: str) -> int:
  ask = getattr(submission, function)
  remedy = f'mend {function}'
  if function == 'get_batch_size':
    remedy += ', or give --batch_size=N, which does not ask it'
  try:
    try:
      size = ask(workload_name)
    except ValueError:
      if base_name == workload_name:
        raise
      size = ask(base_name)
  except (Exception, SystemExit) as error:  # someone else's function may raise anything
    raise UsageError(
      f'{function}({workload_name!r}) of the submission failed: '
      f'{describe(error, submission.path)}; {remedy}.'
    ) from error
  if isinstance(size, bool) or not isinstance(size, Integral) or size <= 0:
    raise UsageError(
      f'{function}({workload_name!r}) of the submission gave {size!r}, '
      f'not a whole number above 0; {remedy}.'
    )
  return int(size)


def _import(path: Path) -> ModuleType:
  """Imports a file below a package made up for its root, so that no name can clash.

  Relative imports work up to the root; the submission's folder comes first on the search path, and
  the folders up to the root last, so that neither can hide an installed package.
  """
  root = _root_of(path)
  package_name = f'{_PACKAGE}{hashlib.sha256(str(root).encode()).hexdigest()[:8]}'
  package = ModuleType(package_name)
  package.__path__ = [str(root)]
  sys.modules[package_name] = package
  folder = path.parent
  if str(folder) not in sys.path:
    sys.path.insert(0, str(folder))
  above = [p for p in folder.parents if p == root or p.is_relative_to(root)]
  sys.path.extend(str(p) for p in above if str(p) not in sys.path)
  dotted = '.'.join(path.relative_to(root).with_suffix('').parts)
  return importlib.import_module(f'{package_name}.{dotted}')


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
