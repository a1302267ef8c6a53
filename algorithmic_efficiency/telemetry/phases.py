"""This file marks what a trial does when, on the clock the samples have, into phases.jsonl.

Training is marked in slices of a second: `data` and `step` follow each other thousands of times a
second in a small network, and a line each would cost more than the step. What the bench does
between (evaluation, recording, checkpoint) is marked each time, with the energy counters at both
ends. `prepare_for_eval` has no counters: the device may still be busy with steps where it begins.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records.appended_file import AppendedFile, to_line
from algorithmic_efficiency.telemetry.energy import Meter

_SLICE_SEC = 1.0
TRAINING = ('data', 'step', 'prepare_for_eval')


class NoPhases:
  """Marks nothing."""

  def turn(self, phase: str) -> None:
    """A phase of training begins."""

  def step_ended(self, step: int) -> None:
    """A step has ended."""

  def observe(self, account: str) -> None:
    """The time since the last call was the account's."""


class Phases(NoPhases):
  """The marks of one trial.

  Args:
    file: appended to.
    meter: is told whose the joules were.
    counters: joules by device, now.
    compile_seconds: spent compiling so far.
    now: the clock of the samples.

  Attributes:
    seconds: of the host's time in each phase of training.
  """

  def __init__(
    self,
    file: AppendedFile,
    meter: Meter,
    counters: Callable[[], Mapping[str, float]],
    compile_seconds: Callable[[], float] = lambda: 0.0,
    now: Callable[[], float] = time.monotonic,
  ) -> None:
    self._file = file
    self._meter = meter
    self._counters = counters
    self._compile_seconds = compile_seconds
    self._now = now
    self._compiled = compile_seconds()
    self.seconds: dict[str, float] = dict.fromkeys(TRAINING, 0.0)
    self._phase = ''
    self._since = self._observed = now()
    self._begin_slice(self._since)
    self._step = 0
    self.lost_lines = 0

  def turn(self, phase: str) -> None:
    """A phase of training begins; the host's time, since the device may lag behind."""
    now = self._now()
    if self._phase:
      self.seconds[self._phase] += now - self._since
    self._phase, self._since = phase, now

  def step_ended(self, step: int) -> None:
    """Counts the step; closes the slice if it is long enough."""
    self.turn('')  # what the bench itself does between steps is nobody's
    self._step = step
    self._count += 1
    if self._since - self._slice_begin >= _SLICE_SEC:
      self._end_slice()

  def observe(self, account: str) -> None:
    """The time since the last call was the account's; called when the device has finished."""
    now = self._now()
    joules = self._meter.turn(account, now, self._counters())
    if account == 'submission':
      self._end_slice()
    elif account != 'setup':
      line = {'phase': account, 'begin': self._observed, 'end': now, 'step': self._step}
      self._write({**line, **({'joules': joules} if joules else {})})
    self._note_compilation(account, self._observed, now)
    self._observed = now
    self._phase = ''  # the next turn begins one
    self._begin_slice(now)

  def _begin_slice(self, now: float) -> None:
    self._slice_begin, self._count = now, 0
    self._before = dict(self.seconds)

  def _end_slice(self) -> None:
    now = self._now()
    if self._phase:
      self.seconds[self._phase] += now - self._since
      self._since = now
    spent = {name: self.seconds[name] - self._before[name] for name in TRAINING}
    if self._count:
      line = {'phase': 'step', 'begin': self._slice_begin, 'end': now, 'step': self._step}
      times = {'steps': self._count, 'data_sec': spent['data'], 'step_sec': spent['step']}
      self._write({**line, **times})
    if spent['prepare_for_eval']:
      begin = now - spent['prepare_for_eval']
      self._write({'phase': 'prepare_for_eval', 'begin': begin, 'end': now, 'step': self._step})
    self._note_compilation('step', self._slice_begin, now)
    self._begin_slice(now)

  def _note_compilation(self, within: str, begin: float, end: float) -> None:
    seconds, self._compiled = self._compile_seconds() - self._compiled, self._compile_seconds()
    if seconds > 0:
      where = {'begin': begin, 'end': end, 'within': within}
      self._write({'phase': 'compile', **where, 'sec': seconds, 'step': self._step})

  def _write(self, line: dict[str, Any]) -> None:
    try:
      self._file.append(to_line(line))
    except MeasurementError:
      self.lost_lines += 1  # a full disk ends the run where a row is refused, not here
