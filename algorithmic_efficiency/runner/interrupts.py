"""This file ends a run cleanly on Ctrl-C and SIGTERM."""

import contextlib
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
  """The run was asked to stop; like KeyboardInterrupt, no `except Exception` catches it.

  Attributes:
    signum: the signal that asked.
  """

  def __init__(self, signum: int) -> None:
    super().__init__(signal.Signals(signum).name)
    self.signum = signum

  @property
  def exit_code(self) -> int:
    """As shells tell it: 128 and the signal's number."""
    return 128 + self.signum


class Interrupts:
  """Turns the first SIGINT or SIGTERM into Interrupted; a second one ends the process at once.

  Raised in the middle of foreign code the exception might be lost (in a destructor, say), so
  `check` raises it again; while a record is being written it waits.
  """

  def __init__(self) -> None:
    self._signum: int | None = None
    self._held = False

  @contextlib.contextmanager
  def caught(self) -> Generator[None, None, None]:
    """Handles the signals within; outside the main thread it leaves them alone."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    old = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
    old_hook, sys.unraisablehook = sys.unraisablehook, _tell_nothing_of_interrupts
    try:
      yield
    finally:
      sys.unraisablehook = old_hook
      for signum, handler in old.items():
        signal.signal(signum, handler)

  @contextlib.contextmanager
  def held(self) -> Generator[None, None, None]:
    """Lets what is within finish before the exception is raised."""
    self._held = True
    try:
      yield
    finally:
      self._held = False
    self.check()

  def check(self) -> None:
    """Raises Interrupted if a signal has come."""
    if self._signum is not None:
      raise Interrupted(self._signum)

  def _handle(self, signum: int, _: Any) -> None:
    if self._signum is not None:  # asked twice: the user means now
      signal.signal(signum, signal.SIG_DFL)
      signal.raise_signal(signum)
    self._signum = signum
    if not self._held:
      raise Interrupted(signum)


def _tell_nothing_of_interrupts(lost: Any) -> None:
  """What destructors and the garbage collector lose, `check` finds: no traceback on stderr."""
  if not isinstance(lost.exc_value, Interrupted):
    sys.__unraisablehook__(lost)
