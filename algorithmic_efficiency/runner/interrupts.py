"""This file ends a run cleanly on Ctrl-C and SIGTERM, and an evaluation that takes too long."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVED_EXIT_CODE = 75  # as sysexits.h has it: a temporary failure, try again
# How long a step may go on before it is broken off. Schedulers kill 30 s after SIGTERM, and the
# checkpoint has to be written too; who presses Ctrl-C wants to see an end.
PATIENCE_SEC = {signal.SIGTERM: 12.0, signal.SIGINT: 3.0}
# SIGTERMs so close together are one: SLURM sends it to every process of a step, and those that
# started this one (torchrun, a launcher) hand it on besides.
_ONE_ASKING_SEC = 2.0


class Interrupted(BaseException):
  """The run was asked to stop; like KeyboardInterrupt, no `except Exception` catches it.

  Attributes:
    signum: the signal that asked.
    saved: a checkpoint of this very moment is on the disk.
  """

  def __init__(self, signum: int) -> None:
    super().__init__(signal.Signals(signum).name)
    self.signum = signum
    self.saved = False

  @property
  def exit_code(self) -> int:
    """128 and the signal's number, as shells tell it; another if SIGTERM left a checkpoint."""
    if self.saved and self.signum == signal.SIGTERM:
      return SAVED_EXIT_CODE
    return 128 + self.signum


class TooLong(BaseException):
  """What has a limit of time is over it; no `except Exception` catches it."""


class Interrupts:
  """Turns the first SIGINT or SIGTERM into Interrupted; a second one ends the process at once,
  unless it is an echo of the first.

  While a step is under way the exception waits for its end, so that there is something whole to
  save, but not for ever. Raised in the middle of foreign code it might be lost (in a destructor,
  say), so `check` raises it again.
  """

  def __init__(self) -> None:
    self._signum: int | None = None
    self._asked_at = 0.0
    self._held = False
    self._waits: Callable[[], bool] = lambda: False
    self._deadlines: dict[str, float] = {}

  @property
  def asked(self) -> bool:
    """Whether a signal has come."""
    return self._signum is not None

  @contextlib.contextmanager
  def caught(self) -> Generator[None, None, None]:
    """Handles the signals within; outside the main thread it leaves them alone."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    old = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
    old[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._ring)
    old_hook, sys.unraisablehook = sys.unraisablehook, _tell_nothing_of_interrupts
    try:
      yield
    finally:
      signal.setitimer(signal.ITIMER_REAL, 0)
      sys.unraisablehook = old_hook
      for signum, handler in old.items():
        signal.signal(signum, handler)

  @contextlib.contextmanager
  def held(self, then_check: bool = True) -> Generator[None, None, None]:
    """Lets what is within finish before the exception is raised, here or at the next `check`."""
    self._held = True
    try:
      yield
    finally:
      self._held = False
    if then_check and not self._waits():
      self.check()

  @contextlib.contextmanager
  def waiting(self, while_true: Callable[[], bool]) -> Generator[None, None, None]:
    """Waits with the exception for `check`, as long as the function says so and patience lasts."""
    self._waits = while_true
    try:
      yield
    finally:
      self._waits = lambda: False
      self._set('patience', None)

  @contextlib.contextmanager
  def limited(self, seconds: float | None) -> Generator[None, None, None]:
    """Raises TooLong if what is within takes longer than that; None is no limit."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
      yield
      return
    self._set('limit', seconds)
    try:
      yield
    finally:
      self._set('limit', None)

  def check(self) -> None:
    """Raises Interrupted if a signal has come."""
    if self._signum is not None:
      self._set('patience', None)
      raise Interrupted(self._signum)

  def _handle(self, signum: int, _: Any) -> None:
    now = time.monotonic()
    if self._signum == signum == signal.SIGTERM and now - self._asked_at < _ONE_ASKING_SEC:
      return
    if self._signum is not None:  # asked twice: the user means now
      signal.signal(signum, signal.SIG_DFL)
      signal.raise_signal(signum)
    self._signum, self._asked_at = signum, now
    if self._waits():
      self._set('patience', PATIENCE_SEC[signal.Signals(signum)])
    elif not self._held:
      raise Interrupted(signum)

  def _set(self, name: str, seconds: float | None) -> None:
    """Sets or takes back a deadline, and the timer to the next one."""
    if seconds is not None:
      self._deadlines[name] = time.monotonic() + seconds
    elif self._deadlines.pop(name, None) is None:
      return
    if self._deadlines:
      left = min(self._deadlines.values()) - time.monotonic()
      signal.setitimer(signal.ITIMER_REAL, max(left, 1e-3))
    else:
      signal.setitimer(signal.ITIMER_REAL, 0)

  def _ring(self, *_: Any) -> None:
    now = time.monotonic()
    over = [name for name, deadline in self._deadlines.items() if deadline <= now]
    for name in over:
      self._set(name, None)
    if not over and self._deadlines:
      signal.setitimer(signal.ITIMER_REAL, 1e-3)  # a hair too early
    if self._held:
      return  # what is held ends by itself, and checks then
    if 'patience' in over and self._signum is not None:
      raise Interrupted(self._signum)
    if 'limit' in over:
      raise TooLong


def _tell_nothing_of_interrupts(lost: Any) -> None:
  """What destructors and the garbage collector lose, `check` finds: no traceback on stderr."""
  if not isinstance(lost.exc_value, Interrupted):
    sys.__unraisablehook__(lost)
