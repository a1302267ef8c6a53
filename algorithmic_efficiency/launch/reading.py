"""This file reads a plan from YAML or from flags, and says at once all that is wrong with it.

  name: digits
  seed: 0
  studies: 3
  trials: 5
  workloads: [digits, mnist]
  frameworks: [jax, pytorch]
  submissions:
    adamw:
      submission_path: baselines/adamw/{framework}/submission.py
      tuning_search_space: baselines/adamw/tuning_search_space.json
  flags: {max_global_steps: 1000}        # of submission_runner
  data_dir: ~/data
  accelerator: cuda                      # cpu, cuda or hpu
  devices_per_trial: 1
  nodes_per_trial: 1
  cpus: 4
  memory: 16g
  shm_size: 1g
  image: algorithmic_efficiency:cuda-{framework}
  retries: 1

A plan of one submission may have its three keys at the top. Paths are relative to the folder that
the launcher is called in.
"""

import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.frameworks import FRAMEWORKS
from algorithmic_efficiency.launch.command import ROOT, SET_BY_LAUNCHER
from algorithmic_efficiency.launch.plan import ACCELERATORS, Algorithm, Plan, Resources
from algorithmic_efficiency.workloads import registry

_OF_SUBMISSION = ('submission_path', 'tuning_search_space', 'tuning_ruleset')
KEYS = (
  'name', 'workloads', 'frameworks', 'submissions', *_OF_SUBMISSION, 'studies', 'trials', 'seed',
  'flags', 'data_dir', 'accelerator', 'devices_per_trial', 'nodes_per_trial', 'cpus', 'memory',
  'shm_size', 'image', 'retries',
)  # fmt: skip
_IMAGES = {
  'cpu': 'algorithmic_efficiency:cpu',
  'cuda': 'algorithmic_efficiency:cuda-{framework}',
  'hpu': 'algorithmic_efficiency:habana',
}
_UNITS = {'': 0, 'b': 0, 'k': 1, 'm': 2, 'g': 3, 't': 4}
# Part of file names, of a container's name and of a label: what all of these take.
_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_-]{0,40}')


def load_yaml(path: Path) -> dict[str, Any]:
  """What a YAML file holds. Raises UsageError if it is no mapping."""
  try:
    import yaml
  except ImportError as error:
    raise UsageError(
      'PyYAML is not installed; pip install "algorithmic-efficiency[launch]", or give the plan '
      'by flags.'
    ) from error
  try:
    content = yaml.safe_load(path.read_text(encoding='utf-8'))
  except (OSError, UnicodeDecodeError) as error:
    reason = error.strerror if isinstance(error, OSError) else 'it is no text'
    raise UsageError(
      f'The plan {str(path)!r} cannot be read ({reason}); name a YAML file.'
    ) from error
  except yaml.YAMLError as error:
    where = ' '.join(str(error).split())
    raise UsageError(f'The plan {str(path)!r} is not YAML: {where}.') from error
  if not isinstance(content, dict):
    raise UsageError(f'The plan {str(path)!r} is no mapping; it begins with lines such as seed: 0.')
  return content


def read(given: Mapping[str, Any], runner_flags: Collection[str]) -> Plan:
  """The plan that these keys make. Raises UsageError with every fault there is.

  Args:
    given: by the keys of the example above.
    runner_flags: the names that `flags` may hold.
  """
  return _Reading(given, runner_flags).plan()


class _Reading:
  """Collects faults while it reads."""

  def __init__(self, given: Mapping[str, Any], runner_flags: Collection[str]) -> None:
    self._given = {k: v for k, v in given.items() if v is not None}
    self._runner_flags = runner_flags
    self._faults: list[str] = []

  def plan(self) -> Plan:
    """The plan, if there is no fault."""
    self._check_keys('key of a plan', self._given, KEYS)
    frameworks = self._names('frameworks', self._known_framework)
    workloads = self._names('workloads', registry.find)
    algorithms = self._algorithms(frameworks)
    accelerator = self._accelerator(frameworks)
    data_dir = self._text('data_dir')
    image = self._text('image') or _IMAGES[accelerator]
    plan = Plan(
      name=self._text('name') or 'plan',
      algorithms=algorithms,
      workloads=workloads,
      frameworks=frameworks,
      studies=self._integer('studies', 1, 1),
      trials=self._integer('trials', 1, 1),
      seed=self._integer('seed', 0, -(2**63)),
      flags=self._flags(),
      data_dir=None if data_dir is None else str(Path(data_dir).expanduser().absolute()),
      images={name: image.replace('{framework}', name) for name in frameworks},
      resources=self._resources(accelerator),
      retries=self._integer('retries', 0, 0),
    )
    if self._faults:
      count = len(self._faults)
      head = 'The plan is wrong' if count == 1 else f'The plan has {count} faults'
      raise UsageError(f'{head}: {" ".join(f.rstrip(".") + "." for f in self._faults)}')
    return plan

  def _fault(self, sentence: str) -> None:
    if sentence not in self._faults:
      self._faults.append(sentence)

  def _check_keys(self, kind: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    for key in given:
      if key not in known:
        self._fault(unknown_name(kind, str(key), known))

  def _names(self, key: str, check: Callable[[str], object]) -> tuple[str, ...]:
    value = self._given.get(key)
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
      self._fault(f'{key} must be one or more names, and is {value!r}' if value is not None
                  else f'{key} is missing')  # fmt: skip
      return ()
    for name in names:
      try:
        check(name)
      except UsageError as error:
        self._fault(str(error))
    if len(set(names)) < len(names):
      self._fault(f'{key} names one twice: {", ".join(names)}')
    return tuple(names)

  @staticmethod
  def _known_framework(name: str) -> None:
    if name not in FRAMEWORKS:
      raise UsageError(unknown_name('framework', name, FRAMEWORKS))

  def _algorithms(self, frameworks: Collection[str]) -> tuple[Algorithm, ...]:
    several = self._given.get('submissions')
    top = {key: self._given[key] for key in _OF_SUBMISSION if key in self._given}
    if (several is None) == (not top):
      self._fault('Give either submissions or submission_path' if top else 'submissions is missing')
      return ()
    if several is None:
      several = {_name_from(str(top.get('submission_path', ''))): top}
    if not isinstance(several, dict) or not several:
      self._fault(f'submissions must map names to a submission_path each, and is {several!r}')
      return ()
    return tuple(a for n, v in several.items() if (a := self._algorithm(str(n), v, frameworks)))

  def _algorithm(self, name: str, value: Any, frameworks: Collection[str]) -> Algorithm | None:
    if isinstance(value, str):
      value = {'submission_path': value}
    if not isinstance(value, dict) or not isinstance(value.get('submission_path'), str):
      self._fault(f'The submission {name!r} has no submission_path')
      return None
    self._check_keys('key of a submission', value, _OF_SUBMISSION)
    if not _NAME.fullmatch(name) or name in ('jobs', 'slurm', 'kubernetes'):
      self._fault(f'{name!r} cannot name a submission; take up to 41 letters, digits, _ and -')
    ruleset = value.get('tuning_ruleset', 'external')
    if ruleset not in ('external', 'self'):
      self._fault(unknown_name('tuning ruleset', str(ruleset), ('external', 'self')))
    space = value.get('tuning_search_space')
    if space is None and ruleset == 'external':
      self._fault(
        f'The submission {name!r} has no tuning_search_space, which external tuning needs'
      )
    path, space = _placed(value['submission_path']), None if space is None else _placed(str(space))
    algorithm = Algorithm(name, path, space, ruleset)
    for framework in frameworks:
      self._check_paths(algorithm, framework)
    return algorithm

  def _check_paths(self, algorithm: Algorithm, framework: str) -> None:
    for path in algorithm.paths(framework):
      if path is not None and not (ROOT / path).exists():
        self._fault(f'The submission {algorithm.name!r} names {path!r}, which is not there')

  def _accelerator(self, frameworks: Collection[str]) -> str:
    name = self._given.get('accelerator', 'cpu')
    if name not in ACCELERATORS:
      self._fault(unknown_name('accelerator', str(name), ACCELERATORS))
      return 'cpu'
    if name == 'hpu' and 'jax' in frameworks:
      self._fault(
        'JAX does not train on Gaudis; drop it from frameworks, or take another accelerator'
      )
    return str(name)

  def _resources(self, accelerator: str) -> Resources:
    cpus = self._given.get('cpus')
    if cpus is not None and not (_is_number(cpus) and cpus > 0):
      self._fault(f'cpus must be a number above 0, and is {cpus!r}')
      cpus = None
    devices = self._integer('devices_per_trial', 1, 1)
    if accelerator == 'cpu' and devices > 1:
      self._fault(f'devices_per_trial is {devices}, and a CPU is one device; give cpus')
    return Resources(
      accelerator=accelerator,
      devices=devices,
      nodes=self._integer('nodes_per_trial', 1, 1),
      cpus=None if cpus is None else float(cpus),
      memory_bytes=self._bytes('memory'),
      # Processes of several devices talk through it; engines give 64 MB.
      shm_bytes=self._bytes('shm_size') or (devices << 30 if devices > 1 else None),
    )

  def _flags(self) -> dict[str, Any]:
    value = self._given.get('flags', {})
    if not isinstance(value, dict):
      self._fault(f'flags must map flags of submission_runner to values, and is {value!r}')
      return {}
    for name, setting in value.items():
      if name in SET_BY_LAUNCHER:
        self._fault(f'flags may not hold {name}, which the launcher sets itself')
      elif name not in self._runner_flags:
        self._fault(unknown_name('flag of submission_runner', str(name), self._runner_flags))
      if isinstance(setting, dict) or setting is None:
        self._fault(f'The flag {name} must have a value or a list of values, and has {setting!r}')
    return {str(name): setting for name, setting in value.items()}

  def _text(self, key: str) -> str | None:
    value = self._given.get(key)
    if value is not None and (not isinstance(value, str) or not value):
      self._fault(f'{key} must be text, and is {value!r}')
      return None
    return value

  def _integer(self, key: str, default: int, least: int) -> int:
    value = self._given.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
      self._fault(f'{key} must be a whole number, at least {least}, and is {value!r}')
      return default
    return value

  def _bytes(self, key: str) -> int | None:
    value = self._given.get(key)
    if value is None:
      return None
    match = re.fullmatch(r'(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?', str(value).lower())
    if match is None or float(match[1]) <= 0:
      self._fault(f'{key} must be a size such as 512m or 8g, and is {value!r}')
      return None
    return int(float(match[1]) * 1024 ** _UNITS[match[2]])


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _placed(path: str) -> str:
  """Relative to the project's tree within it, absolute elsewhere; '{framework}' stays."""
  absolute = Path(os.path.normpath(Path(path).expanduser().absolute()))
  if not absolute.is_relative_to(ROOT) and not Path(path).is_absolute() and not absolute.exists():
    here = ROOT / path  # a plan of ours, called from elsewhere
    absolute = here if here.parent.parent.exists() else absolute
  return absolute.relative_to(ROOT).as_posix() if absolute.is_relative_to(ROOT) else str(absolute)


def _name_from(path: str) -> str:
  """A name for a submission from its path: the nearest folder that is no framework's."""
  words = '|'.join(('{framework}', *FRAMEWORKS))
  path = re.sub(rf'[_-]?({words})(?=[/_-]|$)', '', path)
  parts = [part for part in Path(path).parts if part not in ('submission.py', '/')]
  name = re.sub(r'[^A-Za-z0-9_-]', '_', Path(parts[-1]).stem) if parts else 'submission'
  return name.lstrip('_-')[:41] or 'submission'
