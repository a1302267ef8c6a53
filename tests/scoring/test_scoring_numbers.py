"""Scores, profiles, medians, correlations and intervals against slower, plainer versions."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from algorithmic_efficiency.scoring import bootstrap, effects, performance_profile, time_to_target
from algorithmic_efficiency.scoring.editions import Goal
from algorithmic_efficiency.scoring.logs import Trial
from algorithmic_efficiency.scoring.time_to_target import NOT_REACHED, Reached

INF, NAN = float('inf'), float('nan')


def plain_rules(times, base_of, num_base):
  """The rules a cell at a time, as their text has them."""
  times = [list(row) for row in times]
  pairs = [(v, b) for v, b in enumerate(base_of) if b is not None]
  for row in times:
    for variant, base in pairs:
      if not np.isfinite(row[base]):
        row[variant] = INF
  for j in range(len(times[0])):
    known = [row[j] for row in times if not np.isnan(row[j])]
    for row in times:
      if row[j] > 4.0 * min(known, default=INF):
        row[j] = INF
  for row in times:
    for variant, base in pairs:
      if not np.isfinite(row[variant]):
        row[base] = INF
  return [row[:num_base] for row in times]


def plain_score(times, taus):
  """The trapezoid below each submission's profile, counted point by point."""
  least = [min((t for t in column if t == t), default=INF) for column in zip(*times, strict=True)]
  scores = []
  for row in times:
    with np.errstate(invalid='ignore'):
      ratio = [t / b if np.isfinite(t) else INF for t, b in zip(row, least, strict=True)]
    rho = [sum(r <= tau for r in ratio) / len(row) for tau in taus]
    area = sum(
      (a + b) / 2 * (t1 - t0) for (a, b), (t0, t1) in
      zip(itertools.pairwise(rho), itertools.pairwise(taus), strict=True)
    )  # fmt: skip
    scores.append(area / 3.0)
  return scores


def random_times(seed, submissions=5, workloads=7):
  rng = np.random.default_rng(seed)
  times = np.exp(rng.normal(size=(submissions, workloads)))
  times[rng.random(times.shape) < 0.2] = INF
  times[rng.random(times.shape) < 0.1] = NAN
  times[:, 0] = 2.0  # ties, and a ratio of exactly 1
  times[1, 1], times[0, 1] = 4.0, 1.0  # exactly four times the best still counts
  times[:, 6] = INF if seed % 2 else NAN
  return times


@pytest.mark.parametrize('seed', range(20))
def test_rules_and_published_score_are_those_of_the_plain_version(seed):
  times = random_times(seed)
  base_of = [None] * 5 + [0, 3]
  ruled = performance_profile.apply_rules(times, base_of, 5)
  np.testing.assert_array_equal(ruled, plain_rules(times, base_of, 5))
  ratios = performance_profile.ratios(ruled)
  expected = plain_score(ruled, np.linspace(1.0, 4.0, 100))
  assert performance_profile.score(ratios, 'published') == pytest.approx(expected, abs=1e-12)


def test_the_score_is_the_area_below_the_profile():
  ratios = performance_profile.ratios(random_times(3))
  rho = performance_profile.profile(ratios)
  area = ((rho[:, 1:] + rho[:, :-1]) / 2 * np.diff(performance_profile.TAUS)).sum(axis=1) / 3
  assert performance_profile.score(ratios, 'published') == pytest.approx(area, abs=1e-12)


def test_the_exact_score_is_the_limit_of_ever_more_points():
  times = random_times(4)
  ratios = performance_profile.ratios(times)
  fine = plain_score(times, np.linspace(1.0, 4.0, 6001))
  assert performance_profile.score(ratios, 'exact') == pytest.approx(fine, abs=2e-4)
  by_hand = performance_profile.score(np.array([[1.0, 2.5, INF, 4.0]]), 'exact')
  assert by_hand == pytest.approx([(3.0 + 1.5 + 0.0 + 0.0) / 3.0 / 4.0])


def test_a_time_of_nothing_is_the_best_there_is():
  ratios = performance_profile.ratios(np.array([[0.0, 2.0], [1.0, 2.0], [0.0, NAN]]))
  assert ratios.tolist() == [[1.0, 1.0], [INF, 1.0], [1.0, INF]]


def test_samples_at_once_are_scored_as_one_by_one():
  many = np.stack([random_times(seed) for seed in range(6)])
  base_of = [None] * 6 + [2]
  at_once = performance_profile.apply_rules(many, base_of, 6)
  for one, times in zip(at_once, many, strict=True):
    np.testing.assert_array_equal(one, performance_profile.apply_rules(times, base_of, 6))
  at_once = performance_profile.score(performance_profile.ratios(at_once), 'published')
  assert at_once.shape == (6, 5)


def test_the_geometric_mean_of_ratios():
  times = np.array([[1.0, 8.0], [2.0, INF], [NAN, 2.0]])
  found = performance_profile.geometric_mean_ratio(times, 0, np.array([101.0, 51.0]))
  expected = [1.0, np.sqrt(2.0 * 51.0 / 8.0), np.sqrt(101.0 * 2.0 / 8.0)]
  assert found == pytest.approx(expected)


def trial(times, values, number=1, study=1):
  column = np.array(times, dtype=float)
  return Trial('a', study, 'w', 'jax', number, Path('f'), {}, 1, column, column,
               np.array(values, dtype=float), None, 1.0)  # fmt: skip


def goal(target=0.5, lower=False):
  return Goal('w', 'loss' if lower else 'accuracy', target, lower)


def test_a_target_is_met_at_the_first_evaluation_that_equals_or_passes_it():
  up = trial([1, 2, 3, 4], [0.4, NAN, 0.5, 0.9])
  assert time_to_target.reached(up, goal()) == Reached(2, 3.0, 3.0, pytest.approx(NAN, nan_ok=True))
  down = trial([1, 2, 3], [0.6, 0.5, 0.4])
  assert time_to_target.reached(down, goal(lower=True)).time_sec == 2.0
  assert time_to_target.reached(up, goal(0.91)) is NOT_REACHED
  assert time_to_target.reached(trial([NAN, 2], [0.9, 0.9]), goal()) is NOT_REACHED


def test_the_modes_pick_by_the_number_of_the_evaluation_or_by_time():
  early = trial([10, 20], [0.0, 0.9], number=1)  # the second evaluation, after 20 s
  quick = trial([1, 2, 3], [0.0, 0.0, 0.9], number=2)  # the third, after 3 s
  published = time_to_target.study(1, [quick, early], goal(), 'published')
  exact = time_to_target.study(1, [quick, early], goal(), 'exact')
  assert (published.chosen, published.best.time_sec) == (early, 20.0)
  assert (exact.chosen, exact.best.time_sec) == (quick, 3.0)
  ties = [trial([1, 7], [0, 1], number=1), trial([1, 5], [0, 1], number=2)]
  assert time_to_target.study(1, ties, goal(), 'published').chosen is ties[0]


def test_medians_count_what_was_never_reached_and_leave_out_what_is_not_there():
  assert time_to_target.median([1.0, 3.0, INF]) == 3.0
  assert time_to_target.median([1.0, INF]) == INF
  assert np.isnan(time_to_target.median([]))


def test_two_studies_of_one_trial_are_redrawn_as_two_coins():
  studies = {('a', 'w'): tuple(
    time_to_target.study(n, [trial([t], [1.0], study=n)], goal(), 'published')
    for n, t in ((1, 2.0), (2, 6.0))
  )}  # fmt: skip
  drawn = bootstrap.sample_times(studies, [('a', ['w'])], 'published', 20_000, seed=1)[:, 0, 0]
  shares = {t: (drawn == t).mean() for t in (2.0, 4.0, 6.0)}
  assert sum(shares.values()) == 1.0
  assert shares == pytest.approx({2.0: 0.25, 4.0: 0.5, 6.0: 0.25}, abs=0.015)


def test_trials_of_a_study_are_redrawn_and_the_best_of_them_counts():
  trials = [trial([t], [1.0], n) for n, t in enumerate((3.0, 1.0))] + [trial([9.0], [0.0], 3)]
  one = time_to_target.study(1, trials, goal(), 'exact')
  fewer = time_to_target.study(2, trials[:1], goal(), 'exact')
  rng = np.random.default_rng(0)
  drawn = bootstrap._redrawn([one], 'exact', 40_000, rng)[:, 0]
  # Of three draws from three: none is the best with 8/27, none reaches at all with 1/27.
  expected = {1.0: 19 / 27, 3.0: 7 / 27, INF: 1 / 27}
  assert {t: (drawn == t).mean() for t in expected} == pytest.approx(expected, abs=0.01)
  both = bootstrap._redrawn([one, fewer], 'exact', 1_000, rng)
  assert set(np.unique(both)) == {1.0, 3.0, INF}


def test_ranks_share_the_better_place():
  assert bootstrap.ranks(np.array([0.5, 0.9, 0.5, 0.1])).tolist() == [2, 1, 2, 4]


@pytest.mark.parametrize('seed', range(5))
def test_rank_correlation_is_scipys(seed):
  rng = np.random.default_rng(seed)
  x, y = rng.integers(6, size=12).astype(float), rng.integers(6, size=12).astype(float)
  assert effects.rank_correlation(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)
  y[0], y[1] = INF, INF  # the longest of all, and equal
  finite = np.where(np.isinf(y), 100.0, y)
  assert effects.rank_correlation(x, y) == pytest.approx(scipy.stats.spearmanr(x, finite).statistic)
  assert effects.rank_correlation(x, np.ones(12)) is None
