"""This file checks a command before anything is touched: Settings in, a Plan out."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.exports import sinks
from algorithmic_efficiency.frameworks import check_device
from algorithmic_efficiency.hparams import search_space
from algorithmic_efficiency.memory_trace import handle
from algorithmic_efficiency.profiling import window
from algorithmic_efficiency.records import metadata
from algorithmic_efficiency.records.run_folder import RunFolder
from algorithmic_efficiency.submissions import conventions, loader
from algorithmic_efficiency.workloads import registry


@dataclass(frozen=True, kw_only=True)
class Settings:
  """A run as the command gives it; the flags of submission_runner.py, by their names."""

  workload: str
  framework: str | None
  submission_path: str
  tuning_ruleset: str
  tuning_search_space: str | None
  num_tuning_trials: int
  log_dir: str | None
  experiment_dir: str | None
  experiment_name: str | None
  data_dir: str | None
  data: str
  rng_seed: int | None
  max_global_steps: int | None
  eval_period_steps: int | None
  batch_size: int | None
  hparam_start_index: int | None
  hparam_end_index: int | None
  record_extra_metadata: list[str]
  overwrite: bool
  resume: bool
  save_checkpoints: bool = True
  num_checkpoints_kept: int = 2
  eval_timeout_sec: float | None = None
  telemetry: str = 'continuous'
  telemetry_hz: float = 2.0
  telemetry_idle_sec: float = 0.0
  edition: str
  submission_api: str
  torch_compile: str
  device: str = 'auto'
  profile_steps: str | None = None
  trace_memory: str | None = None
  export: str | None = None
  use_wandb: bool = False
  command: str


@dataclass(frozen=True)
class Plan:
  """A run whose command has been checked.

  Attributes:
    settings: as given.
    found: the workload.
    framework: 'jax' or 'pytorch'.
    folder: where the record goes.
    submission: the submission's file.
    api: the generation of the API that it was written for.
    data_dir: where the data lies or is to be downloaded to.
    space: the search space's file and content; None under self-tuning.
    trials: the indices to run, from 0.
    num_trials: of the whole study.
    seed: of the study.
    extra: extra metadata.
    profile: the steps to trace, if any.
    memory: how to trace the memory, if at all.
    exports: the programs that are fed with the record while it grows.
  """

  settings: Settings
  found: registry.Found
  framework: str
  folder: RunFolder
  submission: Path
  api: str
  data_dir: Path | None
  space_path: Path | None
  space: search_space.SearchSpace | None
  trials: range
  num_trials: int
  seed: int
  extra: dict[str, str]
  profile: window.Window | None = None
  memory: handle.Wanted | None = None
  exports: tuple[str, ...] = ()

  @property
  def self_tuning(self) -> bool:
    """Whether the submission tunes itself."""
    return self.space is None

  def identity(self) -> dict[str, Any]:
    """What must agree for two commands to belong to one study; keys of metadata.json."""
    settings = self.settings
    identity = {
      'workload': self.folder.name,
      'submission_sha256': _sha256(self.submission),
      'tuning_ruleset': settings.tuning_ruleset,
      'rng_seed': self.seed,
      'data': settings.data,
      'edition': settings.edition,
    }
    if self.space_path is not None:
      identity['tuning_search_space_sha256'] = _sha256(self.space_path)
    for name in ('max_global_steps', 'eval_period_steps', 'batch_size'):
      if getattr(settings, name) is not None:
        identity[name] = getattr(settings, name)
    if self.profile is not None:
      identity['profile_steps'] = str(self.profile)
    if self.memory is not None:
      identity['trace_memory'] = str(settings.trace_memory)
    return identity


def check(settings: Settings) -> Plan:
  """Checks everything that needs no framework and no data. Raises UsageError."""
  if settings.resume and settings.overwrite:
    raise UsageError('--resume goes on with the record and --overwrite deletes it; drop one.')
  base, framework = registry.split_name(settings.workload, settings.framework)
  found = registry.find(base)
  check_device(framework, settings.device)
  profile = window.parse(settings.profile_steps, settings.max_global_steps)
  memory = handle.parse(settings.trace_memory)
  exports = _exports(settings)
  extra = metadata.parse_extra(settings.record_extra_metadata)
  submission, space = _check_algorithm(settings, framework)
  num_trials = settings.num_tuning_trials
  if space is not None and space.trials is not None:
    num_trials = min(num_trials, len(space.trials))
  folder = _folder(settings, f'{base}_{framework}')
  folder.check_place()
  return Plan(
    settings=settings,
    found=found,
    framework=framework,
    folder=folder,
    submission=submission,
    api=conventions.find(submission, framework, settings.submission_api),
    data_dir=_path('data_dir', settings.data_dir),
    space_path=_path('tuning_search_space', settings.tuning_search_space),
    space=space,
    trials=_trials(settings, num_trials),
    num_trials=num_trials,
    seed=_seed(settings, folder),
    extra=extra,
    profile=profile,
    memory=memory,
    exports=exports,
  )


def claim(plan: Plan) -> None:
  """Makes sure that the folder is free for this run, or may be gone on with. Raises UsageError."""
  settings, folder = plan.settings, plan.folder
  if settings.overwrite:
    return
  if not settings.resume:
    folder.refuse_to_mix(plan.trials)
  if folder.metadata.exists():
    _compare(read_metadata(folder), plan)


def check_batch_size(plan: Plan, batch_size: int) -> None:
  """What `claim` could not compare before the submission was asked. Raises UsageError."""
  if plan.settings.overwrite or not plan.folder.metadata.exists():
    return
  before = read_metadata(plan.folder).get('batch_size')
  if before != batch_size:
    raise _another_run(plan, [f'batch_size is {batch_size!r}, there it is {before!r}'])


def read_metadata(folder: RunFolder) -> dict[str, Any]:
  """The record of the run that is already there. Raises UsageError if it cannot be read."""
  return metadata.read(folder.metadata)


_OPTIONAL = ('max_global_steps', 'eval_period_steps', 'profile_steps', 'trace_memory')


def _compare(before: dict[str, Any], plan: Plan) -> None:
  now = plan.identity()
  differences: list[str] = []
  for name in (*now, *_OPTIONAL):
    ours = now.get(name)
    if before.get(name) != ours:
      differences.append(f'{name} is {ours!r}, there it is {before.get(name)!r}')
  if differences:
    raise _another_run(plan, differences)


def _another_run(plan: Plan, differences: list[str]) -> UsageError:
  return UsageError(
    f'{str(plan.folder.path)!r} holds another run: {"; ".join(dict.fromkeys(differences))}. '
    'Give the same settings, choose another --log_dir, or --overwrite deletes it.'
  )


def _check_algorithm(
  settings: Settings, framework: str
) -> tuple[Path, search_space.SearchSpace | None]:
  """The submission's file and its search space, or one line with every fault of both."""
  faults: list[str] = []
  space = _collect(faults, lambda: _space(settings))
  path = _collect(
    faults, lambda: loader.resolve(_path('submission_path', settings.submission_path))
  )
  if path is not None:
    names = None if space is None else space.names
    wrong = loader.check_source(path, framework, names)
    if wrong:
      faults.append(f'The submission {str(path)!r} cannot be used: {"; ".join(wrong)}.')
  if faults or path is None:
    raise UsageError(' '.join(faults))
  return path, space


def _collect(faults: list[str], find: Callable[[], Any]) -> Any:
  try:
    return find()
  except UsageError as error:
    faults.append(str(error))
    return None


def _space(settings: Settings) -> search_space.SearchSpace | None:
  path = _path('tuning_search_space', settings.tuning_search_space)
  if settings.tuning_ruleset == 'self':
    if path is not None:
      raise UsageError(
        '--tuning_ruleset=self tunes itself and takes no --tuning_search_space; drop one of them.'
      )
    return None
  if path is None:
    raise UsageError(
      '--tuning_ruleset=external needs --tuning_search_space=FILE.json; '
      'a submission that tunes itself is run with --tuning_ruleset=self.'
    )
  return search_space.load(path)


def _exports(settings: Settings) -> tuple[str, ...]:
  asked = [] if settings.export is None else [settings.export]
  if settings.use_wandb:
    asked.append('wandb')
  return sinks.parse(','.join(asked), '--export') if asked else ()


def _trials(settings: Settings, num_trials: int) -> range:
  start = settings.hparam_start_index or 0
  end = num_trials if settings.hparam_end_index is None else settings.hparam_end_index
  if end > num_trials:
    raise UsageError(
      f'--hparam_end_index={end} is beyond the {num_trials} trials there are; give at most '
      f'{num_trials}, or more trials with --num_tuning_trials or in the search space.'
    )
  if start >= num_trials:
    raise UsageError(
      f'--hparam_start_index={start} names none of the {num_trials} trials there are; '
      'they count from 0.'
    )
  if start >= end:
    raise UsageError(
      f'--hparam_start_index={start} and --hparam_end_index={end} name no trials of the '
      f'{num_trials} there are; they count from 0, and the end is not included.'
    )
  return range(start, end)


def _folder(settings: Settings, name: str) -> RunFolder:
  algoperf = (settings.experiment_dir, settings.experiment_name)
  if settings.log_dir and any(algoperf):
    raise UsageError(
      'Give --log_dir, or --experiment_dir with --experiment_name for the layout of AlgoPerf, '
      'not both.'
    )
  if settings.log_dir:
    return RunFolder(_path('log_dir', settings.log_dir).absolute(), name)
  if not all(algoperf):
    raise UsageError(
      'Where shall the record go? Give --log_dir=FOLDER, '
      'or --experiment_dir=FOLDER with --experiment_name=NAME.'
    )
  experiment = Path(str(settings.experiment_name))
  if experiment.is_absolute() or '..' in experiment.parts:
    raise UsageError(
      f'--experiment_name={str(experiment)!r} leads out of --experiment_dir; give a plain name.'
    )
  root = _path('experiment_dir', str(settings.experiment_dir)).absolute()
  return RunFolder(root / experiment, name, algoperf=True)


@overload
def _path(flag: str, text: str) -> Path: ...
@overload
def _path(flag: str, text: str | None) -> Path | None: ...
def _path(flag: str, text: str | None) -> Path | None:
  """The path that a flag gives, ~ replaced. Raises UsageError if nothing can have that name."""
  if text is None:
    return None
  try:
    path = Path(text).expanduser().absolute()  # a helper process has another folder
    path.exists()
  except (OSError, RuntimeError) as error:  # a name too long, a locked folder, nobody's home
    reason = getattr(error, 'strerror', None) or str(error).rstrip('.')
    raise UsageError(f'--{flag}={text!r} is not a usable path: {reason}; give another.') from error
  return path


def _seed(settings: Settings, folder: RunFolder) -> int:
  """The seed given (0 is one), that of the run to go on with, or one from the system."""
  if settings.rng_seed is not None:
    return settings.rng_seed
  if settings.resume and folder.metadata.exists():
    seed = read_metadata(folder).get('rng_seed')
    if isinstance(seed, int):
      return seed
  return int.from_bytes(os.urandom(4), 'little')


def _sha256(path: Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()
