"""This file traces the steps of a trial that --profile_steps names, and leaves the trial alone.

Whatever goes wrong with a profiler is told in one warning and recorded; training goes on. The
profilers themselves are in collect_jax.py and collect_pytorch.py.
"""

import contextlib
import importlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.appended_file import to_json
from algorithmic_efficiency.records.run_folder import TraceFolder
from algorithmic_efficiency.records.whole_files import write_whole

_log = logging.getLogger(__name__)

SCHEMA = 1  # of profile.json

# Longer numbers are steps that no run has, and int() refuses thousands of digits.
_PATTERN = re.compile(r'([0-9]{1,18}):([0-9]{1,18})')


@dataclass(frozen=True)
class Window:
  """The steps `start` to `stop` - 1, as global_step counts them before their update."""

  start: int
  stop: int

  def __str__(self) -> str:
    """As the flag has it, in one spelling."""
    return f'{self.start}:{self.stop}'


def parse(text: str | None, max_global_steps: int | None) -> Window | None:
  """The window that --profile_steps names; None without one. Raises UsageError."""
  if text is None:
    return None
  match = _PATTERN.fullmatch(text)
  if match is None:
    raise UsageError(
      f'--profile_steps={text!r} is not two whole numbers START:STOP; 10:13 traces steps 10, 11 '
      'and 12.'
    )
  window = Window(int(match[1]), int(match[2]))
  if window.start >= window.stop:
    raise UsageError(
      f'--profile_steps={window} names no step, since STOP is not traced; give a larger STOP than '
      'START.'
    )
  if window.start == 0:
    raise UsageError(
      f'--profile_steps={window} begins with step 0, which compiles and warms up; begin with step '
      '1 or later.'
    )
  if max_global_steps is not None and window.stop > max_global_steps:
    raise UsageError(
      f'--profile_steps={window} ends beyond --max_global_steps={max_global_steps}; give a STOP of '
      f'at most {max_global_steps}, or more steps.'
    )
  return window


def load_collector(framework: str, device: str) -> Any:
  """The profiler of 'jax' or 'pytorch' for a kind of device, imported now."""
  return importlib.import_module(f'{__package__}.collect_{framework}').Collector(device)


@dataclass(frozen=True)
class Surroundings:
  """What a profiler is handed of the rooms around it.

  Attributes:
    warn: tells a person what is wrong with the trial: what comes after its name.
    charge: makes a context whose time is the account 'profiling'; the device is idle at its ends.
    seconds: of that account so far.
    steps_made: of the trial so far.
    model: the parameters, whose layers PyTorch's profiler names; None to name none.
    facts: plain data about the run and the machine.
    hardware: clocks of the devices now, and the time.
  """

  warn: Callable[[str], None]
  charge: Callable[[], contextlib.AbstractContextManager[None]]
  seconds: Callable[[], float]
  steps_made: Callable[[], int]
  model: Callable[[], Any]
  facts: Callable[[], Mapping[str, Any]]
  hardware: Callable[[], Mapping[str, Any]]


class NoProfiler:
  """Traces nothing; a context around a trial's training."""

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    """Training has ended, by an exception of `kind` if there was one."""

  def begin_step(self, step: int) -> None:
    """A step begins; `step` were made before."""

  def end_step(self) -> None:
    """It has ended."""

  def annotate(self, name: str) -> contextlib.AbstractContextManager[Any]:
    """A context that marks in the trace what is done within."""
    del name
    return contextlib.nullcontext()

  def columns(self) -> dict[str, Any]:
    """The columns of a row."""
    return {}

  def summary(self) -> dict[str, Any] | None:
    """For trial.json and profile.json."""
    return None

  def state(self) -> dict[str, Any] | None:
    """What a checkpoint must hold of it."""
    return None

  def take_up(self, state: Mapping[str, Any] | None, step: int) -> None:
    """Goes on from a checkpoint that was made after `step` steps."""


class Profiler(NoProfiler):
  """Traces the steps of a window.

  Args:
    window: the steps.
    collector: the framework's profiler.
    folder: where the trace goes; what is there when the window opens is put aside.
    around: what else it needs.
  """

  def __init__(
    self, window: Window, collector: Any, folder: TraceFolder, around: Surroundings
  ) -> None:
    self._window = window
    self._collector = collector
    self._folder = folder
    self._around = around
    self._prepared = self._open = self._over = False
    self._opened = False  # now or before: the trial's times are those of a profiled run
    self._step: contextlib.AbstractContextManager[Any] | None = None
    self._traced: list[int] = []  # the first, and the one after the last
    self._files: list[str] = []
    self._seconds = 0.0
    self._problem: str | None = None
    self._at_begin: Mapping[str, Any] = {}

  def __exit__(self, kind: Any, *_: Any) -> None:
    """Stops what still runs; a trial that came to its own end too early is told what to do."""
    if self._over:
      return
    self._leave_step()
    early = kind is None
    if self._open:
      # A device that failed is not waited for, and the account of a run that ends is no matter.
      with self._around.charge() if early else contextlib.nullcontext():
        self._close()
      first, stop = self._traced
      kept = f'the trace has {stop - first} of the steps' if self._files else 'there is no trace'
    else:
      self._over = True
      self._abandon()
      kept = 'there is no trace'
    if early and self._problem is None:
      self._complain(
        f'ended after {self._around.steps_made():,} steps, so {kept} of '
        f'--profile_steps={self._window}; give earlier steps, or let trials train for longer'
      )
      self._write()

  def begin_step(self, step: int) -> None:
    """Prepares one step before the window, and opens it."""
    if self._over or step < self._window.start - 1:
      return
    if not self._open:
      with self._around.charge():
        self._approach(step)
    if self._open:
      mark = self._step = self._collector.step(step)
      mark.__enter__()

  def end_step(self) -> None:
    """Closes the window after its last step."""
    if not self._open:
      return
    self._leave_step()
    self._traced[1] += 1
    if self._traced[1] == self._window.stop:
      with self._around.charge():
        self._close()

  def annotate(self, name: str) -> contextlib.AbstractContextManager[Any]:
    """A context that marks in the trace what is done within."""
    return self._collector.annotate(name) if self._open else contextlib.nullcontext()

  def columns(self) -> dict[str, Any]:
    """Whether the times of this row are those of a profiled run, and what profiling took."""
    return {'profiled': self._opened, 'accumulated_profiling_time': self._around.seconds()}

  def summary(self) -> dict[str, Any]:
    """For trial.json and profile.json; steps are half-open, as the flag has them."""
    return {
      'steps_asked': [self._window.start, self._window.stop],
      'steps_traced': list(self._traced),
      'files': list(self._files),
      'seconds': self._seconds,
      'problem': self._problem,
    }

  def state(self) -> dict[str, Any]:
    """What a checkpoint must hold of it."""
    return {'opened': self._opened, **self.summary()}

  def take_up(self, state: Mapping[str, Any] | None, step: int) -> None:
    """A trace whose window had passed is kept; of any other all that can be is made anew."""
    if state is None:
      return
    self._opened = state['opened']
    if step >= self._window.stop:
      self._over = True
      self._traced, self._files = list(state['steps_traced']), list(state['files'])
      self._seconds, self._problem = state['seconds'], state['problem']

  def _approach(self, step: int) -> None:
    """Warms the profiler up; in the window (a trial may be taken up within it) also opens it."""
    began = time.perf_counter()
    try:
      if not self._prepared:
        self._folder.make_anew()
        self._collector.prepare()
        self._prepared = True
      if step >= self._window.start:
        self._at_begin = self._around.hardware()
        self._collector.start(self._around.model(), self._folder)
        self._open = self._opened = True
        self._traced = [step, step]
    except Exception as error:  # noqa: BLE001 - a profiler may raise anything
      self._over = True
      self._complain(f'cannot be profiled ({_reason(error)}); it goes on without a trace')
      self._abandon()
      self._write()
    self._seconds += time.perf_counter() - began

  def _close(self) -> None:
    """Stops the profiler and writes what it has."""
    self._open, self._over = False, True
    began = time.perf_counter()
    try:
      self._collector.stop(self._folder)
      self._files = self._folder.files()
    except Exception as error:  # noqa: BLE001 - a profiler may raise anything
      self._complain(f'has no trace, which cannot be written ({_reason(error)}); it goes on')
      self._folder.empty()  # half a trace is none, and JAX's profiler needs room to be stopped
      self._abandon()
      self._folder.empty()
    self._seconds += time.perf_counter() - began
    self._write()

  def _leave_step(self) -> None:
    if self._step is not None:
      self._step.__exit__(None, None, None)
      self._step = None

  def _abandon(self) -> None:
    """Stops whatever runs and forgets it; why is told already."""
    try:
      self._collector.abandon()
    except Exception as error:  # noqa: BLE001 - a profiler may raise anything
      _log.debug('The profiler cannot be stopped: %s.', _reason(error))

  def _write(self) -> None:
    """profile.json; a disk that refuses it is told unless something is told already."""
    if not self._folder.path.is_dir():  # the window is far away, or the folder cannot be made
      return
    try:
      content = {
        'schema': SCHEMA,
        **self.summary(),
        **self._around.facts(),
        'begin': self._at_begin,
        'end': self._around.hardware(),
      }
      write_whole(self._folder.profile, json.dumps(to_json(content), indent=2) + '\n')
    except Exception as error:  # noqa: BLE001 - what a profiler tells of itself may raise anything
      if self._problem is None:
        reason = _reason(error.__cause__ or error)
        self._complain(f'has a trace that no profile.json describes ({reason}); it goes on')

  def _complain(self, problem: str) -> None:
    self._problem = problem
    self._around.warn(problem)


def _reason(error: BaseException) -> str:
  """The first line of what it says."""
  told = str(error).strip().partition('\n')[0].rstrip('.')
  return told or type(error).__name__
