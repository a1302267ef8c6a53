"""Reuse distances against sets, counted naively, and against closed forms."""

import numpy as np
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import reuse_distance, unit_runs
from algorithmic_efficiency.memory_trace.page_table import SampledTable, hashed
from algorithmic_efficiency.memory_trace.reuse_distance import Histogram, ReuseDistances


def naive(windows):
  """(lower, upper, cold) by the definition: {distance: count} twice, and a number."""
  last, lower, upper, cold = {}, {}, {}, 0
  for j, window in enumerate(windows):
    for unit in window:
      if unit not in last:
        cold += 1
        continue
      i = last[unit]
      between = set().union(*windows[i + 1 : j])
      around = set().union(*windows[i : j + 1])
      lower[len(between) + 1] = lower.get(len(between) + 1, 0) + 1
      upper[len(around)] = upper.get(len(around), 0) + 1
    last.update(dict.fromkeys(window, j))
  return lower, upper, cold


def as_dict(histogram):
  values, counts = histogram.sorted()
  return dict(zip(values.tolist(), counts.tolist(), strict=True))


def entered(windows, rate=1.0):
  found = ReuseDistances(rate)
  for window in windows:
    found.add(np.array(sorted(window), np.int64))
  return found


def random_windows(seed):
  """Sets near and far, over blocks' borders, with empty ones between."""
  generator = np.random.default_rng(seed)
  places = generator.choice([0, 500, 1 << 20, (1 << 47) - 60, 1 << 50], size=3, replace=False)
  universe = np.concatenate([place + np.arange(40) for place in places])
  windows = []
  for _ in range(generator.integers(1, 30)):
    size = generator.choice([0, 1, 5, 60])
    windows.append(set(generator.choice(universe, size, replace=False).tolist()))
  return windows


@pytest.mark.parametrize('seed', range(25))
def test_equals_the_definition(seed):
  windows = random_windows(seed)
  found = entered(windows)
  lower, upper, cold = naive(windows)
  assert (as_dict(found.lower), as_dict(found.upper), found.cold) == (lower, upper, cold)
  assert found.unique == len(set().union(*windows))
  assert found.reuses == sum(map(len, windows)) - cold


@pytest.mark.parametrize('seed', range(6))
def test_buckets_that_are_closed_up_change_nothing(seed, monkeypatch):
  monkeypatch.setattr(reuse_distance, '_SPARE', 3)
  windows = [window for more in range(3) for window in random_windows(100 * more + seed)]
  found = entered(windows)
  assert (as_dict(found.lower), as_dict(found.upper), found.cold) == naive(windows)
  assert len(found._live) < 2 * len(set().union(*windows)) + 4


@pytest.mark.parametrize('seed', range(5))
def test_tells_when_units_were_touched_last(seed):
  windows = random_windows(seed)
  found = ReuseDistances()
  for j, window in enumerate(windows):
    recency = found.add(np.array(sorted(window), np.int64))
    assert recency.total == len(window)
    for first in range(j + 1):
      assert recency.new_since(first) == len(window - set().union(*windows[first:j]))


def test_a_cycle_has_the_closed_form():
  """Blocks A, B, C, A, …: what was touched 3 windows ago has 2 blocks between, 3 in all."""
  size, blocks = 700, 3
  found = entered([range(size * (j % blocks), size * (j % blocks + 1)) for j in range(9)])
  assert as_dict(found.lower) == {2 * size + 1: 6 * size}
  assert as_dict(found.upper) == {3 * size: 6 * size}
  assert found.cold == 3 * size


def test_the_same_again_has_distance_one_to_all():
  found = entered([range(50)] * 4)
  assert as_dict(found.lower) == {1: 150}
  assert as_dict(found.upper) == {50: 150}
  assert reuse_distance.memory_for(found, 0.5) == (1, 50)


def exact_distances(accesses):
  """Per access, Mattson's stack distance by moving to the front; None for the first."""
  stack, found = [], []
  for unit in accesses:
    found.append(stack.index(unit) + 1 if unit in stack else None)
    if unit in stack:
      stack.remove(unit)
    stack.insert(0, unit)
  return found


@pytest.mark.parametrize('seed', range(8))
def test_bounds_hold_true_distances_of_accesses(seed):
  """Of a unit's first access in each window, whatever the order of accesses was."""
  accesses = np.random.default_rng(seed).zipf(1.3, 400) % 60
  distances = exact_distances(accesses.tolist())
  windows = [range(start, start + 25) for start in range(0, 400, 25)]
  first = []
  for window in windows:
    seen = set()
    for at in window:
      if accesses[at] not in seen:
        seen.add(accesses[at])
        first.append(distances[at])
  reused = np.sort([distance for distance in first if distance is not None])
  found = entered([set(accesses[list(window)].tolist()) for window in windows])
  assert found.cold == sum(distance is None for distance in first)
  curve = reuse_distance.distribution(found)
  for size, low, high in zip(*curve, strict=True):
    true = np.searchsorted(reused, size, 'right') / len(reused)
    assert low - 1e-12 <= true <= high + 1e-12


def test_curves_are_counted_right():
  windows = random_windows(3)
  found, (lower, upper, cold) = entered(windows), naive(windows)
  within, misses = reuse_distance.distribution(found), reuse_distance.miss_ratio(found)
  touches = sum(map(len, windows))
  for place, size in enumerate(within.units.tolist()):
    near = sum(count for distance, count in lower.items() if distance <= size)
    far = sum(count for distance, count in upper.items() if distance <= size)
    assert within.upper[place] == pytest.approx(near / (touches - cold))
    assert within.lower[place] == pytest.approx(far / (touches - cold))
    assert misses.lower[place] == pytest.approx((touches - near) / touches)
    assert misses.upper[place] == pytest.approx((touches - far) / touches)
  assert misses.lower[-1] == pytest.approx(cold / touches)
  for part in (0.1, 0.5, 0.99, 1.0):
    bounds = reuse_distance.memory_for(found, part)
    for bound, counts in zip(bounds, (lower, upper), strict=True):
      inside = sum(count for distance, count in counts.items() if distance <= bound)
      before = sum(count for distance, count in counts.items() if distance < bound)
      assert before < part * (touches - cold) <= inside


def test_without_reuse_there_is_no_memory_for_it():
  found = entered([[1, 2], [3]])
  assert reuse_distance.memory_for(found, 0.5) is None
  assert len(reuse_distance.distribution(found).units) == 0
  assert reuse_distance.memory_for(ReuseDistances(), 0.5) is None


def test_thinning_keeps_both_ends():
  curve = reuse_distance.Curve(np.arange(1000), np.linspace(0, 1, 1000), np.ones(1000))
  thin = reuse_distance.thinned(curve, 10)
  assert len(thin.units) == 10
  assert (thin.units[0], thin.units[-1]) == (0, 999)
  assert thin.lower[3] == curve.lower[thin.units[3]]


def test_a_sample_is_the_definition_on_what_was_chosen():
  generator = np.random.default_rng(1)
  rate = 0.25
  windows = [set(generator.choice(4000, 300, replace=False).tolist()) for _ in range(12)]
  chosen = {unit for unit in range(4000) if hashed(np.array([unit]))[0] < rate * 2**64}
  lower, upper, cold = naive([window & chosen for window in windows])
  found = entered(windows, rate)
  # All others of a distance stand for 1/rate of their kind; the unit itself for itself.
  assert as_dict(found.lower) == {4 * (distance - 1) + 1: n for distance, n in lower.items()}
  assert as_dict(found.upper) == {4 * (distance - 1) + 1: n for distance, n in upper.items()}
  assert found.cold == cold
  assert found.unique == 4 * cold


def test_a_sample_comes_near_the_whole():
  generator = np.random.default_rng(2)
  windows = [np.unique(np.minimum(generator.zipf(1.2, 30_000), 60_000) + 40 * j) for j in range(40)]
  exact, sampled = entered(windows), entered(windows, 0.1)
  assert sampled.unique == pytest.approx(exact.unique, rel=0.05)
  for part in (0.5, 0.9):
    near = reuse_distance.memory_for(exact, part)[1]
    assert reuse_distance.memory_for(sampled, part)[1] == pytest.approx(near, rel=0.1)


def test_the_hash_is_uniform():
  numbers = hashed(np.arange(200_000) + (5 << 45))
  counts = np.bincount((numbers >> np.uint64(60)).astype(int), minlength=16)
  assert abs(counts - 12_500).max() < 5 * np.sqrt(12_500)
  # Reference values of splitmix64 from seed 0.
  golden = 0x9E3779B97F4A7C15
  states = np.array([0, golden], np.uint64).view(np.int64)
  assert [hex(n) for n in hashed(states)] == ['0xe220a8397b1dcdaf', '0x6e789e6aa1b965f4']


def test_a_sampled_table_keeps_its_places():
  table = SampledTable(0.5)
  first = table.places(np.array([[1 << 30, 600]]))
  table.places(np.array([[5, 3], [1 << 29, 4000]]))
  assert table.places(np.array([[1 << 30, 600]])).tolist() == first.tolist()
  units, places = table.units()
  assert (np.diff(units) > 0).all()
  assert sorted(places.tolist()) == list(range(table.size))


@pytest.mark.parametrize('rate', [0, -1, 1.01, float('nan')])
def test_a_wrong_rate_is_told(rate):
  with pytest.raises(UsageError, match='above 0 and at most 1'):
    ReuseDistances(rate)


@pytest.mark.parametrize('units', [[3, 3], [4, 1]])
def test_units_must_ascend(units):
  with pytest.raises(ValueError, match='ascend'):
    ReuseDistances().add(np.array(units))


def test_a_histogram_sums_equal_values():
  histogram = Histogram()
  assert [len(part) for part in histogram.sorted()] == [0, 0]
  for _ in range(2):
    histogram.add(np.array([5, 1, 5]), np.array([1, 2, 3]))
    histogram.sorted()
  assert as_dict(histogram) == {1: 4, 5: 8}


@pytest.mark.parametrize('seed', range(10))
def test_runs_do_what_sets_do(seed):
  generator = np.random.default_rng(seed)
  one, other = (set(generator.choice(80, n, replace=False).tolist()) for n in (30, 50))
  runs, others = (unit_runs.of_units(np.array(sorted(units))) for units in (one, other))
  assert unit_runs.units_of(runs).tolist() == sorted(one)
  assert unit_runs.are_sound(runs)
  both = unit_runs.intersected(runs, others)
  assert unit_runs.units_of(both).tolist() == sorted(one & other)
  nothing = unit_runs.of_units(np.array([], np.int64))
  assert len(unit_runs.intersected(runs, nothing)) == len(unit_runs.intersected(nothing, runs)) == 0


@pytest.mark.parametrize('runs', [[[5, 2], [6, 1]], [[3, 0]], [[-1, 2]], [[9, 1], [1, 1]]])
def test_unsound_runs_are_seen(runs):
  assert not unit_runs.are_sound(np.array(runs))
