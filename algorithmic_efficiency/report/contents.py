"""This file holds what the page shows of the results, apart from how it is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency.report.figure import Numbers


@dataclass(frozen=True)
class Goal:
  """What the trials of a workload have to reach.

  Attributes:
    metric: the validation metric.
    value: its target; None where it is not known.
    rising: whether larger is better.
    counts: whether the workload is one the score is made of.
    held_out: whether it is a variant that decides whether another counts.
  """

  metric: str
  value: float | None
  rising: bool
  counts: bool = True
  held_out: bool = False


@dataclass(frozen=True)
class Run:
  """One trial, as far as the results need it.

  Attributes:
    study: of several that repeat the same.
    number: of the trial in its study, from 1.
    folder: of the trial; None where there is none.
    seconds, steps, values: submission time, step and validation metric of its evaluations.
    reached_sec: submission time at which the target was met, infinite if never.
    chosen: whether its study counts with this trial.
  """

  submission: str
  study: str
  workload: str
  framework: str
  number: int
  folder: Path | None
  hparams: dict[str, Any]
  seconds: Numbers
  steps: Numbers
  values: Numbers
  reached_sec: float = math.inf
  chosen: bool = False

  @property
  def name(self) -> str:
    """For people."""
    return f'{self.submission}, {self.workload}, study {self.study}, trial {self.number}'


@dataclass(frozen=True)
class Interval:
  """A value with the ends of its 95 % interval; None where that was not measured."""

  value: float
  low: float | None = None
  high: float | None = None


@dataclass(frozen=True)
class Standing:
  """A submission's place; None for what is not known.

  Attributes:
    rank: 1 is the best.
    share_first: of the samples of the bootstrap in which its rank is 1.
    speedup: geometric mean over workloads of the reference's time over its own.
    hours, device_hours: that all its trials took.
    num_targets: workloads that count as reached.
  """

  submission: str
  score: Interval
  rank: Interval
  share_first: float | None
  speedup: Interval | None
  hours: float
  device_hours: float | None
  num_targets: int


@dataclass(frozen=True)
class Curve:
  """A submission's performance profile: the share of workloads reached within tau of the best."""

  rho: Numbers
  low: Numbers | None = None
  high: Numbers | None = None


@dataclass(frozen=True)
class Time:
  """A submission's time to a workload's target.

  Attributes:
    seconds: the median over studies, after the rules of the score; infinite where it counts as
      not reached.
    measured_sec: the same before those rules.
    studies_sec: of each study.
  """

  seconds: float
  measured_sec: float
  studies_sec: Sequence[float]


@dataclass
class Contents:
  """What scoring found.

  Attributes:
    standings: the best first; a submission's place here is its series in all charts.
    goals: by workload, in the order to show them.
    runs: all trials.
    times: by submission and workload.
    taus: of the profiles.
    profiles: by submission.
    reference: the submission that speed-ups are over.
    rules: sentences on how the score was made.
    warnings: what scoring had to say.
  """

  title: str
  standings: list[Standing]
  goals: dict[str, Goal]
  runs: list[Run]
  times: dict[tuple[str, str], Time]
  taus: Numbers = field(default_factory=lambda: np.zeros(0))
  profiles: dict[str, Curve] = field(default_factory=dict[str, Curve])
  reference: str = ''
  rules: list[str] = field(default_factory=list[str])
  warnings: list[str] = field(default_factory=list[str])

  @property
  def submissions(self) -> list[str]:
    """In the order of their series."""
    return [standing.submission for standing in self.standings]

  def series(self, submission: str) -> int:
    """The index of a submission's colour."""
    return self.submissions.index(submission)
