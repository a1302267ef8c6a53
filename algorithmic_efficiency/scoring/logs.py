"""This file finds the trials in a folder of logs and reads them: this bench's and AlgoPerf's.

  SUBMISSION/study_1/WORKLOAD_FRAMEWORK/run_1/metrics.csv                as the launcher leaves it
  SUBMISSION/study_1/WORKLOAD_FRAMEWORK/trial_1/eval_measurements.csv    as AlgoPerf publishes it

A folder that holds folders named trial_<number> or run_<number> is a workload's; above it may be a
study's (without one it is the first), above that is the submission's. A submission's folder may
bear a time, -YYYY-MM-DD-HH-MM-SS, which is no part of its name.
"""

import csv
import dataclasses
import functools
import json
import multiprocessing
import os
import re
import signal
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.frameworks import FRAMEWORKS
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.scoring import rows
from algorithmic_efficiency.scoring.editions import Edition, Goal
from algorithmic_efficiency.scoring.rows import Column

_TRIAL = re.compile(r'(?:trial|run)_(\d+)')  # as a prefix: AlgoPerf's scorer takes trial_1_old too
_STUDY = re.compile(r'study_(\d+)')
_TIME = re.compile(r'-\d{4}(-\d\d){5}$')
_TIMES = ('score', 'accumulated_submission_time')
_ENERGY = 'energy.submission_joules'
_MANY = 800  # trials that are worth the start of further processes
_STEP = 'global_step'
_TOTAL = 'total_duration'
# Names alone: paths of files that are not there, made thousands of times, take their time too.
_NAMED = TrialFolder(Path())
_TABLES = (
  _NAMED.eval_measurements_csv.name, _NAMED.metrics_csv.name, _NAMED.metrics_jsonl.name,
)  # fmt: skip
_HPARAMS, _META_DATA = _NAMED.hparams.name, _NAMED.meta_data(0).name


@dataclass(frozen=True)
class Trial:
  """A trial's evaluations.

  Attributes:
    submission, study, workload, framework, number: whose it is; the framework is '' where the
      folder names none.
    folder: of the trial.
    hparams: the point that was tried; empty under self-tuning.
    devices: that it trained on; None where the record does not say.
    steps, submission_sec, values: of each evaluation: updates made, scored time [s], and the
      validation metric that the workload's target is for; NaN where a row has none.
    joules: drawn in the scored time up to each evaluation; None where none were measured.
    total_sec: from the trial's start to its last evaluation, off the clock or on it.
  """

  submission: str
  study: int
  workload: str
  framework: str
  number: int
  folder: Path
  hparams: dict[str, Any]
  devices: int | None
  steps: Column
  submission_sec: Column
  values: Column
  joules: Column | None
  total_sec: float


class Warnings:
  """What was odd, by kind, with where."""

  def __init__(self) -> None:
    self.places: dict[str, list[str]] = defaultdict(list)

  def note(self, kind: str, place: str) -> None:
    """One more of its kind."""
    self.places[kind].append(place)

  def lines(self) -> list[str]:
    """A line for each kind: what, how often, and the first places."""
    told = []
    for kind, places in self.places.items():
      more = f' and {len(places) - 2:,} more' if len(places) > 2 else ''
      told.append(f'{kind}: {len(places):,} ({", ".join(places[:2])}{more})')
    return told


@dataclass(frozen=True)
class Logs:
  """All trials of a folder, in the order of their names, and what was odd about them."""

  root: Path
  trials: tuple[Trial, ...]
  warnings: Warnings

  @property
  def submissions(self) -> tuple[str, ...]:
    """Names, sorted."""
    return tuple(sorted({trial.submission for trial in self.trials}))

  @property
  def workloads(self) -> frozenset[str]:
    """Names of the workloads that there are trials of."""
    return frozenset(trial.workload for trial in self.trials)


@dataclass(frozen=True)
class Wanted:
  """Which submissions are read, by name: all but the excluded, or only the included of those."""

  include: frozenset[str] = frozenset()
  exclude: frozenset[str] = frozenset()

  @classmethod
  def named(cls, include: str, exclude: str) -> 'Wanted':
    """From names with commas, as commands take them."""
    split = (
      frozenset(n.strip() for n in text.split(',') if n.strip()) for text in (include, exclude)
    )
    return cls(*split)

  def has(self, submission: str) -> bool:
    """Whether this one is."""
    return submission not in self.exclude and (not self.include or submission in self.include)

  def check(self, submissions: Collection[str]) -> None:
    """Raises UsageError for a name that is none of these submissions'."""
    for name in sorted((self.include | self.exclude).difference(submissions)):
      raise UsageError(unknown_name('submission', name, submissions))


@dataclass(frozen=True)
class _Found:
  """A trial's folder and what the folders above say of it.

  Attributes:
    study_folder: the name of the study's; '' without one.
    parent: the name of the folder above the submission's.
  """

  submission: str
  study: int
  workload: str
  framework: str
  number: int
  folder: Path
  study_folder: str
  parent: str


def read(
  root: str | os.PathLike[str],
  edition: Edition,
  wanted: Wanted | None = None,
  progress: Callable[[int, int], object] = lambda done, total: None,
  processes: int = 1,
) -> Logs:
  """Reads every trial below `root` whose workload has a target.

  Args:
    edition: gives the workloads' metrics.
    wanted: which submissions are read; all of them by default.
    progress: is told how many trials are read, and of how many.
    processes: that read, where there are many trials. With more than one, a program's own code
      must be guarded by `if __name__ == '__main__'`, as it is loaded in each of them.

  Raises UsageError where the folder is none, has no trial, or lacks a submission that is wanted.
  """
  top = Path(root)
  if not top.is_dir():
    raise UsageError(f'{str(top)!r} is no folder; give the folder that holds the logs.')
  warnings = Warnings()
  found = list(_find(top, warnings))
  there = {f.submission for f in found}
  if wanted is not None and there:
    wanted.check(there)
    found = [f for f in found if wanted.has(f.submission)]
  found = _by_parents(_numbered(found, warnings), warnings)
  if not found:
    raise UsageError(
      f'There is no trial in {str(top)!r}: no folder trial_<number> or run_<number>'
      f'{" of a submission that is wanted" if there else ""}.'
    )
  _record.cache_clear()  # it may have been written since
  jobs = list[_Job]()
  for one in found:
    goal = edition.goal(one.workload)
    if goal is None:
      warnings.note('folders of no known workload are left out', one.folder.parent.name)
    else:
      jobs.append(_Job(one, goal))
  trials = list[Trial]()
  for done, (trial, notes) in enumerate(_read_all(jobs, processes), start=1):
    for note in notes:
      warnings.note(*note)
    if trial is not None:
      trials.append(trial)
    progress(done, len(jobs))
  return Logs(top, tuple(_apart(_in_order(trials, warnings), warnings)), warnings)


@dataclass(frozen=True)
class _Job:
  found: _Found
  goal: Goal


_Notes = list[tuple[str, str]]  # kinds of warnings, and where


def _read_all(jobs: list[_Job], processes: int) -> Iterator[tuple[Trial | None, _Notes]]:
  if processes == 1 or len(jobs) < _MANY:
    yield from map(_read_trial, jobs)
    return
  with ProcessPoolExecutor(
    processes, multiprocessing.get_context('spawn'), signal.signal, (signal.SIGINT, signal.SIG_IGN)
  ) as pool:
    yield from pool.map(_read_trial, jobs, chunksize=40)


def _find(top: Path, warnings: Warnings) -> Iterator[_Found]:
  """The folders of trials below, sorted by name as people count."""
  seen = set[tuple[int, int]]()

  def note(kind: str, folder: Path) -> None:
    warnings.note(kind, str(folder.relative_to(top)))

  def walk(folder: Path) -> Iterator[_Found]:
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:  # a link that leads back up
      return
    seen.add((status.st_dev, status.st_ino))
    below = _folders_in(folder, note)
    trials = [(name, match) for name in below if (match := _TRIAL.match(name))]
    for name, match in trials:
      if match.group() != name:
        note('folders named like a trial, with more to the name, count as trials', folder / name)
      yield _named(top, folder, int(match.group(1)), name)
    in_study = _STUDY.match(folder.absolute().parent.name)
    if in_study and (trials or folder != top):  # a workload's: what is below its trials is theirs
      if not trials:
        note('folders in a study that hold no trial are left out', folder)
      return
    studies = any(map(_STUDY.match, below))
    for name in (n for n in below if not _TRIAL.match(n) and not n.startswith('.')):
      if studies and not _STUDY.match(name):
        note('folders beside studies are left out', folder / name)
      else:
        yield from walk(folder / name)

  yield from walk(top)


def _folders_in(folder: Path, note: Callable[[str, Path], None]) -> list[str]:
  try:
    with os.scandir(folder) as entries:
      return sorted((e.name for e in entries if e.is_dir()), key=_natural)
  except OSError:
    note('folders that cannot be opened are left out', folder)
    return []


def _named(top: Path, folder: Path, number: int, name: str) -> _Found:
  workload, _, framework = folder.name.rpartition('_')
  if framework not in FRAMEWORKS or not workload:
    workload, framework = folder.name, ''
  above = folder.absolute().parent
  study = _STUDY.match(above.name)
  if study:
    above = above.parent
  elif folder == top or folder.parent == top:
    above = Path(_submission_in(folder) or above.name)
  submission = _TIME.sub('', above.name)
  return _Found(
    submission, int(study.group(1)) if study else 1, workload, framework, number, folder / name,
    study.string if study else '', above.parent.name,
  )  # fmt: skip


def _numbered(found: list[_Found], warnings: Warnings) -> list[_Found]:
  """Gives studies whose folders have more to their names, as study_1_rerun, numbers of their own.

  AlgoPerf's scorer takes each folder for a study. Folders study_<number> keep theirs.
  """
  names = defaultdict[str, set[str]](set)
  for one in found:
    if one.study_folder:
      names[one.submission].add(one.study_folder)
  numbers = dict[tuple[str, str], int]()
  for submission, folders in names.items():
    taken = set[int]()
    for name in sorted(folders, key=lambda n: (not _STUDY.fullmatch(n), _natural(n), n)):
      number = int(str(_STUDY.findall(name)[0]))
      if not _STUDY.fullmatch(name):
        warnings.note('folders named like a study, with more to the name, are studies of their own',
                      f'{submission}/{name}')  # fmt: skip
      numbers[submission, name] = max(taken) + 1 if number in taken else number
      taken.add(numbers[submission, name])
  if all(numbers[f.submission, f.study_folder] == f.study for f in found if f.study_folder):
    return found
  return [
    dataclasses.replace(f, study=numbers.get((f.submission, f.study_folder), f.study))
    for f in found
  ]


def _submission_in(folder: Path) -> str | None:
  """The submission's name by the run's record: its file's nearest folder that is no framework."""
  path = _json(folder / 'metadata.json').get('submission_path')
  if not isinstance(path, str):
    return None
  parts = [p for p in Path(path).parts if p not in ('submission.py', '/', *FRAMEWORKS)]
  return re.sub(rf'_({"|".join(FRAMEWORKS)})$', '', Path(parts[-1]).stem) if parts else None


@functools.cache
def _natural(name: str) -> list[tuple[int, int | str]]:
  return [(0, int(p)) if p.isdecimal() else (1, p) for p in re.split(r'(\d+)', name)]


def _names_in(folder: Path) -> set[str]:
  """What is in a folder: to ask for thousands of files that are not there costs seconds."""
  try:
    with os.scandir(folder) as entries:
      return {entry.name for entry in entries}
  except OSError:
    return set()


def _read_trial(job: _Job) -> tuple[Trial | None, _Notes]:
  """The trial, or None where there is nothing of it to score; and what to warn of."""
  found, goal = job.found, job.goal
  notes: _Notes = []
  there = _names_in(found.folder)
  table_name = next((name for name in _TABLES if name in there), None)
  place = f'{found.submission}/study_{found.study}/{found.folder.parent.name}/{found.folder.name}'
  if table_name is None:
    return None, [('trials without a table of evaluations are left out', place)]
  metric = f'validation/{goal.metric}'
  values, times = (metric, goal.metric), _TIMES
  try:
    table = rows.read(found.folder / table_name, (values, times, (_STEP,), (_ENERGY,)), last=_TOTAL)
  except (OSError, csv.Error):
    return None, [('trials whose table cannot be read are left out', place)]
  for count, kind in (
    (int(table.torn), 'tables whose last line is torn lack that line'),
    (table.odd_lines, 'lines with too many or too few cells are left out'),
    (table.odd_cells, 'cells that are no number count as empty'),
  ):
    notes += [(kind, place)] * count
  if not len(table):
    notes.append(('trials without an evaluation reach no target', place))
    table.columns.clear()
  empty = np.full(len(table), np.nan)

  def column(names: tuple[str, ...], fault: str) -> Column:
    found = next((table.columns[name] for name in names if name in table.columns), None)
    if found is None and fault and len(table):
      notes.append((fault, place))
    return empty if found is None else found

  submission_sec = column(times, 'tables without submission time reach no target')
  total_sec = max((float(t) for t in (table.last, *submission_sec[-1:]) if t == t), default=0.0)
  return Trial(
    found.submission, found.study, found.workload, found.framework, found.number, found.folder,
    _json(found.folder / _HPARAMS) if _HPARAMS in there else {}, _devices(found.folder, there),
    column((_STEP,), ''), submission_sec,
    column(values, "tables without their workload's metric reach no target"),
    table.columns.get(_ENERGY), total_sec,
  ), notes  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
  """The object in the file; empty where there is none, or none to be read."""
  try:
    data = json.loads(path.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}
  return data if isinstance(data, dict) else {}


def _devices(folder: Path, there: set[str]) -> int | None:
  """Devices that the trial trained on, by this bench's record or AlgoPerf's."""
  numbers = [_record(folder.parent).get('num_devices')]
  if _META_DATA in there:
    numbers.append(_json(folder / _META_DATA).get('gpu_count'))
  for number in numbers:
    if isinstance(number, int | float | str) and str(number).isdecimal() and int(number):
      return int(number)
  return None


@functools.lru_cache(maxsize=64)
def _record(folder: Path) -> dict[str, Any]:
  """A run's metadata.json, which its trials share."""
  return _json(folder / 'metadata.json')


def _in_order(trials: list[Trial], warnings: Warnings) -> list[Trial]:
  """By their folders' names, as people count; trials that bear one name, as after a second start
  into a folder with another time, all take part, as in AlgoPerf's scorer."""
  seen = set[tuple[object, ...]]()
  ordered = sorted(trials, key=lambda t: [_natural(part) for part in t.folder.parts])
  for trial in ordered:
    key = (trial.submission, trial.study, trial.workload, trial.framework, trial.folder.name)
    if key in seen:
      warnings.note('trials that are there twice both count', str(trial.folder))
    seen.add(key)
  return ordered


def _by_parents(found: list[_Found], warnings: Warnings) -> list[_Found]:
  """Submissions of one name in two folders that have the same trial are two, named with those."""
  places = defaultdict[str, defaultdict[tuple[object, ...], set[str]]](lambda: defaultdict(set))
  for one in found:
    key = (one.study, one.folder.parent.name, one.folder.name)
    places[one.submission][key].add(one.parent)
  double = {name for name, keys in places.items() if any(len(p) > 1 for p in keys.values())}
  for name in sorted(double):
    warnings.note('submissions of one name in several folders are named with these', name)
  return [
    dataclasses.replace(one, submission=f'{one.parent}/{one.submission}')
    if one.submission in double else one
    for one in found
  ]  # fmt: skip


def _apart(trials: list[Trial], warnings: Warnings) -> list[Trial]:
  """A submission with a workload in both frameworks is two submissions, named for them."""
  frameworks = defaultdict[tuple[str, str], set[str]](set)
  for trial in trials:
    frameworks[trial.submission, trial.workload].add(trial.framework)
  double = sorted({submission for (submission, _), kinds in frameworks.items() if len(kinds) > 1})
  for submission in double:
    warnings.note('submissions in two frameworks are scored apart', submission)
  others = {trial.submission for trial in trials} - set(double)

  def name(trial: Trial) -> str:
    parts = f'{trial.submission}_{trial.framework or "unnamed"}'
    return f'{parts} (of {trial.submission})' if parts in others else parts

  return [
    dataclasses.replace(t, submission=name(t)) if t.submission in double else t for t in trials
  ]
