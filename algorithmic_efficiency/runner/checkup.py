"""This file tells the author of a submission what to mend before anybody runs it.

Source, search space and batch sizes are looked at; then the submission takes a few steps and an
evaluation on synthetic data (drill.py). Every point of the submission API gets a line.
"""

import ast
import collections
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.hparams import sampling, search_space
from algorithmic_efficiency.runner.drill import Drill
from algorithmic_efficiency.submissions import conventions, loader
from algorithmic_efficiency.submissions.submission import Submission
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.workload import Workload

EXAMPLES_A_DEVICE = 8  # of a step of the drill: it is not about speed
_STRANGER = 'a_workload_that_nobody_has'


@dataclass
class Report:
  """Lines for the author: what is right, what to mend, what to think about.

  Attributes:
    show: takes each line as it is found.
    mended: how many points need mending; `noted` how many are worth a thought.
  """

  show: Callable[[str], None]
  mend_count: int = 0
  note_count: int = 0
  lines: list[str] = field(default_factory=list[str])

  def ok(self, text: str) -> None:
    """A point that is as it should be."""
    self._add('ok', text)

  def mend(self, text: str) -> None:
    """A point that breaks the submission API."""
    self.mend_count += 1
    self._add('mend', text)

  def note(self, text: str) -> None:
    """A point that runs, but is worth a thought."""
    self.note_count += 1
    self._add('note', text)

  def _add(self, mark: str, text: str) -> None:
    self.lines.append(f'{mark:<4}  {text}')
    self.show(self.lines[-1])


@dataclass(frozen=True, kw_only=True)
class Options:
  """What is to be checked; the flags of scripts/check_submission.py, by their names."""

  submission_path: Path
  workload: str
  framework: str | None
  tuning_search_space: Path | None
  tuning_ruleset: str
  submission_api: str


def check(options: Options, show: Callable[[str], None]) -> Report:
  """Checks a submission; UsageError if the options are wrong."""
  report = Report(show)
  name, framework_name = registry.split_name(options.workload, options.framework)
  found = registry.find(name)
  path = loader.resolve(options.submission_path)
  point = _point(options, report)
  if not _source_is_right(path, framework_name, point, report):
    return report
  api = conventions.find(path, framework_name, options.submission_api)
  _tell_convention(api, framework_name, options.submission_api, report)
  framework = frameworks.load(framework_name, api == conventions.DEVICE_AXIS)
  try:
    submission = loader.load(path, api, framework_name)
  except UsageError as error:
    report.mend(str(error))
    return report
  report.ok('it can be imported')
  _check_batch_sizes(submission, found, framework.num_devices(), report)
  workload = Workload(found, framework, synthetic_seed=0)
  drill = Drill(workload, framework, submission, _namedtuple(point), _dropout(point))
  _run_twice(drill, EXAMPLES_A_DEVICE * framework.num_devices(), report)
  return report


def _point(options: Options, report: Report) -> dict[str, Any] | None:
  """One point of the search space; None under self-tuning."""
  if options.tuning_ruleset == 'self':
    report.ok('it tunes itself: hyperparameters are None')
    return None
  if options.tuning_search_space is None:
    raise UsageError(
      'Give --tuning_search_space=FILE.json, or --tuning_ruleset=self for a submission that '
      'tunes itself.'
    )
  space = search_space.load(options.tuning_search_space)
  report.ok(f'the search space names {", ".join(space.names)}')
  return sampling.sample(space, 0, 1, 0)[0]


def _namedtuple(point: dict[str, Any] | None) -> Any:
  return None if point is None else collections.namedtuple('Hyperparameters', point)(**point)  # pyright: ignore[reportUntypedNamedTuple]


def _dropout(point: dict[str, Any] | None) -> dict[str, Any]:
  return {n: (point or {})[n] for n in ('dropout_rate', 'aux_dropout_rate') if n in (point or {})}


def _source_is_right(
  path: Path, framework: str, point: dict[str, Any] | None, report: Report
) -> bool:
  faults = loader.check_source(path, framework, None if point is None else point)
  for fault in faults:
    report.mend(f'{path.name}: {fault}')
  if faults:
    report.note('nothing was run: the points above come first')
    return False
  report.ok('the source has the functions of the API, with their arguments')
  unread = _unread(path, point or {})
  if unread:
    report.note(
      f'{path.name} never names {", ".join(unread)} of the search space; drop what is not used'
    )
  return True


def _unread(path: Path, point: dict[str, Any]) -> list[str]:
  """Hyperparameters that stand nowhere in the submission's own sources."""
  named = set[str]()
  for tree in conventions.own_sources(path):
    for node in ast.walk(tree):
      if isinstance(node, ast.Attribute):
        named.add(node.attr)
      elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        named.add(node.value)
  at_init = ('dropout_rate', 'aux_dropout_rate')  # the bench may give these to the model
  return [name for name in point if name not in named and name not in at_init]


def _tell_convention(api: str, framework: str, choice: str, report: Report) -> None:
  if framework != 'jax':
    return
  why = 'as asked' if choice != 'auto' else 'found in its source'
  meaning = {
    conventions.DEVICE_AXIS: 'jax.pmap over a leading device axis',
    conventions.SHARDINGS: 'flat batches, jax.jit with shardings',
  }
  report.ok(f'convention {api}: {meaning[api]} ({why})')


def _check_batch_sizes(
  submission: Submission, found: registry.Found, devices: int, report: Report
) -> None:
  name = found.facts.name
  try:
    sizes = loader.batch_sizes(submission, name, found.folder, None)
  except loader.UnknownWorkloadError:
    report.note(f'get_batch_size does not know {name!r}; give --batch_size=N to train it')
  except UsageError as error:
    report.mend(str(error))
  else:
    for function, size in zip(('get_batch_size', 'get_eval_batch_size'), sizes, strict=True):
      if size is not None and size % devices:
        report.mend(
          f'{function}({name!r}) gives {size}, which does not divide over {devices} devices; '
          f'give a multiple of {devices}'
        )
      elif size is not None:
        report.ok(f'{function}({name!r}) gives {size}')
  try:
    answer = submission.get_batch_size(_STRANGER)
  except ValueError:
    report.ok('get_batch_size raises ValueError for a workload it does not know')
  except Exception as error:  # noqa: BLE001 - someone else's function may raise anything
    report.mend(
      'get_batch_size must raise ValueError for a workload it does not know, not '
      f'{loader.describe(error, submission.path)}'
    )
  else:
    report.note(
      f'get_batch_size gives {answer} for a workload it cannot know; ValueError is the custom'
    )


def _run_twice(drill: Drill, batch_size: int, report: Report) -> None:
  first = drill.run(batch_size, report)
  if first is None:
    report.note('the points after it were not tried')
    return
  again = drill.run(batch_size, Report(lambda _: None))
  if again is None:
    report.mend('a second run with the same seed failed, though the first did not')
  elif all(np.array_equal(first[name], again[name]) for name in first):
    report.ok('two runs with one seed have the same parameters to the last digit')
  elif all(np.allclose(first[n], again[n], rtol=1e-2, atol=1e-4) for n in first):
    report.note('two runs with one seed differ by rounding; on a GPU that may be its kernels')
  else:
    report.mend(
      'two runs with one seed differ; draw from `rng` alone, not from the time or the system'
    )
