"""Ctrl-C and SIGTERM: the first ends a run cleanly, never within a row; the second at once."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from algorithmic_efficiency.runner.interrupts import Interrupted, Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def handlers_are_restored():
  """Whatever a test does, the handlers afterwards are those before."""
  before = {signum: signal.getsignal(signum) for signum in SIGNALS}
  yield
  after = {signum: signal.getsignal(signum) for signum in SIGNALS}
  for signum, handler in before.items():
    signal.signal(signum, handler)
  assert after == before


@pytest.mark.parametrize('signum', SIGNALS)
def test_the_first_signal_raises(signum):
  interrupts = Interrupts()
  with pytest.raises(Interrupted) as caught, interrupts.caught():
    signal.raise_signal(signum)
    pytest.fail('the signal did not interrupt')
  assert caught.value.signum == signum
  assert str(caught.value) == signum.name
  assert caught.value.exit_code == {signal.SIGINT: 130, signal.SIGTERM: 143}[signum]


def test_foreign_code_that_catches_every_exception_does_not_catch_it():
  interrupts = Interrupts()
  with pytest.raises(Interrupted), interrupts.caught():
    try:
      signal.raise_signal(signal.SIGINT)
    except Exception:  # noqa: BLE001 - this is what foreign code does
      pytest.fail('caught as an ordinary exception')


def test_check_raises_again_what_foreign_code_swallowed():
  interrupts = Interrupts()
  with interrupts.caught():
    interrupts.check()
    with contextlib.suppress(BaseException):  # a destructor does as much
      signal.raise_signal(signal.SIGTERM)
    for _ in range(2):
      with pytest.raises(Interrupted, match='SIGTERM'):
        interrupts.check()


def test_nothing_happens_without_a_signal():
  interrupts = Interrupts()
  with interrupts.caught(), interrupts.held():
    pass
  interrupts.check()


def test_what_is_held_is_finished_first():
  interrupts = Interrupts()
  done = []
  with pytest.raises(Interrupted), interrupts.caught():
    with interrupts.held():
      signal.raise_signal(signal.SIGINT)
      done.append('row')
    done.append('next step')
  assert done == ['row']


def test_after_holding_signals_interrupt_at_once_again():
  interrupts = Interrupts()
  with pytest.raises(Interrupted), interrupts.caught():
    with interrupts.held():
      pass
    signal.raise_signal(signal.SIGINT)
    pytest.fail('still held')


def test_an_error_within_what_is_held_comes_out_and_the_signal_is_not_forgotten():
  interrupts = Interrupts()
  with interrupts.caught():
    with pytest.raises(ValueError, match='disk'), interrupts.held():
      signal.raise_signal(signal.SIGINT)
      raise ValueError('disk')
    with pytest.raises(Interrupted):
      interrupts.check()


@pytest.mark.parametrize('leave', [None, ValueError('x'), signal.SIGINT])
def test_the_handlers_before_are_back_afterwards(leave):
  def mine(signum, frame):
    pass

  old = {signum: signal.signal(signum, mine) for signum in SIGNALS}
  try:
    try:
      with Interrupts().caught():
        assert signal.getsignal(signal.SIGINT) != mine
        if isinstance(leave, Exception):
          raise leave
        if leave is not None:
          signal.raise_signal(leave)
    except (ValueError, Interrupted):
      pass
    assert [signal.getsignal(signum) for signum in SIGNALS] == [mine, mine]
  finally:
    for signum, handler in old.items():
      signal.signal(signum, handler)


def test_outside_of_the_main_thread_signals_are_left_alone():
  before = signal.getsignal(signal.SIGINT)
  seen = []

  def run():
    with Interrupts().caught():
      seen.append(signal.getsignal(signal.SIGINT))

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == [before]


CHILD = """
import time
from algorithmic_efficiency.runner.interrupts import Interrupted, Interrupts

interrupts = Interrupts()
with interrupts.caught(), interrupts.held():
  print('held', flush=True)
  while True:  # a record that is never finished
    time.sleep(0.01)
    try:
      interrupts.check()
    except Interrupted:
      print('heard', flush=True)
"""


@pytest.mark.parametrize('signum', SIGNALS)
def test_the_second_signal_ends_the_process_at_once(signum):
  child = subprocess.Popen([sys.executable, '-c', CHILD], stdout=subprocess.PIPE, text=True)
  try:
    assert child.stdout.readline() == 'held\n'
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == 'heard\n'
    assert child.poll() is None
    child.send_signal(signum)
    assert child.wait(timeout=5) == -signum  # killed by the signal itself, as shells expect
  finally:
    child.kill()
    child.wait()
    child.stdout.close()


def test_an_echo_of_sigterm_is_no_second_one():
  """SLURM sends it to all processes of a step, and who started this one hands it on."""
  child = subprocess.Popen([sys.executable, '-c', CHILD], stdout=subprocess.PIPE, text=True)
  try:
    assert child.stdout.readline() == 'held\n'
    child.send_signal(signal.SIGTERM)
    assert child.stdout.readline() == 'heard\n'
    child.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
      child.wait(timeout=2.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=5) == -signal.SIGTERM
  finally:
    child.kill()
    child.wait()
    child.stdout.close()
