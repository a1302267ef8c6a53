"""This file is the program that lets stopped processes go on if their tracer cannot.

It runs beside the tracer, in a session of its own, and imports nothing of this package. The tracer
tells it by a pipe, a line each: 'stop SECONDS PID…' before it stops processes, 'go' after it let
them go on. If the tracer dies in between, or takes longer than it said, this program sends SIGCONT.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable


class Keeper:
  """The tracer's side of it."""

  def __init__(self) -> None:
    self._program = self._start()

  def stopping(self, pids: Iterable[int], limit_sec: float) -> None:
    """Must be told before the processes are stopped."""
    line = f'stop {limit_sec} {" ".join(map(str, pids))}\n'.encode()
    try:
      self._tell(line)
    except BrokenPipeError:  # somebody has ended it
      self.close()
      self._program = self._start()
      self._tell(line)

  def going_on(self) -> None:
    """Told after they go on."""
    with contextlib.suppress(BrokenPipeError):  # it is started again before the next stop
      self._tell(b'go\n')

  def close(self) -> None:
    """Ends it."""
    assert self._program.stdin is not None
    self._program.stdin.close()
    self._program.wait()

  def _start(self) -> 'subprocess.Popen[bytes]':
    return subprocess.Popen(
      [sys.executable, '-I', '-S', __file__], stdin=subprocess.PIPE, bufsize=0,
      stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

  def _tell(self, line: bytes) -> None:
    assert self._program.stdin is not None
    self._program.stdin.write(line)


def keep(source: int) -> None:
  """Runs until the pipe ends."""
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
  stopped: list[int] = []
  deadline = 0.0
  rest = b''
  while True:
    wait = max(0.0, deadline - time.monotonic()) if stopped else None
    if not select.select([source], [], [], wait)[0]:
      _let_go_on(stopped)
      stopped = []
      continue
    piece = os.read(source, 65536)
    if not piece:
      _let_go_on(stopped)
      return
    *lines, rest = (rest + piece).split(b'\n')
    for line in lines:
      words = line.split()
      _close(stopped)
      stopped = []
      if words[0] == b'stop':
        deadline = time.monotonic() + float(words[1])
        stopped = _descriptors(map(int, words[2:]))


def _descriptors(pids: Iterable[int]) -> list[int]:
  found: list[int] = []
  for pid in pids:
    with contextlib.suppress(ProcessLookupError):  # it has ended
      found.append(os.pidfd_open(pid))
  return found


def _let_go_on(descriptors: list[int]) -> None:
  for descriptor in descriptors:
    with contextlib.suppress(ProcessLookupError):  # it has ended
      signal.pidfd_send_signal(descriptor, signal.SIGCONT)
  _close(descriptors)


def _close(descriptors: list[int]) -> None:
  for descriptor in descriptors:
    os.close(descriptor)


if __name__ == '__main__':
  keep(sys.stdin.fileno())
