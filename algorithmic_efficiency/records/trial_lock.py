"""This file keeps two commands from writing one trial's record.

A lock is a file that its owner holds by flock and touches while it is alive. The operating system
lets go of it when the owner ends, however it ends. Where flock does not reach (another machine on a
network file system), a file touched in the last minute is a sign of life.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

from algorithmic_efficiency.errors import UsageError

_ALIVE_SEC = 60.0  # since the last touch by an owner on another machine
_TOUCH_SEC = 1.0


class TrialLock:
  """One trial's lock.

  Args:
    path: of its file.

  Attributes:
    last_seen: when an owner that is dead now was last alive, by the system's clock; or None.
  """

  def __init__(self, path: Path) -> None:
    self._path = path
    self._fd = -1
    self.last_seen: float | None = None

  def take(self) -> None:
    """Takes it. Raises UsageError if somebody alive has it, telling who."""
    while self._fd < 0:
      fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
      try:
        self._refuse_if_alive(fd)
        if _is_still_at(fd, self._path):  # else its owner has just removed it
          self._fd, fd = fd, -1
      finally:
        if fd >= 0:
          os.close(fd)
    owner = {'pid': os.getpid(), 'host': socket.gethostname(), 'since': time.time()}
    os.ftruncate(self._fd, 0)
    os.pwrite(self._fd, json.dumps(owner).encode(), 0)

  def touch(self) -> None:
    """A sign of life."""
    with contextlib.suppress(OSError):  # a network file system that is away for a while
      os.utime(self._fd)

  def release(self) -> None:
    """Gives it back, if it was taken."""
    if self._fd >= 0:
      with contextlib.suppress(OSError):  # the folder may be gone or read-only by now
        self._path.unlink()
      os.close(self._fd)
      self._fd = -1

  def _refuse_if_alive(self, fd: int) -> None:
    owner = _owner(fd)
    try:
      fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise self._taken(owner) from error
    except OSError:
      pass  # a file system without flock: the last touch decides
    touched = os.fstat(fd).st_mtime
    if not owner:
      return
    elsewhere = owner.get('host') != socket.gethostname()
    if elsewhere and time.time() - touched < _ALIVE_SEC:
      raise self._taken(owner)
    self.last_seen = touched

  def _taken(self, owner: dict[str, Any]) -> UsageError:
    who = f'process {owner.get("pid", "?")} on {owner.get("host", "?")}'
    return UsageError(
      f'{str(self._path.with_suffix("").name).lstrip(".")} in {str(self._path.parent)!r} is being '
      f'run by {who}; wait for it, choose other trials with --hparam_start_index and '
      '--hparam_end_index, or another --log_dir.'
    )


@contextlib.contextmanager
def all_taken(paths: Iterable[Path]) -> Generator[dict[Path, TrialLock], None, None]:
  """Holds several locks, or none: raises UsageError if one of them is somebody else's.

  A thread touches them, since a step or an evaluation may take any time.
  """
  locks = {path: TrialLock(path) for path in paths}
  released = threading.Event()

  def touch_all() -> None:
    while not released.wait(_TOUCH_SEC):
      for lock in locks.values():
        lock.touch()

  heart = threading.Thread(target=touch_all, name='locks', daemon=True)
  try:
    for lock in locks.values():
      lock.take()
    heart.start()
    yield locks
  finally:
    released.set()
    if heart.is_alive():
      heart.join()
    for lock in locks.values():
      lock.release()


def any_is_alive(paths: Iterable[Path]) -> bool:
  """Whether one of these locks was touched lately; takes none, which might keep it from another."""
  for path in paths:
    with contextlib.suppress(FileNotFoundError):  # given back just now
      if time.time() - path.stat().st_mtime < _ALIVE_SEC:
        return True
  return False


@contextlib.contextmanager
def for_a_moment(folder: Path) -> Generator[None, None, None]:
  """Holds the lock of a folder, which everybody holds only briefly; waits for it."""
  fd = os.open(folder, os.O_RDONLY)
  try:
    with contextlib.suppress(OSError):  # a file system without flock
      fcntl.flock(fd, fcntl.LOCK_EX)
    yield
  finally:
    os.close(fd)


def _owner(fd: int) -> dict[str, Any]:
  """Who wrote the file; empty if nobody did, or if it was cut short."""
  try:
    owner = json.loads(os.pread(fd, 4096, 0))
  except ValueError:
    return {}
  return cast(dict[str, Any], owner) if isinstance(owner, dict) else {}


def _is_still_at(fd: int, path: Path) -> bool:
  try:
    return os.path.samestat(os.fstat(fd), path.stat())
  except FileNotFoundError:
    return False
