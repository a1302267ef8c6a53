"""This file is the sampling loop: stop, collect, reset, let go on, and only then make sense of it.

Whatever happens to this program, the processes go on: in every way out of the pause, and by the
keeper beside it (`keeper.py`) if this program is killed within.
"""

import contextlib
import select
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace.backends import Backend, Watch
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.keeper import Keeper
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.trace_file import Window, Writer

_STOP_LIMIT_SEC = 2.0  # for all threads to stop; one may wait for a disk, out of reach
_PAUSE_LIMIT_SEC = 60.0  # after which the keeper lets processes go on


@dataclass
class Settings:
  """How to sample.

  Attributes:
    sample_sec: from the end of a pause to the next; None where `pulse` says when.
    duration_sec: None: until the process ends.
    children: follow what it starts, and what those start.
    keeps: what a mapping must satisfy.
  """

  sample_sec: float | None = 0.2
  duration_sec: float | None = None
  children: bool = False
  keeps: Sequence[Filter] = field(default_factory=list[Filter])


class Pulse:
  """What the sampler hears from outside while it waits; this one hears nothing.

  Attributes:
    fileno: a descriptor that becomes readable when there is something to hear; -1: none.
  """

  fileno = -1

  def hear(self) -> str:
    """What is asked: 'sample' now, 'end' the trace, or '' nothing."""
    return ''

  def sampled(self) -> None:
    """The sample that was asked for is taken; the process goes on."""

  def paused(self, nanoseconds: int) -> None:
    """Told within every pause, just before the process goes on: how long it stood still."""

  def step(self) -> int | None:
    """Training steps made so far."""
    return None


class _Target(NamedTuple):
  process: Process
  watch: Watch


class Sampler:
  """Samples a process until it ends.

  Args:
    backend: what sees the touches.
    process: it and, if asked, its descendants.
    writer: of the trace.
    settings: when, and of what.
    pulse: what is heard from outside.
    tell: called after every window with its number and the bytes touched in it.
  """

  def __init__(
    self, backend: Backend, process: Process, writer: Writer, settings: Settings,
    pulse: Pulse | None = None, tell: Callable[[int, int], None] = lambda number, touched: None,
  ) -> None:  # fmt: skip
    self._backend, self._writer, self._settings = backend, writer, settings
    self._pulse = pulse or Pulse()
    self._tell = tell
    self._main = process
    self._targets: dict[int, _Target] = {}
    self._gone: list[Process] = []
    self._keeper = Keeper()
    self._pauses = backend.CAPABILITIES.pauses
    self._asked_to_end = ''

  def end(self, reason: str) -> None:
    """Ends the trace after the window that runs; for signal handlers."""
    self._asked_to_end = reason

  def run(self) -> str:
    """Samples; returns why it ended. The processes go on."""
    try:
      return self._run()
    except ProcessLookupError:
      return 'the process ended'
    finally:
      for target in self._targets.values():
        with contextlib.suppress(ProcessLookupError):
          target.watch.close()
        if target.process is not self._main:
          target.process.close()
      self._keeper.close()

  def _run(self) -> str:
    if self._main.is_stopped():
      raise UsageError(
        f'process {self._main.pid} is stopped; let it go on first (kill -CONT {self._main.pid}).'
      )
    self._follow(self._main)
    settings, number = self._settings, 0
    started = time.monotonic()
    begins = self._mark()
    since = time.monotonic()
    while True:
      why = self._wait(since, started)
      since = time.monotonic()
      if self._main.has_ended():
        return 'the process ended'
      if self._main.is_stopped():
        self._writer.line('missed', number=number, ns=time.monotonic_ns(), reason='stopped')
        if why:
          return why
        continue
      begins = self._window(number, begins)
      # What the last window told was made sense of in this one; if that took longer, this one is.
      since = max(begins.values(), default=time.monotonic_ns()) / 1e9
      number += 1
      if why:
        return why
      if settings.duration_sec is not None and time.monotonic() - started >= settings.duration_sec:
        return 'its time is over'

  def _mark(self) -> dict[int, int]:
    """Begins the first window of each target that has none; by pid, when it began."""
    with self._paused(self._targets.values()) as stopped:
      for target in stopped:
        target.watch.reset()
      self._pulse.paused(time.monotonic_ns() - self._stopped_ns)
    now = time.monotonic_ns()
    return {target.process.pid: now for target in stopped}

  def _window(self, number: int, begins: dict[int, int]) -> dict[int, int]:
    """Ends a window and begins the next; what was collected is written while they run."""
    if self._settings.children:
      self._follow_children()
    raws: list[tuple[_Target, Any]] = []
    with self._paused(self._targets.values()) as stopped:
      end_ns = self._stopped_ns
      for target in stopped:
        with self._leaving(target):
          if target.process.pid in begins:
            raws.append((target, target.watch.collect()))
          target.watch.reset()
      step = self._pulse.step()
      paused_ns = time.monotonic_ns() - end_ns
      self._pulse.paused(paused_ns)
    next_ns = time.monotonic_ns()
    self._pulse.sampled()
    total = 0
    for target, raw in raws:
      pid = target.process.pid
      with self._leaving(target):
        touched = target.watch.decode(raw)
        total += touched.touched
        window = Window(number, begins[pid], end_ns, paused_ns if self._pauses else 0, step)
        self._writer.sample(pid, window, touched)
    self._tell(number, total)
    # One that could not be stopped in time was neither read nor marked: its window goes on.
    later = {pid: begins[pid] for pid in self._targets.keys() & begins.keys()}
    return later | {t.process.pid: next_ns for t in stopped if t.process.pid in self._targets}

  @contextlib.contextmanager
  def _paused(self, targets: Any) -> Generator[list[_Target], None, None]:
    """Those that have stopped, within; all go on after."""
    # One that somebody else has stopped is not ours to let go on.
    wanted: list[_Target] = [t for t in targets if not _stands_still(t.process)]
    stopped: list[_Target] = []
    if not self._pauses:
      self._stopped_ns = time.monotonic_ns()
      yield wanted
      return
    self._keeper.stopping((t.process.pid for t in wanted), _PAUSE_LIMIT_SEC)
    try:
      for target in wanted:
        with self._leaving(target):
          if target.process.stop(_STOP_LIMIT_SEC):
            stopped.append(target)
          else:
            self._writer.line(
              'missed', pid=target.process.pid, ns=time.monotonic_ns(), reason='did not stop'
            )
      self._stopped_ns = time.monotonic_ns()
      yield stopped
    finally:
      for target in wanted:
        target.process.go_on()
      self._keeper.going_on()

  @contextlib.contextmanager
  def _leaving(self, target: _Target) -> Generator[None, None, None]:
    """Lets go of a child that ends within; the end of the process itself ends the trace."""
    try:
      yield
    except ProcessLookupError:
      if target.process is self._main:
        raise
      self._targets.pop(target.process.pid, None)
      self._gone.append(target.process)  # closed when nobody signals it any more

  def _follow(self, process: Process) -> None:
    watch = self._backend.watch(process, self._settings.keeps)
    self._targets[process.pid] = _Target(process, watch)
    self._writer.line('process', pid=process.pid, ns=time.monotonic_ns(), command=process.command())

  def _follow_children(self) -> None:
    """Takes in what was started since, and lets go of what has ended."""
    while self._gone:
      self._gone.pop().close()
    for target in list(self._targets.values()):
      if target.process is not self._main and target.process.has_ended():
        target.process.close()
        del self._targets[target.process.pid]
    waiting = [target.process for target in self._targets.values()]
    while waiting:
      for pid in waiting.pop().children():
        if pid not in self._targets:
          with contextlib.suppress(UsageError, ProcessLookupError):  # it has ended, or may not be
            child = Process(pid)
            self._follow(child)
            waiting.append(child)

  def _wait(self, since: float, started: float) -> str:
    """Until the window ends; returns why the trace ends with it, if it does."""
    settings, pulse = self._settings, self._pulse
    poll = select.poll()
    poll.register(self._main.fileno(), select.POLLIN)
    if pulse.fileno >= 0:
      poll.register(pulse.fileno, select.POLLIN)
    ends: list[float] = []
    if settings.sample_sec is not None:
      ends.append(since + settings.sample_sec)
    if settings.duration_sec is not None:
      ends.append(started + settings.duration_sec)
    while not self._asked_to_end:
      left = min(ends) - time.monotonic() if ends else 1.0
      ready = {fd for fd, _ in poll.poll(1000 * min(max(left, 0.0), 1.0))}
      if self._main.fileno() in ready:
        return 'the process ended'
      if pulse.fileno in ready:
        asked = pulse.hear()
        if asked == 'sample':
          return ''
        if asked == 'end':
          return 'ended from outside'
      if ends and left <= 0:
        return ''
    return self._asked_to_end


def _stands_still(process: Process) -> bool:
  try:
    return process.is_stopped()
  except ProcessLookupError:
    return False  # whoever stops it is told that it has ended
