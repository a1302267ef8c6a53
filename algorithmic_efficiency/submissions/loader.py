"""This file turns a path into a Submission, or into one line that names all that is wrong."""

import ast
import contextlib
import inspect
import re
import traceback
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.submissions import conventions, importing, source_checks, upstream_names
from algorithmic_efficiency.submissions.submission import Submission

# The extra that brings a module which is not of the frameworks themselves.
_EXTRAS = {'pytorch_optimizer': 'baselines', 'schedulefree': 'baselines'}


class UnknownWorkloadError(UsageError):
  """The submission refuses the workload, by the ValueError that the API asks for."""


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


def load(path: Path, api: str = conventions.SHARDINGS, framework: str = '') -> Submission:
  """Imports a checked submission. Raises UsageError with the reason if that fails.

  Args:
    path: its file.
    api: the generation it was written for; see conventions.py.
    framework: 'jax' lends what JAX has removed to a submission of the older generation.
  """
  upstream_names.install()
  try:
    module = importing.load(importing.Place(path), _lent(api, framework))
  except ModuleNotFoundError as error:
    name = re.sub(rf'^{importing.PREFIX}[0-9a-f]+\.', '', error.name or str(error))
    extra = _EXTRAS.get(name.partition('.')[0])
    how = f' (pip install "algorithmic-efficiency[{extra}]")' if extra else ''
    raise UsageError(
      f'The submission {str(path)!r} needs the module {name!r}, which is not installed '
      f'({place_of(error, path)}); install it{how}, or keep it beside the submission.'
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

  A variant that the submission does not know is asked for again by its base name. By ValueError
  get_eval_batch_size says that it does not know the workload, which has a size of its own.
  """
  evaluation = None
  if submission.get_eval_batch_size is not None:
    with contextlib.suppress(UnknownWorkloadError):
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


def _lent(api: str, framework: str) -> importing.Lent:
  if framework != 'jax' or api != conventions.DEVICE_AXIS:
    return {}
  from algorithmic_efficiency.submissions import lent_names_jax

  return lent_names_jax.lend()


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
    kind = UnknownWorkloadError if isinstance(error, ValueError) else UsageError
    raise kind(
      f'{function}({workload_name!r}) of the submission failed: '
      f'{describe(error, submission.path)}; {remedy}.'
    ) from error
  if isinstance(size, bool) or not isinstance(size, Integral) or size <= 0:
    raise UsageError(
      f'{function}({workload_name!r}) of the submission gave {size!r}, '
      f'not a whole number above 0; {remedy}.'
    )
  return int(size)
