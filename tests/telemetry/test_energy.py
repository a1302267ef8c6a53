"""Tests of joules: against integrals in closed form, with gaps, counters that reset, and none."""

import math

import fake_gpus
import numpy as np
import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry.energy import Meter, Power


def sampled(hz, seconds=30.0, start=0.0, without=()):
  """A Power with samples of the formula; none within the stretches of `without`."""
  power = Power(longest_gap_sec=3 / hz)
  for at in np.arange(start, start + seconds + 1e-9, 1 / hz):
    if not any(a < at < b for a, b in without):
      power.add(float(at), fake_gpus.watts(at))
  return power


@pytest.mark.parametrize(('hz', 'percent'), [(2, 0.6), (10, 0.03)])
def test_the_integral_agrees_with_the_closed_form(hz, percent):
  power = sampled(hz)
  for begin, end in ((0.0, 30.0), (3.1, 17.77), (10.0, 10.9)):
    truth = fake_gpus.joules(end) - fake_gpus.joules(begin)
    found, covered = power.joules(begin, end)
    assert covered == pytest.approx(end - begin)
    assert found == pytest.approx(
      truth, rel=10 * percent / 100 if end - begin < 1 else percent / 100
    )


def test_the_integral_is_that_of_numpy():
  power, times = sampled(5), np.arange(0, 30.01, 0.2)
  values = [fake_gpus.watts(at) for at in times]
  assert power.joules(0, 30)[0] == pytest.approx(np.trapezoid(values, times), rel=1e-9)


def test_a_gap_is_not_bridged_and_told():
  power = sampled(2, without=[(10.0, 15.0)])
  found, covered = power.joules(0.0, 30.0)
  assert covered == pytest.approx(25.0)
  parts = [(0, 10), (15, 30)]
  truth = sum(fake_gpus.joules(b) - fake_gpus.joules(a) for a, b in parts)
  assert found == pytest.approx(truth, rel=0.01)


def test_beside_the_samples_the_nearest_counts_for_a_while():
  power = Power(longest_gap_sec=2.0)
  power.add(10.0, 100.0)
  assert power.joules(9.5, 11.5) == pytest.approx((150.0, 1.5))
  assert power.joules(0.0, 5.0) == (0.0, 0.0)
  assert Power(2.0).joules(0.0, 5.0) == (0.0, 0.0)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_readings_that_are_none_and_clocks_that_stand_still_are_left_out(value):
  power = Power(longest_gap_sec=2.0)
  for at, watts in ((0.0, 100.0), (0.5, value), (1.0, 100.0), (1.0, 900.0), (0.2, 900.0)):
    power.add(at, watts)
  assert power.joules(0.0, 1.0)[0] == pytest.approx(100.0)


def test_what_is_forgotten_changes_nothing_later():
  power = sampled(10)
  before = power.joules(20.05, 29.0)
  power.forget_before(20.05)
  assert power.joules(20.05, 29.0) == pytest.approx(before)


def test_every_joule_is_charged_to_one_account_by_the_counter():
  meter = Meter(['gpu.0', 'gpu.1'], 1.0)
  edges = [('setup', 0.0), ('submission', 2.5), ('evaluation', 3.25), ('submission', 7.0)]
  for account, at in edges:
    meter.turn(account, at, {'gpu.0': fake_gpus.joules(at), 'gpu.1': 10 * at})
  meter.settle({})
  row = meter.columns()
  truth = fake_gpus.joules(7.0) - fake_gpus.joules(0.0)
  evaluation = fake_gpus.joules(3.25) - fake_gpus.joules(2.5)
  assert row['gpu.0.energy.joules_since_start'] == pytest.approx(truth)
  assert row['gpu.0.energy.evaluation_joules'] == pytest.approx(evaluation)
  assert row['gpu.0.energy.submission_joules'] == pytest.approx(truth - evaluation)
  assert row['energy.joules_since_start'] == pytest.approx(truth + 70)
  assert row['energy.evaluation_joules'] == pytest.approx(evaluation + 7.5)
  assert (row['energy.source'], row['energy.devices']) == ('counter', 'gpu.0 gpu.1')
  assert [name for name in row if columns.find(name) is None] == []


def test_since_last_counts_from_the_row_before():
  meter = Meter(['gpu.0'], 1.0)
  for at in range(4):
    meter.turn('submission', float(at), {'gpu.0': 100.0 * at})
    meter.settle({})
    row = meter.columns()
  assert row['gpu.0.energy.joules_since_start'] == pytest.approx(300)
  assert row['gpu.0.energy.joules_since_last'] == row['energy.joules_since_last'] == 100


def run(meter, seconds=10, counters=lambda at: {}, hz=10, scale=1.0):
  meter.turn('setup', 0.0, counters(0.0))
  if hz:
    for at in np.arange(0, seconds + 1e-9, 1 / hz):
      meter.sampled('gpu.0', float(at), scale * fake_gpus.watts(at))
  meter.turn('submission', float(seconds), counters(float(seconds)))
  meter.settle({'gpu.0': 120.0})
  return meter.columns()


def counted(at):
  return {'gpu.0': fake_gpus.joules(at)}


def test_without_a_counter_samples_are_integrated():
  row = run(Meter(['gpu.0'], 0.3))
  assert row['gpu.0.energy.source'] == 'integrated'
  truth = fake_gpus.joules(10) - fake_gpus.joules(0)
  assert row['gpu.0.energy.joules_since_start'] == pytest.approx(truth, rel=1e-3)
  assert row['gpu.0.energy.coverage_percent'] == 100


def test_without_either_the_power_at_the_rows_is_all_there_is():
  meter = Meter(['gpu.0'], 0.3)
  assert run(meter, hz=0)['gpu.0.energy.source'] == 'derived'
  meter.turn('submission', 12.0, {})
  meter.settle({'gpu.0': 80.0})
  row = meter.columns()
  assert row['gpu.0.energy.joules_since_start'] == pytest.approx(10 * 120 + 2 * 100)
  assert 'gpu.0.energy.coverage_percent' not in row


def test_without_anything_there_is_no_figure():
  meter = Meter(['gpu.0'], 0.3)
  meter.turn('setup', 0.0, {})
  meter.turn('submission', 5.0, {})
  meter.settle({})
  assert meter.columns() == {'gpu.0.energy.source': 'none'}
  assert Meter([], 0.3).columns() == {}


@pytest.mark.parametrize(
  ('scale', 'differs'), [(1.0, False), (1.04, False), (1.07, True), (0.5, True)]
)
def test_a_counter_and_an_integral_that_differ_are_flagged(scale, differs):
  row = run(Meter(['gpu.0'], 0.3), counters=counted, scale=scale)
  assert row['gpu.0.energy.source'] == 'counter'
  assert row['gpu.0.energy.counter_and_integral_differ'] is differs


def test_what_samples_do_not_cover_is_not_compared():
  row = run(Meter(['gpu.0'], 0.3), counters=counted, hz=1)
  assert 'gpu.0.energy.counter_and_integral_differ' not in row


def test_a_counter_that_begins_anew_is_not_believed_for_that_stretch():
  meter = Meter(['gpu.0'], 0.3)
  row = run(meter, counters=lambda at: {'gpu.0': 5000.0 if at == 0 else 3.0})
  assert row['gpu.0.energy.source'] == 'integrated'
  meter.turn('submission', 200.0, {'gpu.0': 40_003.0})
  meter.settle({})
  assert meter.columns()['gpu.0.energy.joules_since_last'] == pytest.approx(40_000)


def test_net_is_gross_without_the_idle_power():
  row = run(Meter(['gpu.0'], 0.3, {'gpu.0': 60.0}), counters=counted)
  gross = row['gpu.0.energy.joules_since_start']
  assert row['gpu.0.energy.net_joules_since_start'] == pytest.approx(gross - 600)
  assert row['energy.net_joules_since_start'] == pytest.approx(gross - 600)


def test_a_resumed_trial_goes_on_from_the_joules_it_had():
  first = Meter(['gpu.0'], 0.3)
  before = run(first, counters=counted)
  second = Meter(['gpu.0'], 0.3)
  second.take_up(first.state())
  second.turn('setup', 500.0, {'gpu.0': 7.0})
  second.turn('evaluation', 501.0, {'gpu.0': 57.0})
  second.settle({})
  row = second.columns()
  total = before['gpu.0.energy.joules_since_start'] + 50
  assert row['gpu.0.energy.joules_since_start'] == pytest.approx(total)
  assert (
    row['gpu.0.energy.joules_since_last'] == row['energy.joules_since_last'] == pytest.approx(50)
  )
