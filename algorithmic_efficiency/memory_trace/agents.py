"""This file is the tracer's side of the agents (`agent.py`) within the processes that it traces."""

import select
import socket
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from algorithmic_efficiency.memory_trace import agent

Ranges = Sequence[tuple[int, int]]

_CONNECT_SEC = 20.0  # for a Python that starts on a busy machine


class Agents:
  """Listens for agents, and asks them."""

  def __init__(self) -> None:
    self._folder = tempfile.TemporaryDirectory(prefix='memory_trace_')
    self.path = str(Path(self._folder.name, 'socket'))
    self._listening = socket.socket(socket.AF_UNIX)
    self._listening.bind(self.path)
    self._listening.listen()
    self._connected: dict[int, socket.socket] = {}

  def environment(self, before: Mapping[str, str]) -> dict[str, str]:
    """What a program must have in its environment to start an agent, if it is Python."""
    preload = str(Path(__file__).parent / 'preload')
    path = before.get('PYTHONPATH')
    search = f'{preload}:{path}' if path else preload
    return {**before, 'PYTHONPATH': search, agent.VARIABLE: self.path}

  def wait_for(self, pid: int) -> bool:
    """Whether the process has an agent, waiting a while for it."""
    return self._accept(pid, _CONNECT_SEC)

  def ask(self, pid: int, order: bytes, ranges: Ranges) -> bool:
    """Sends an order; False where the process has no agent (yet). It is done in its own time."""
    if not self._accept(pid, 0.0):
      return False
    content = b''.join(struct.pack('<qq', *pair) for pair in ranges)
    try:
      self._connected[pid].sendall(agent.ORDER.pack(order, len(ranges)) + content)
    except (BrokenPipeError, ConnectionResetError):
      return False  # it has ended
    return True

  def close(self) -> None:
    """Lets go of all; agents end."""
    for connection in self._connected.values():
      connection.close()
    self._listening.close()
    self._folder.cleanup()

  def _accept(self, pid: int, limit_sec: float) -> bool:
    while pid not in self._connected:
      if not select.select([self._listening], [], [], limit_sec)[0]:
        return False
      connection, _ = self._listening.accept()
      hello = connection.recv(agent.HELLO.size)
      if len(hello) == agent.HELLO.size:
        self._connected[agent.HELLO.unpack(hello)[0]] = connection
    return True
