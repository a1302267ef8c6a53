"""This file makes the leaderboard of a folder of logs: scores, ranks, times, how sure they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.scoring import bootstrap, performance_profile, time_to_target
from algorithmic_efficiency.scoring.editions import Edition
from algorithmic_efficiency.scoring.logs import Logs, Warnings
from algorithmic_efficiency.scoring.performance_profile import TAUS, Array
from algorithmic_efficiency.scoring.time_to_target import Studies

REFERENCE = 'baseline'  # of speed-ups, where a submission bears the name


@dataclass(frozen=True)
class Interval:
  """A value and the middle 95 % of its bootstrap samples; None where there is but one study,
  or where a sample's value is unknown."""

  value: float
  low: float | None
  high: float | None


@dataclass(frozen=True)
class Standing:
  """A submission's line.

  Attributes:
    submission: its name.
    score: in [0, 1], more is better.
    rank: 1 is best; equal scores share the better rank.
    share_first: of the bootstrap samples in which it has rank 1; None without samples.
    time_ratio: geometric mean of its times, before the rules, over the reference's; below 1 is
      faster; None where a budget that stands for a missing time is unknown.
    num_reached: base workloads that count as reached after the rules.
    num_trials: that were read, held-out workloads included.
    hours: all of these took, from start to last evaluation.
    device_hours: the same times the devices; None where a record does not say how many.
  """

  submission: str
  score: Interval
  rank: Interval
  share_first: float | None
  time_ratio: Interval | None
  num_reached: int
  num_trials: int
  hours: float
  device_hours: float | None


@dataclass(frozen=True)
class WorkloadTime:
  """A submission on a workload.

  Attributes:
    raw_sec: median over the studies of the time to the target [s]; infinite where never reached,
      NaN where not tried.
    counted_sec: the same after the rules; of a held-out workload as raw_sec.
    ratio: counted_sec over the best submission's; None of a held-out workload.
    steps, joules: medians over the studies, infinite where never reached, NaN where unknown.
    study_sec: time of each study, by its number.
    num_reached: studies that reached it.
  """

  raw_sec: Interval
  counted_sec: float
  ratio: float | None
  steps: float
  joules: float
  study_sec: Mapping[int, float]
  num_reached: int


@dataclass(frozen=True)
class Profile:
  """(taus,): shares of the workloads, and the middle 95 % of the samples; None without them."""

  rho: Array
  low: Array | None
  high: Array | None


@dataclass(frozen=True)
class Leaderboard:
  """The scores of all submissions, relative to each other.

  Attributes:
    edition, ruleset, mode: how it was scored; mode is one of time_to_target.MODES.
    workloads, held_out: what it is over, base workloads first.
    reference: the submission that time ratios are relative to.
    num_samples: of the bootstrap.
    standings: best first.
    times: by submission and workload.
    taus, profiles: the performance profile, by submission.
    studies: by submission and workload.
    warnings: of reading and scoring.
  """

  edition: Edition
  ruleset: str
  mode: str
  workloads: tuple[str, ...]
  held_out: tuple[str, ...]
  reference: str
  num_samples: int
  standings: tuple[Standing, ...]
  times: Mapping[tuple[str, str], WorkloadTime]
  taus: Array
  profiles: Mapping[str, Profile]
  studies: Studies
  warnings: Warnings


@dataclass(frozen=True)
class Settings:
  """How to score.

  Attributes:
    ruleset: 'external' or 'self'.
    mode: 'published' or 'exact'.
    workloads: as Edition.chosen takes it.
    reference: a submission; '' for one called 'baseline', or else the best.
    num_samples: of the bootstrap; 0 for none.
    seed: of the bootstrap.
  """

  ruleset: str = 'external'
  mode: str = 'published'
  workloads: str = 'auto'
  reference: str = ''
  num_samples: int = 1000
  seed: int = 0


def make(logs: Logs, edition: Edition, settings: Settings) -> Leaderboard:
  """Scores the logs. Raises UsageError for names that are not there."""
  base = edition.chosen(logs.workloads, settings.workloads)
  held_out = tuple(
    w for w in edition.held_out_workloads if edition.base_of(w) in base and w not in base
  )
  submissions = logs.submissions
  if not submissions:
    raise UsageError(f'No trial in {str(logs.root)!r} can be scored.')
  if settings.reference and settings.reference not in submissions:
    raise UsageError(unknown_name('submission', settings.reference, submissions))
  _check_counts(logs, edition, settings, (*base, *held_out))
  board = _Scoring(logs, edition, settings, base, held_out)
  return board.result()


def _check_counts(logs: Logs, edition: Edition, settings: Settings, names: Sequence[str]) -> None:
  """Notes studies and trials that are missing, or too many, by the edition's rules."""
  wanted = 1 if settings.ruleset == 'self' else edition.num_trials
  trials = {
    (t.submission, t.workload): dict[int, int]() for t in logs.trials if t.workload in names
  }
  for trial in logs.trials:
    if trial.workload in names:
      counts = trials[trial.submission, trial.workload]
      counts[trial.study] = counts.get(trial.study, 0) + 1
  warn = logs.warnings.note
  for submission in logs.submissions:
    for workload in names:
      counts = trials.get((submission, workload), {})
      place = f'{submission} {workload}'
      if not counts:
        warn('workloads that a submission has no trial of count as never reached', place)
      elif len(counts) != edition.num_studies:
        warn(f'workloads with another number of studies than {edition.num_studies}', place)
      for study, count in counts.items():
        if count != wanted:
          warn(f'studies with another number of trials than {wanted}', f'{place} study_{study}')


class _Scoring:
  """The arrays of one leaderboard: submissions x workloads, base workloads first."""

  def __init__(
    self,
    logs: Logs,
    edition: Edition,
    settings: Settings,
    base: tuple[str, ...],
    held_out: tuple[str, ...],
  ) -> None:
    self._logs, self._edition, self._settings = logs, edition, settings
    self._base, self._held_out = base, held_out
    self._names = (*base, *held_out)
    self._base_of: list[int | None] = [None] * len(base)
    self._base_of += [base.index(str(edition.base_of(w))) for w in held_out]
    self._submissions = logs.submissions
    self._studies = time_to_target.studies(logs.trials, edition, settings.mode)
    self._raw = self._medians(lambda result: result.time_sec)
    self._counted = self._rules(self._raw)
    self._ratios = performance_profile.ratios(self._counted)
    self._scores = performance_profile.score(self._ratios, settings.mode)
    self._reference = self._choose_reference()
    self._never_sec = self._never()
    self._draw()

  def _medians(self, of: Any) -> Array:
    return np.array([
      [
        time_to_target.median(of(study.best) for study in self._studies.get((s, w), ()))
        for w in self._names
      ]
      for s in self._submissions
    ])  # fmt: skip

  def _rules(self, times: Array) -> Array:
    return performance_profile.apply_rules(times, self._base_of, len(self._base))

  def _choose_reference(self) -> int:
    name = self._settings.reference
    if not name and REFERENCE in self._submissions:
      name = REFERENCE
    return self._submissions.index(name) if name else int(self._scores.argmax())

  def _never(self) -> Array:
    """Seconds that stand for a time never reached, of each base workload; NaN where unknown."""
    goals = [self._edition.goal(w) for w in self._base]
    budgets = [g and self._edition.budget_sec(g, self._settings.ruleset) for g in goals]
    return np.array([np.nan if b is None else b + 1.0 for b in budgets])

  def _draw(self) -> None:
    """The bootstrap's samples of everything; none of them where each study stands alone."""
    number = self._settings.num_samples
    several = any(len(found) > 1 for found in self._studies.values())
    self._num_samples = number if several else 0
    if not self._num_samples:
      return
    names = [(s, self._names) for s in self._submissions]
    drawn = bootstrap.sample_times(
      self._studies, names, self._settings.mode, number, self._settings.seed
    )
    counted = self._rules(drawn)
    ratios = performance_profile.ratios(counted)
    scores = performance_profile.score(ratios, self._settings.mode)
    self._drawn_ranks = bootstrap.ranks(scores)
    self._intervals = {
      'raw': bootstrap.interval(drawn),
      'score': bootstrap.interval(scores),
      'rank': bootstrap.interval(self._drawn_ranks.astype(float)),
      'profile': bootstrap.interval(performance_profile.profile(ratios)),
      'ratio': bootstrap.interval(self._time_ratios(drawn)),
    }

  def _time_ratios(self, raw: Array) -> Array:
    """Of times before the rules: one beyond four times the best is long, not endless."""
    base = raw[..., : len(self._base)]
    return performance_profile.geometric_mean_ratio(base, self._reference, self._never_sec)

  def _interval(self, name: str, value: float, *place: int) -> Interval:
    if not self._num_samples:
      return Interval(value, None, None)
    low, high = (float(bound[place]) for bound in self._intervals[name])
    if np.isnan(low) or np.isnan(high):  # samples have what is unknown in them
      return Interval(value, None, None)
    return Interval(value, low, high)

  def _standing(self, i: int, ranks: Array, time_ratios: Array) -> Standing:
    trials = [t for t in self._logs.trials if t.submission == self._submissions[i]]
    trials = [t for t in trials if t.workload in self._names]
    known = all(t.devices is not None for t in trials)
    ratio = float(time_ratios[i])
    return Standing(
      submission=self._submissions[i],
      score=self._interval('score', float(self._scores[i]), i),
      rank=self._interval('rank', float(ranks[i]), i),
      share_first=float((self._drawn_ranks[:, i] == 1).mean()) if self._num_samples else None,
      time_ratio=None if np.isnan(ratio) else self._interval('ratio', ratio, i),
      num_reached=int(np.isfinite(self._counted[i]).sum()),
      num_trials=len(trials),
      hours=sum(t.total_sec for t in trials) / 3600,
      device_hours=sum(t.total_sec * (t.devices or 0) for t in trials) / 3600 if known else None,
    )

  def _time(self, i: int, j: int, steps: Array, joules: Array) -> WorkloadTime:
    found = self._studies.get((self._submissions[i], self._names[j]), ())
    is_base = j < len(self._base)
    return WorkloadTime(
      raw_sec=self._interval('raw', float(self._raw[i, j]), i, j),
      counted_sec=float(self._counted[i, j] if is_base else self._raw[i, j]),
      ratio=float(self._ratios[i, j]) if is_base else None,
      steps=float(steps[i, j]),
      joules=float(joules[i, j]),
      study_sec={study.number: study.best.time_sec for study in found},
      num_reached=sum(study.chosen is not None for study in found),
    )

  def result(self) -> Leaderboard:
    """All of it."""
    ranks = bootstrap.ranks(self._scores)
    time_ratios = self._time_ratios(self._raw)
    order = sorted(range(len(self._submissions)), key=lambda i: (ranks[i], self._submissions[i]))
    steps = self._medians(lambda result: result.step)
    joules = self._medians(lambda result: result.joules)
    rho = performance_profile.profile(self._ratios)
    low, high = self._intervals['profile'] if self._num_samples else (None, None)
    return Leaderboard(
      edition=self._edition,
      ruleset=self._settings.ruleset,
      mode=self._settings.mode,
      workloads=self._base,
      held_out=self._held_out,
      reference=self._submissions[self._reference],
      num_samples=self._num_samples,
      standings=tuple(self._standing(i, ranks, time_ratios) for i in order),
      times={
        (s, w): self._time(i, j, steps, joules)
        for i, s in enumerate(self._submissions)
        for j, w in enumerate(self._names)
      },
      taus=TAUS,
      profiles={
        s: Profile(rho[i], None if low is None else low[i], None if high is None else high[i])
        for i, s in enumerate(self._submissions)
      },
      studies=self._studies,
      warnings=self._logs.warnings,
    )
