"""This file computes how long trials, studies and submissions take to their workload's target.

The rule is AlgoPerf's: a trial's time is that of its first evaluation that meets the target on the
validation split; a study's is that of its best trial, since tuning it is part of the algorithm; a
submission's is the median over its studies. A target never met takes infinitely long.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from algorithmic_efficiency.scoring.editions import Edition, Goal
from algorithmic_efficiency.scoring.logs import Trial

# How a study's trial is picked: by the number of its evaluation, as AlgoPerf's published scores
# have it, or by time, as its documentation says.
MODES = ('published', 'exact')
NEVER = float('inf')


@dataclass(frozen=True)
class Reached:
  """A trial at the first evaluation that met the target.

  Attributes:
    index: of the evaluation, from 0.
    time_sec: submission time; infinite where the target was never met.
    step: updates made; NaN where unknown.
    joules: drawn in the submission time; NaN where not measured.
  """

  index: int
  time_sec: float
  step: float
  joules: float


NOT_REACHED = Reached(index=-1, time_sec=NEVER, step=NEVER, joules=NEVER)


def reached(trial: Trial, goal: Goal) -> Reached:
  """Where the trial met the goal first; NOT_REACHED if nowhere, or at no known time."""
  hits = np.flatnonzero(goal.met(trial.values))
  if not len(hits) or np.isnan(trial.submission_sec[hits[0]]):
    return NOT_REACHED
  at = int(hits[0])
  return Reached(
    index=at,
    time_sec=float(trial.submission_sec[at]),
    step=float(trial.steps[at]),
    joules=float('nan') if trial.joules is None else float(trial.joules[at]),
  )


@dataclass(frozen=True)
class Study:
  """A study's trials on a workload, and the one that counts.

  Attributes:
    number: of the study.
    trials: in the order of their numbers, with where each met the target.
    chosen: the trial that counts; None where none met the target.
    best: where it met it.
  """

  number: int
  trials: tuple[tuple[Trial, Reached], ...]
  chosen: Trial | None
  best: Reached


def study(number: int, trials: Iterable[Trial], goal: Goal, mode: str) -> Study:
  """The study of these trials. `mode`: one of MODES."""
  pairs = tuple((t, reached(t, goal)) for t in trials)
  hits = [pair for pair in pairs if pair[1] is not NOT_REACHED]
  if not hits:
    return Study(number, pairs, None, NOT_REACHED)
  chosen, best = min(hits, key=lambda pair: sort_key(pair[1], mode))
  return Study(number, pairs, chosen, best)


def sort_key(result: Reached, mode: str) -> float:
  """What is least for a study's best trial; of equals the first counts."""
  return result.index if mode == 'published' else result.time_sec


# Submission and workload to the studies on it.
Studies = dict[tuple[str, str], tuple[Study, ...]]


def studies(trials: Iterable[Trial], edition: Edition, mode: str) -> Studies:
  """The studies of each submission on each workload, in the order of their numbers."""
  groups = defaultdict[tuple[str, str], defaultdict[int, list[Trial]]](lambda: defaultdict(list))
  for trial in trials:
    groups[trial.submission, trial.workload][trial.study].append(trial)
  result: Studies = {}
  for (submission, workload), by_number in sorted(groups.items()):
    goal = edition.goal(workload)
    if goal is not None:
      result[submission, workload] = tuple(
        study(number, by_number[number], goal, mode) for number in sorted(by_number)
      )
  return result


def median(values: Iterable[float]) -> float:
  """The median; infinite values take part, and of an empty list it is NaN."""
  given = list(values)
  return float(np.median(given)) if given else float('nan')
