"""This file says what a plan is, which jobs it has, and how it is kept as JSON.

Seeds come from the plan's alone: study s is run with seed `derive(plan seed, s)`, and each of its
trials derives its own from that, as the runner always does. So a trial has the same numbers on any
engine and machine, in any order.
"""

import dataclasses
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.hparams.seeds import derive

SCHEMA = 1
ACCELERATORS = ('cpu', 'cuda', 'hpu')

# What may differ when a plan is taken up again: where and how it runs, not what.
_MAY_CHANGE = {'id', 'name', 'images', 'resources', 'retries', 'data_dir'}


@dataclass(frozen=True)
class Algorithm:
  """One training algorithm of a plan.

  Attributes:
    name: of its folder in the record.
    submission_path: may hold '{framework}'.
    tuning_search_space: JSON file, or None; may hold '{framework}'.
    tuning_ruleset: 'external' or 'self'.
  """

  name: str
  submission_path: str
  tuning_search_space: str | None = None
  tuning_ruleset: str = 'external'

  def paths(self, framework: str) -> tuple[str, str | None]:
    """Submission and search space for a framework."""
    space = self.tuning_search_space
    return (
      self.submission_path.replace('{framework}', framework),
      None if space is None else space.replace('{framework}', framework),
    )


@dataclass(frozen=True)
class Resources:
  """What one trial gets.

  Attributes:
    accelerator: 'cpu', 'cuda' or 'hpu'.
    devices: accelerators of each node; of 'cpu', processes are not multiplied: always 1.
    nodes: machines that train one trial together (clusters only).
    cpus: cores of each node, or None for no limit.
    memory_bytes: of each node, or None for no limit.
    shm_bytes: size of /dev/shm in a container, or None for the engine's default.
  """

  accelerator: str = 'cpu'
  devices: int = 1
  nodes: int = 1
  cpus: float | None = None
  memory_bytes: int | None = None
  shm_bytes: int | None = None


@dataclass(frozen=True)
class Job:
  """One trial of a plan; study and trial count from 0."""

  index: int
  algorithm: Algorithm
  study: int
  workload: str
  framework: str
  trial: int

  @property
  def name(self) -> str:
    """Its name, which no other job of the plan has; study and trial count from 1 in it."""
    parts = f'{self.algorithm.name}.study_{self.study + 1}.{self.workload}_{self.framework}'
    return f'{parts}.run_{self.trial + 1}'


@dataclass(frozen=True)
class Plan:
  """Workloads x frameworks x submissions x studies x trials, and what each trial gets.

  Attributes:
    name: for people.
    id: tells this plan's containers and cluster jobs from all others.
    seed: all others are derived from it.
    flags: further flags of submission_runner, by name.
    data_dir: absolute, where data sets lie.
    images: container image by framework.
    retries: how often a job is started again that was killed or failed.
  """

  name: str
  algorithms: tuple[Algorithm, ...]
  workloads: tuple[str, ...]
  frameworks: tuple[str, ...]
  studies: int = 1
  trials: int = 1
  seed: int = 0
  flags: Mapping[str, Any] = field(default_factory=dict[str, Any])
  data_dir: str | None = None
  images: Mapping[str, str] = field(default_factory=dict[str, str])
  resources: Resources = field(default_factory=Resources)
  retries: int = 0
  id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

  def jobs(self) -> list[Job]:
    """Every trial; whole comparisons come first: study by study, trial by trial."""
    return [Job(index, *which) for index, which in enumerate(self._each())]

  def _each(self) -> Iterator[tuple[Algorithm, int, str, str, int]]:
    for study in range(self.studies):
      for trial in range(self.trials):
        for workload in self.workloads:
          for framework in self.frameworks:
            for algorithm in self.algorithms:
              yield algorithm, study, workload, framework, trial

  def study_seed(self, study: int) -> int:
    """The --rng_seed of a study's runs: the same for all that is compared in it."""
    return derive(self.seed, study)

  def to_json(self) -> str:
    """The plan as plan.json holds it."""
    return json.dumps({'schema': SCHEMA, **dataclasses.asdict(self)}, indent=2) + '\n'


def from_json(text: str, path: Path) -> Plan:
  """The plan of a plan.json. Raises UsageError if it is none."""
  try:
    content = json.loads(text)
    schema = content.pop('schema')
    if schema != SCHEMA:
      raise UsageError(
        f'{str(path)!r} has schema {schema}, and this version reads {SCHEMA}; '
        'use the version that wrote it, or choose another --log_dir.'
      )
    content['algorithms'] = tuple(Algorithm(**a) for a in content['algorithms'])
    content['resources'] = Resources(**content['resources'])
    for name in ('workloads', 'frameworks'):
      content[name] = tuple(content[name])
    return Plan(**content)
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UsageError(
      f'{str(path)!r} is not a plan that the launcher wrote ({error}); choose another --log_dir.'
    ) from error


def differences(old: Plan, new: Plan) -> list[str]:
  """What differs between two plans that must not when one is gone on with, in words."""
  names = [f.name for f in dataclasses.fields(Plan) if f.name not in _MAY_CHANGE]
  before, after = dataclasses.asdict(old), dataclasses.asdict(new)
  return [
    f'{name} was {_shown(before[name])} and is {_shown(after[name])}'
    for name in names
    if before[name] != after[name]
  ]


def _shown(value: Any) -> str:
  if isinstance(value, tuple) and all(isinstance(v, dict) for v in value):
    return '[' + ', '.join(str(v['name']) for v in value) + ']'
  return str(list(value) if isinstance(value, tuple) else value)


def with_id(plan: Plan, id_: str) -> Plan:
  """The same plan under the name that its containers and cluster jobs know it by."""
  return dataclasses.replace(plan, id=id_)
