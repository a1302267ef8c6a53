"""This file is a run's hold on the tracer beside it: starts it, tells it of steps, and ends it."""

import json
import mmap
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

from algorithmic_efficiency.errors import UsageError

_SAY_HOW = 'give BACKEND:WINDOW, such as refs:0.2 (seconds) or refs_split:10steps'
_NAMES = ('refs', 'refs_split', 'page_idle', 'uffd_wp', 'damon')
_START_SEC = 60.0
_END_SEC = 60.0
_CLOSE_SEC = 10.0
_NUMBER = 8  # bytes


class Wanted(NamedTuple):
  """What --trace_memory asks for: windows of seconds, or of steps."""

  backend: str
  seconds: float | None
  steps: int | None


def parse(text: str | None) -> Wanted | None:
  """From 'refs:0.2', 'refs_split:10steps' or 'refs'. Raises UsageError."""
  if text is None:
    return None
  backend, _, window = text.partition(':')
  match = re.fullmatch(r'(\d+)steps?|(\d*\.?\d+)', window or '0.2')
  if backend not in _NAMES or match is None or float(match[1] or match[2]) <= 0:
    raise UsageError(f'--trace_memory={text}: {_SAY_HOW}; backends are {", ".join(_NAMES)}.')
  if match[1]:
    if backend == 'damon':
      raise UsageError('--trace_memory: damon samples by time; give it a window of seconds.')
    return Wanted(backend, None, int(match[1]))
  return Wanted(backend, float(match[2]), None)


class NoMemoryTrace:
  """What a run has without --trace_memory: nothing, and a plain clock."""

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *_: object) -> None:
    return None

  def now(self) -> float:
    """Seconds of a monotonic clock, without those the process stood still for a sample."""
    return time.perf_counter()

  def step_ended(self, step: int) -> None:
    """So many steps are made."""

  def columns(self) -> dict[str, Any]:
    """For a row of the record."""
    return {}

  def summary(self) -> dict[str, Any] | None:
    """For the trial's outcome; None where nothing was traced."""
    return None


class MemoryTrace(NoMemoryTrace):
  """A tracer beside this process.

  Args:
    wanted: what it shall sample.
    path: of the trace.
    wait: returns when the device has finished; a window of steps ends then.
    allocator: bytes in use and at most, by device; [] where there is no accelerator.
    warn: called with what went wrong, a clause.

  Entering raises UsageError where the backend cannot be used here.
  """

  def __init__(
    self, wanted: Wanted, path: Path, wait: Callable[[], None],
    allocator: Callable[[], list[dict[str, Any]]], warn: Callable[[str], None],
  ) -> None:  # fmt: skip
    self._wanted, self._path = wanted, path
    self._wait, self._allocator, self._warn = wait, allocator, warn
    descriptor = os.memfd_create('memory_trace')
    os.ftruncate(descriptor, 2 * _NUMBER)
    self._shared_fd = descriptor
    self._shared = memoryview(mmap.mmap(descriptor, 2 * _NUMBER)).cast('q')
    self._waited_ns = 0  # for a window of steps, beside the pause in it
    self._program: subprocess.Popen[bytes] | None = None
    self._socket: socket.socket | None = None
    self._next_note = 0.0
    self._summary: dict[str, Any] = {'path': path.name, 'backend': wanted.backend}

  def __enter__(self) -> Self:
    from algorithmic_efficiency.memory_trace import agent
    from algorithmic_efficiency.memory_trace.tracing import forbid_huge_pages

    forbid_huge_pages()
    ours, theirs = socket.socketpair()
    wanted = self._wanted
    asked = {'path': str(self._path), 'backend': wanted.backend, 'sample_sec': wanted.seconds,
             'window_steps': wanted.steps, 'huge_pages': False}  # fmt: skip
    told = {
      'pid': os.getpid(),
      'socket': theirs.fileno(),
      'shared': self._shared_fd,
      'asked': asked,
    }
    self._program = subprocess.Popen(
      [sys.executable, '-m', f'{__package__}.beside', json.dumps(told)],
      pass_fds=[theirs.fileno(), self._shared_fd], start_new_session=True,
      env={**os.environ, 'PYTHONPATH': _search_path()},
    )  # fmt: skip
    theirs.close()
    os.close(self._shared_fd)  # what is shared stays mapped
    ours.settimeout(_START_SEC)
    self._socket, self._lines = ours, ours.makefile('rb')
    answer = self._hear()
    if 'agents' in answer:
      agent.start(answer['agents'])
      answer = self._hear()
    if 'error' in answer:
      self._close()
      raise UsageError(f'--trace_memory: {answer["error"]}')
    return self

  def __exit__(self, *_: object) -> None:
    if self._socket is None:
      return
    self._socket.settimeout(_END_SEC)
    self._say('end')
    if self._socket is not None:
      self._summary |= self._hear()
      if 'error' in self._summary:
        self._lose('it failed')
    self._close()

  def now(self) -> float:
    """Seconds, without those that it stood still, or waited for a sample."""
    while True:
      paused = self._shared[0]
      now = time.perf_counter()
      if paused == self._shared[0]:  # else it stood still between the two
        return now - (paused + self._waited_ns) * 1e-9

  def step_ended(self, step: int) -> None:
    """Ends a window of steps, if one is due; tells what the accelerator's allocator has."""
    self._shared[1] = step
    if self._socket is None:
      return
    now = time.monotonic()
    if now >= self._next_note:
      self._next_note = now + (self._wanted.seconds or 0.2)
      for device in self._allocator():
        self._say('allocator', ns=time.monotonic_ns(), step=step, **device)
    if self._wanted.steps is not None and step % self._wanted.steps == 0:
      self._wait()
      begin, paused = time.perf_counter_ns(), self._shared[0]
      self._say('sample')
      if self._socket is not None:
        self._hear()
      self._waited_ns += time.perf_counter_ns() - begin - (self._shared[0] - paused)

  def columns(self) -> dict[str, Any]:
    """Marks a row as of a traced run, with the seconds that were left out."""
    return {'memory_traced': True, 'accumulated_memory_trace_time': self._left_out_sec()}

  def summary(self) -> dict[str, Any] | None:
    """Where the trace is, its windows, and the seconds that were left out."""
    return {**self._summary, 'left_out_sec': self._left_out_sec()}

  def _left_out_sec(self) -> float:
    return (self._shared[0] + self._waited_ns) * 1e-9

  def _say(self, what: str, **more: Any) -> None:
    if self._socket is None:
      return
    try:
      self._socket.sendall(json.dumps({'say': what, **more}).encode() + b'\n')
    except OSError:  # a TimeoutError is one
      self._hear()  # it may have said why
      self._lose('it has ended')

  def _hear(self) -> dict[str, Any]:
    """What the tracer says; {} for its plain answer, and where it has ended."""
    try:
      line = self._lines.readline()
    except TimeoutError:
      line = b''
    if not line:
      self._lose('it does not answer')
      return {'error': 'the tracer could not be started.'}
    told = json.loads(line) if line.strip() else {}
    if 'error' in told and self._program is not None:
      self._summary['error'] = told['error']
    return told

  def _lose(self, why: str) -> None:
    """Training goes on without it."""
    if self._socket is not None:
      self._warn(f'the memory trace goes no further: {self._summary.get("error") or why}')
      self._close()

  def _close(self) -> None:
    if self._socket is not None:
      self._socket.close()
      self._socket = None
    if self._program is not None:
      try:
        self._program.wait(_CLOSE_SEC)
      except subprocess.TimeoutExpired:  # it hangs, and hears nothing
        self._program.kill()
        self._program.wait()


def _search_path() -> str:
  """PYTHONPATH by which the program beside finds this package, wherever the run has it from."""
  ours = str(Path(__file__).resolve().parents[2])
  before = os.environ.get('PYTHONPATH')
  return f'{ours}{os.pathsep}{before}' if before else ours
