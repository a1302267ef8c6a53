"""Tests that processes whose clocks differ decide alike, and seldom ask each other."""

import math
import threading

import numpy as np
import pytest

from algorithmic_efficiency.runner.agreement import Agreement


class Processes:
  """Processes that are threads here; `gather` is their only meeting."""

  def __init__(self, count):
    self._count = count
    self._meeting = threading.Barrier(count, timeout=20)
    self._told = [None] * count
    self._own = threading.local()

  def count(self):
    return self._count

  def enter(self, index):
    self._own.index = index

  def gather(self, numbers):
    self._told[self._own.index] = numbers
    self._meeting.wait()
    told = np.array(self._told)
    self._meeting.wait()  # nobody tells anew before all have read
    return told


def decide(seconds_at, periods, steps):
  """What every process decided: (steps at which a period was over, exchanges) of each.

  Args:
    seconds_at: for each process, a function from the step to its own clock's seconds.
    periods: seconds between two decisions.
    steps: how many there are.
  """
  processes = Processes(len(seconds_at))
  found = [None] * len(seconds_at)

  def train(index):
    processes.enter(index)
    agreement, due, last = Agreement(processes), [], 0.0
    for step in range(steps):
      now = agreement.seconds(step, seconds_at[index](step), last + periods)
      if now >= last + periods:
        last = agreement.slowest(step, seconds_at[index](step))
        due.append(step)
    found[index] = (due, agreement.exchanges)

  threads = [threading.Thread(target=train, args=(index,)) for index in range(len(seconds_at))]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(60)
  return found


def test_alone_the_own_clock_counts_and_nobody_is_asked():
  agreement = Agreement()
  assert [agreement.seconds(step, step / 8, 1.0) for step in range(4)] == [0, 0.125, 0.25, 0.375]
  assert agreement.slowest(4, 0.5) == 0.5
  assert agreement.exchanges == 0


@pytest.mark.parametrize('count', [2, 4])
def test_all_decide_alike_by_the_slowest_clock(count):
  clocks = [lambda step, i=i: step * (0.01 + 0.001 * i) for i in range(count)]
  slowest = 0.01 + 0.001 * (count - 1)
  decisions = decide(clocks, periods=1.0, steps=1000)
  assert all(found == decisions[0] for found in decisions)
  due, exchanges = decisions[0]
  assert len(due) >= int(1000 * slowest) - 1
  gaps = np.diff([0, *due]) * slowest
  assert 1.0 <= gaps.min() <= gaps.max() < 1.0 + 3 * slowest
  assert exchanges <= (len(due) + 1) * (2 * math.log2(1.0 / slowest) + 2)


def test_clocks_that_jump_to_and_fro_do_not_part_them():
  random = [np.random.default_rng(seed).exponential(0.01, 2000).cumsum() for seed in (0, 1, 2)]
  decisions = decide([lambda step, c=clock: c[step] for clock in random], periods=0.5, steps=2000)
  assert all(found == decisions[0] for found in decisions)
  assert len(decisions[0][0]) >= 30


def test_steps_that_become_slow_are_noticed_within_seconds():
  # Quick at first, so that many steps are planned without asking; then a second for each.
  def clock(step):
    return step * 0.001 if step < 1000 else 1.0 + (step - 1000)

  (due, _), other = decide([clock, clock], periods=30.0, steps=12000)
  assert due == other[0]
  # At most 10 s at the old speed are made without asking.
  assert clock(due[0]) <= 30.0 + 10.0 / 0.001
