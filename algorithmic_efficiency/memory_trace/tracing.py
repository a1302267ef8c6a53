"""This file opens a trace: the backend, the file with its header, and the sampler on a process."""

import contextlib
import datetime
import os
import signal
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import backends, filters
from algorithmic_efficiency.memory_trace.agents import Agents
from algorithmic_efficiency.memory_trace.backends import Backend
from algorithmic_efficiency.memory_trace.mappings import PAGE_BYTES
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.sampling import Pulse, Sampler, Settings
from algorithmic_efficiency.memory_trace.trace_file import Writer
from algorithmic_efficiency.records import metadata

HUGE_PAGES = Path('/sys/kernel/mm/transparent_hugepage/enabled')
_PR_SET_THP_DISABLE = 41
_CHUNK_BYTES = 64 << 10


@dataclass
class Asked:
  """What a trace is to be.

  Attributes:
    path: of the file.
    backend: of backends.NAMES.
    sample_sec: length of a window; None where windows are of training steps.
    window_steps: training steps of a window, or None.
    duration_sec: None: until the process ends.
    chunk_bytes: of a unit, for the backend that cuts.
    children: follow what the process starts.
    drop, keep, only_path: which mappings; see `filters.parse`.
    huge_pages: whether the process may have huge pages; known for one that we start.
    facts: more for the header.
  """

  path: Path
  backend: str = 'refs'
  sample_sec: float | None = 0.2
  window_steps: int | None = None
  duration_sec: float | None = None
  chunk_bytes: int = _CHUNK_BYTES
  children: bool = False
  drop: list[str] = field(default_factory=list[str])
  keep: list[str] = field(default_factory=list[str])
  only_path: str = ''
  huge_pages: bool = True
  facts: dict[str, Any] = field(default_factory=dict[str, Any])


class Tracing:
  """A trace that is about to begin.

  Raises UsageError where the backend cannot be used here, or something asked for makes no sense.
  """

  def __init__(self, asked: Asked) -> None:
    self.asked = asked
    self._keeps = filters.parse(asked.drop, asked.keep, asked.only_path)
    self._writer: Writer | None = None
    self.agents = Agents()
    try:
      self.backend: Backend = backends.load(
        asked.backend,
        chunk_bytes=asked.chunk_bytes,
        agents=self.agents,
        sample_sec=asked.sample_sec or 1.0,
      )
      if asked.children and not self.backend.CAPABILITIES.pauses:
        raise UsageError(f'the backend {asked.backend} watches one process; drop --children.')
      if reason := self.backend.probe():
        raise UsageError(f'the backend {asked.backend} cannot be used: {reason}.')
    except BaseException:
      self.agents.close()
      raise

  def run(
    self,
    process: Process,
    pulse: Pulse | None = None,
    tell: Callable[[int, int], None] = lambda number, touched: None,
  ) -> str:
    """Traces the process; returns why the trace ended. The process goes on if it has not ended.

    Raises MeasurementError where the disk refuses a line, and UsageError for a process that cannot
    be traced; signals end the trace in good order.
    """
    asked = self.asked
    writer = self._writer = Writer(asked.path, self._header(process))
    try:
      settings = Settings(asked.sample_sec, asked.duration_sec, asked.children, self._keeps)
      sampler = Sampler(self.backend, process, writer, settings, pulse, tell)
      with _signals(sampler):
        reason = sampler.run()
      writer.line('end', ns=_now_ns(), reason=reason)
    finally:
      writer.close()
    return reason

  def note(self, kind: str, **content: Any) -> None:
    """Adds a line of another kind to the trace that runs."""
    assert self._writer is not None
    self._writer.line(kind, **content)

  def close(self) -> None:
    """Lets go of the agents."""
    self.agents.close()

  def _header(self, process: Process) -> dict[str, Any]:
    asked, capabilities = self.asked, self.backend.CAPABILITIES
    return {
      'backend': asked.backend,
      'granularity': capabilities.granularity,
      'unit_bytes': self.backend.unit_bytes,
      'page_bytes': PAGE_BYTES,
      'sample_sec': asked.sample_sec,
      'window_steps': asked.window_steps,
      'pid': process.pid,
      'command': process.command(),
      'children': asked.children,
      'filters': {'drop': asked.drop, 'keep': asked.keep, 'path': asked.only_path},
      'capabilities': capabilities._asdict(),
      'perturbs': capabilities.perturbs,
      'huge_pages': 'as the process asks for' if asked.huge_pages else 'off in the process',
      'system_huge_pages': _system_huge_pages(),
      'clock': 'CLOCK_MONOTONIC, nanoseconds',
      'ns': _now_ns(),
      'started': datetime.datetime.now().astimezone().isoformat(timespec='milliseconds'),
      'kernel': os.uname().release,
      **metadata.describe_host(),
      **asked.facts,
    }


def forbid_huge_pages(forbidden: bool = True) -> None:
  """For this process and those that it starts from now on (prctl(2), PR_SET_THP_DISABLE).

  Of a huge page, one touch marks 512 pages. Raises OSError.
  """
  import ctypes

  libc = ctypes.CDLL(None, use_errno=True)
  if libc.prctl(_PR_SET_THP_DISABLE, int(forbidden), 0, 0, 0):
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _system_huge_pages() -> str | None:
  """'always', 'madvise' or 'never'; None where the kernel has none."""
  if not HUGE_PAGES.exists():
    return None
  return HUGE_PAGES.read_text().partition('[')[2].partition(']')[0]


def _now_ns() -> int:
  import time

  return time.monotonic_ns()


@contextlib.contextmanager
def _signals(sampler: Sampler) -> Generator[None, None, None]:
  """SIGINT and SIGTERM end the trace with its end line."""
  before = {}
  for number in (signal.SIGINT, signal.SIGTERM):
    name = signal.Signals(number).name
    before[number] = signal.signal(number, lambda *_, name=name: sampler.end(f'stopped by {name}'))
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
