"""This file is the tracer as a program beside a run of ours, which starts it (`handle.py`).

They talk by a socket, in lines of JSON, and share sixteen bytes: the nanoseconds the run has stood
still so far, which its clock leaves out, and the steps it has made.
"""

import json
import mmap
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.sampling import Pulse
from algorithmic_efficiency.memory_trace.tracing import Asked, Tracing

SHARED = struct.Struct('@qq')  # nanoseconds stood still, steps made
NANOSECONDS, STEPS = struct.Struct('@q'), 8  # of the first; where the second is


class RunPulse(Pulse):
  """What the run says: its steps, when a window of steps ends, and when the trial has ended."""

  def __init__(self, connection: socket.socket, shared: mmap.mmap) -> None:
    self._connection, self._shared = connection, shared
    self._rest = b''
    self._waited_for = False
    self.fileno = connection.fileno()
    self.notes: list[dict[str, Any]] = []

  def hear(self) -> str:
    """'sample', 'end', or '' for a note, which is kept for the trace."""
    piece = self._connection.recv(1 << 16)
    if not piece:
      return 'end'
    *lines, self._rest = (self._rest + piece).split(b'\n')
    asked = ''
    for line in lines:
      told = json.loads(line)
      if told['say'] == 'allocator':
        self.notes.append(told)
      else:
        asked = told['say']
    self._waited_for = asked == 'sample'
    return asked

  def sampled(self) -> None:
    """Answers the run, if it waits."""
    if self._waited_for:
      self._connection.sendall(b'\n')
      self._waited_for = False

  def paused(self, nanoseconds: int) -> None:
    """Adds to what the run's clock leaves out."""
    before = NANOSECONDS.unpack_from(self._shared, 0)[0]
    NANOSECONDS.pack_into(self._shared, 0, before + nanoseconds)

  def step(self) -> int | None:
    """As the run has it."""
    return NANOSECONDS.unpack_from(self._shared, STEPS)[0]


def main() -> None:
  """Traces the process that the argument tells of, until it says so or ends."""
  told = json.loads(sys.argv[1])
  with socket.socket(fileno=told['socket']) as connection:
    shared = mmap.mmap(told['shared'], SHARED.size)
    os.close(told['shared'])
    try:
      _trace(told, connection, shared)
    except (UsageError, MeasurementError) as error:
      _say(connection, error=str(error))


def _trace(told: dict[str, Any], connection: socket.socket, shared: mmap.mmap) -> None:
  asked = Asked(**{**told['asked'], 'path': Path(told['asked']['path'])})
  tracing = Tracing(asked)
  try:
    process = Process(told['pid'])
    if tracing.backend.CAPABILITIES.agent:
      _say(connection, agents=tracing.agents.path)
      if not tracing.agents.wait_for(told['pid']):
        raise MeasurementError('the helper within the run did not start; start the run again.')
    _say(connection, ready=True)
    windows = 0

    def tell(number: int, touched: int) -> None:
      del touched
      nonlocal windows
      windows = number + 1
      while pulse.notes:
        note = pulse.notes.pop(0)
        tracing.note('allocator', **{k: v for k, v in note.items() if k != 'say'})

    pulse = RunPulse(connection, shared)
    reason = tracing.run(process, pulse, tell)
    _say(connection, windows=windows, reason=reason)
  finally:
    tracing.close()


def _say(connection: socket.socket, **told: Any) -> None:
  try:
    connection.sendall(json.dumps(told).encode() + b'\n')
  except (BrokenPipeError, ConnectionResetError):
    return  # the run has ended


if __name__ == '__main__':
  main()
