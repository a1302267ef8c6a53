"""Every second of a trial is on one account, and queued device work on that of who queued it."""

import random
import time

import pytest

from algorithmic_efficiency.runner.clock import Clock


class Machine:
  """A processor whose time passes only when told, and a device that works off a queue.

  The device starts work when it is queued and runs beside the processor.
  """

  def __init__(self):
    self.time = 1000.0  # where a monotonic clock starts is nobody's business
    self.device_ready = 0.0
    self.num_waits = 0

  def now(self):
    return self.time

  def work(self, seconds):
    self.time += seconds

  def queue(self, seconds):
    self.device_ready = max(self.device_ready, self.time) + seconds

  def wait(self):
    self.num_waits += 1
    self.time = max(self.time, self.device_ready)


@pytest.fixture
def machine():
  return Machine()


@pytest.fixture
def clock(machine):
  return Clock(machine.wait, machine.now)


def test_time_goes_to_the_account_that_is_charged(clock, machine):
  machine.work(1)
  with clock.charge('submission'):
    machine.work(2)
  machine.work(4)
  with clock.charge('evaluation'):
    machine.work(8)
  with clock.charge('submission'):
    machine.work(16)
  assert clock.accounts() == {'setup': 5, 'submission': 18, 'evaluation': 8}
  assert clock.seconds('submission') == 18


def test_what_is_charged_within_is_taken_from_the_account_around(clock, machine):
  with clock.charge('submission'):
    machine.work(1)
    with clock.charge('evaluation'):
      machine.work(2)
      with clock.charge('recording'):
        machine.work(4)
      machine.work(8)
    machine.work(16)
    with clock.charge('submission'):  # an account within itself changes nothing
      machine.work(32)
    machine.work(64)
  assert clock.accounts() == {
    'setup': 0, 'submission': 113, 'evaluation': 10, 'recording': 4,
  }  # fmt: skip


def test_every_second_is_charged_once():
  """Random nests of accounts, work and device work: the accounts always add up to the total."""
  generator = random.Random(0)
  machine = Machine()
  clock = Clock(machine.wait, machine.now)
  start = machine.time

  def spend(depth):
    for _ in range(generator.randint(1, 4)):
      machine.work(generator.random())
      if generator.random() < 0.5:
        machine.queue(generator.random())
      if depth < 5 and generator.random() < 0.6:
        try:
          with clock.charge(generator.choice('abc')):
            spend(depth + 1)
            if generator.random() < 0.2:
              raise KeyError
        except KeyError:
          pass
      if generator.random() < 0.3:
        clock.settled_seconds(generator.choice('abc'))

  for _ in range(50):
    spend(0)
    everything = sum(clock.seconds(account) for account in ('setup', *'abc'))
    assert everything == pytest.approx(machine.time - start)
    assert clock.total_seconds() == pytest.approx(machine.time - start)
  clock.settled_seconds('a')
  assert sum(clock.accounts().values()) == pytest.approx(machine.time - start)
  assert min(clock.accounts().values()) > 0


def test_an_account_that_is_not_charged_has_no_seconds(clock, machine):
  machine.work(1)
  assert clock.seconds('submission') == 0
  assert clock.settled_seconds('submission') == 0


def test_seconds_include_the_running_stretch_and_do_not_wait(clock, machine):
  with clock.charge('submission'):
    waits = machine.num_waits
    machine.queue(100)
    machine.work(3)
    assert clock.seconds('submission') == 3
    machine.work(4)
    assert clock.seconds('submission') == 7
    assert clock.seconds('setup') == 0
    assert machine.num_waits == waits


def test_settled_seconds_wait_for_the_device(clock, machine):
  with clock.charge('submission'):
    machine.work(1)
    machine.queue(10)
    machine.work(2)
    assert clock.seconds('submission') == 3
    assert clock.settled_seconds('submission') == 11
    assert clock.seconds('submission') == 11


def test_queued_device_work_is_charged_to_who_queued_it(clock, machine):
  with clock.charge('submission'):
    machine.work(1)
    machine.queue(10)
    with clock.charge('evaluation'):
      machine.work(2)
      machine.queue(5)
    machine.work(1)
  assert clock.accounts() == {'setup': 0, 'submission': 12, 'evaluation': 7}


def test_work_queued_before_an_account_is_not_charged_to_it(clock, machine):
  machine.queue(7)
  with clock.charge('submission'):
    machine.work(1)
  assert clock.accounts() == {'setup': 7, 'submission': 1}


@pytest.mark.parametrize('error', [ValueError, KeyboardInterrupt])
def test_after_an_exception_nobody_waits_for_the_device(clock, machine, error):
  with clock.charge('submission'):
    waits = machine.num_waits
    with pytest.raises(error), clock.charge('evaluation'):
      machine.work(2)
      machine.queue(1000)
      raise error
    assert machine.num_waits == waits + 1  # when 'evaluation' began, and not when it broke
    machine.work(3)
    assert clock.seconds('evaluation') == 2
    assert clock.seconds('submission') == 3


def test_an_exception_passes_through_every_account_around_it(clock, machine):
  with pytest.raises(ZeroDivisionError), clock.charge('a'):
    machine.work(1)
    with clock.charge('b'):
      machine.work(2)
      raise ZeroDivisionError
  machine.work(4)
  with clock.charge('a'):
    machine.work(8)
  assert clock.accounts() == {'setup': 4, 'a': 9, 'b': 2}


def test_a_device_that_fails_in_the_wait_leaves_the_accounts_right(machine):
  """The wait at the end of an account raises: that account is over nevertheless."""
  fails = False

  def wait():
    machine.work(1)
    if fails:
      raise RuntimeError('device lost')

  clock = Clock(wait, machine.now)
  with clock.charge('submission'):
    with pytest.raises(RuntimeError, match='device lost'), clock.charge('evaluation'):
      machine.work(2)
      fails = True
    fails = False
    machine.work(16)
    assert clock.seconds('submission') == 17  # 1 in the wait as 'evaluation' began
    assert clock.seconds('evaluation') == 3


def test_accounts_are_a_copy(clock, machine):
  machine.work(1)
  with clock.charge('submission'):
    pass
  clock.accounts()['setup'] = 99
  assert clock.seconds('setup') == 1


def test_the_default_clock_is_monotonic_and_runs_while_sleeping():
  clock = Clock(lambda: None)
  before = time.perf_counter()
  with clock.charge('submission'):
    time.sleep(0.02)
  spent = clock.accounts()['submission']
  assert 0.02 <= spent <= time.perf_counter() - before


def test_whoever_observes_hears_of_every_stretch_and_never_on_the_submissions_time():
  now, heard = [0.0], []

  def observe(account):
    heard.append((account, now[0], clock.seconds('submission')))
    now[0] += 100.0  # observing takes its time

  clock = Clock(lambda: None, lambda: now[0], observe)
  now[0] = 1.0
  with clock.charge('submission'):
    now[0] += 5.0
    with clock.charge('evaluation'):
      now[0] += 2.0
    now[0] += 3.0
  assert [(account, at) for account, at, _ in heard] == [
    ('setup', 1.0), ('submission', 106.0), ('evaluation', 208.0), ('submission', 311.0),
  ]  # fmt: skip
  assert clock.accounts()['submission'] == 8.0
  assert clock.accounts()['evaluation'] == 202.0


def test_whoever_observes_is_not_called_when_something_fails():
  heard = []
  clock = Clock(lambda: None, lambda: 0.0, heard.append)
  with pytest.raises(KeyError), clock.charge('submission'), clock.charge('evaluation'):
    raise KeyError
  assert heard == ['setup', 'submission']
