"""This file holds on to a process: its /proc files, stopping it, and letting it go on.

By a descriptor of the process and one of its /proc folder, so that a pid which the system gives
again is never mistaken for it.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection

from algorithmic_efficiency.errors import UsageError

_STOPPED = frozenset('TtXxZ')  # stopped, by a debugger too, or gone
_GONE = frozenset('XxZ')
_POLL_SEC = 0.0001
_PIECE = 1 << 20


class Process:
  """A process that runs.

  Raises UsageError where there is none, it has ended, or it is another user's.
  """

  def __init__(self, pid: int) -> None:
    self.pid = pid
    self._pidfd = -1
    try:
      self._folder = os.open(f'/proc/{pid}', os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as error:
      raise UsageError(f'there is no process {pid}; give the pid of one that runs.') from error
    try:
      self._pidfd = os.pidfd_open(pid)
      self._check()
    except ProcessLookupError as error:
      self.close()
      raise UsageError(f'process {pid} has just ended.') from error
    except BaseException:
      self.close()
      raise

  def _check(self) -> None:
    if self.has_ended():
      raise UsageError(f'process {self.pid} has ended (its parent has not asked for its end yet).')
    try:
      os.close(self.open('clear_refs', os.O_WRONLY))
      if not self.read('maps'):
        raise UsageError(f"process {self.pid} has no memory of its own: it is the kernel's.")
    except PermissionError as error:
      owner = os.fstat(self._folder).st_uid
      raise UsageError(
        f'process {self.pid} belongs to user {owner} or hides its memory; only that user and root '
        'may look at it.'
      ) from error
    except FileNotFoundError as error:
      raise UsageError(
        'this kernel has no /proc/PID/clear_refs; it is built without CONFIG_PROC_PAGE_MONITOR.'
      ) from error

  def fileno(self) -> int:
    """A descriptor that becomes readable when it ends."""
    return self._pidfd

  def open(self, name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a file in its /proc folder."""
    return os.open(name, flags | os.O_CLOEXEC, dir_fd=self._folder)

  def read(self, name: str) -> bytes:
    """A whole file of its /proc folder. Raises ProcessLookupError if it has ended."""
    try:
      fd = self.open(name)
    except FileNotFoundError as error:
      raise ProcessLookupError(*error.args) from error
    try:
      pieces: list[bytes] = []
      while piece := os.read(fd, _PIECE):
        pieces.append(piece)
      return b''.join(pieces)
    finally:
      os.close(fd)

  def write(self, name: str, content: bytes) -> None:
    """Writes to a file of its /proc folder. Raises ProcessLookupError if it has ended."""
    try:
      fd = self.open(name, os.O_WRONLY)
    except FileNotFoundError as error:
      raise ProcessLookupError(*error.args) from error
    try:
      os.write(fd, content)
    finally:
      os.close(fd)

  def has_ended(self) -> bool:
    """Whether it has; a zombie has."""
    try:
      return _state(self.read('stat')) in _GONE
    except ProcessLookupError:
      return True

  def is_stopped(self) -> bool:
    """Whether it stands still, by whoever's doing. Raises ProcessLookupError if it has ended."""
    return _state(self.read('stat')) in _STOPPED - _GONE

  def stop(self, limit_sec: float) -> bool:
    """Stops it; whether all of its threads have stopped within the limit.

    Raises ProcessLookupError if it has ended.
    """
    self._signal(signal.SIGSTOP)
    end = time.monotonic() + limit_sec
    stopped: set[str] = set()
    while True:
      states = self._states(without=stopped)
      stopped.update(thread for thread, state in states.items() if state in _STOPPED)
      if all(thread in stopped for thread in states):
        break
      if time.monotonic() > end:
        return False
      time.sleep(_POLL_SEC)
    if self.has_ended():
      raise ProcessLookupError(self.pid)
    return True

  def go_on(self) -> None:
    """Lets it go on; nothing if it has ended."""
    with contextlib.suppress(ProcessLookupError):
      self._signal(signal.SIGCONT)

  def children(self) -> list[int]:
    """Pids of what it has started; [] where the kernel does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # a thread, or all of it, has ended
      for thread in self._threads():
        found += map(int, self.read(f'task/{thread}/children').split())
    return found

  def command(self) -> str:
    """Its command line."""
    return self.read('cmdline').replace(b'\0', b' ').decode(errors='backslashreplace').strip()

  def close(self) -> None:
    """Lets go of it; it is left as it is."""
    for fd in (self._folder, self._pidfd):
      if fd >= 0:
        os.close(fd)
    self._folder = self._pidfd = -1

  def _signal(self, number: int) -> None:
    signal.pidfd_send_signal(self._pidfd, number)

  def _threads(self) -> list[str]:
    fd = self.open('task', os.O_RDONLY | os.O_DIRECTORY)
    try:
      return os.listdir(fd)  # noqa: PTH208 - pathlib lists no descriptor
    finally:
      os.close(fd)

  def _states(self, without: Collection[str] = ()) -> dict[str, str]:
    """The state of each other thread. Raises ProcessLookupError if it has ended."""
    states: dict[str, str] = {}
    try:
      threads = self._threads()
    except FileNotFoundError as error:
      raise ProcessLookupError(*error.args) from error
    for thread in threads:
      if thread not in without:
        with contextlib.suppress(ProcessLookupError):  # a thread has ended
          states[thread] = _state(self.read(f'task/{thread}/stat'))
    return states


def _state(stat: bytes) -> str:
  """The state in the content of a stat file; the name before it may hold anything."""
  return stat.rpartition(b')')[2].split(None, 1)[0].decode()
