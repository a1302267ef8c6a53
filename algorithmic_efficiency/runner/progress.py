"""This file shows a person how a trial gets on: a live line on a terminal, plain lines in a log."""

import logging
import sys
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)

_REDRAW_SEC = 0.2  # of the live line; more often only costs the trial
_PLAIN_SEC = 60.0  # between lines in a log while no evaluation has anything to say
_WIDTH = 20  # of the bar, in characters


class Progress:
  """Lines about one trial.

  Args:
    title: 'trial 1/2'.
    budget_sec: submission time the trial may use.
    max_global_steps: steps it may use, or None; the bar shows whichever is nearer its end.
    targets: the metrics with a target, for the evaluation lines.
    quiet: draws no live line.
    joules: drawn so far; None where nothing tells.
  """

  def __init__(
    self,
    title: str,
    budget_sec: float,
    max_global_steps: int | None,
    targets: list[str],
    quiet: bool = False,
    joules: Callable[[], float | None] = lambda: None,
  ) -> None:
    self._title = title
    self._budget_sec = budget_sec
    self._max_steps = max_global_steps
    self._targets = targets
    self._live = sys.stdout.isatty() and not quiet
    self._pause = _REDRAW_SEC if self._live else _PLAIN_SEC
    self._next = self._pause
    self._joules = joules
    self._joules_shown = ''
    self._joules_due = 0.0
    self._loss_shown = ''
    self._last_step, self._last_sec = 0, 0.0
    self._drawn = False

  def tick(self, step: int, seconds: float) -> None:
    """Called after every step; `seconds` of submission time. Usually only compares two numbers."""
    if seconds < self._next:
      return
    self._next = seconds + self._pause
    line = self._line(step, seconds)
    if self._live:
      self._write(f'\r\x1b[2K{self._bar(step, seconds)} {line}')
      self._drawn = True
    else:
      _log.info('%s', line)

  def evaluated(self, step: int, seconds: float, metrics: dict[str, Any]) -> None:
    """Says what an evaluation found."""
    self.clear()
    loss = metrics.get('validation/loss')
    self._loss_shown = '' if loss is None else f'loss {loss:.4f}  '
    names = dict.fromkeys(('train/loss', 'validation/loss', *self._targets))  # each once
    shown = [f'{self._title}  step {step:>6,}  {seconds:>7.2f} s']
    shown += [f'{name} {metrics[name]:.4f}' for name in names if name in metrics]
    _log.info('%s', '  '.join(shown))
    self._next = seconds + self._pause

  def clear(self) -> None:
    """Wipes the live line so that another can be printed in its place."""
    if self._drawn:
      self._write('\r\x1b[2K')
      self._drawn = False

  def _write(self, text: str) -> None:
    try:
      sys.stdout.write(text)
      sys.stdout.flush()
    except OSError:  # the terminal was closed; that is no reason to stop
      self._live = False

  def _line(self, step: int, seconds: float) -> str:
    rate = (step - self._last_step) / max(seconds - self._last_sec, 1e-9)
    self._last_step, self._last_sec = step, seconds
    return (
      f'{self._title}  step {step:,}  {rate:,.0f} steps/s  {self._loss_shown}'
      f'{self._energy(seconds)}{seconds:.1f} s of {self._budget_sec:g} s'
    )

  def _energy(self, seconds: float) -> str:
    """Asked of the devices at most once a second: that is on the submission's clock."""
    if seconds >= self._joules_due:
      joules, self._joules_due = self._joules(), seconds + 1.0
      self._joules_shown = '' if joules is None else f'{_in_units(joules)}  '
    return self._joules_shown

  def _bar(self, step: int, seconds: float) -> str:
    done = seconds / self._budget_sec
    if self._max_steps:
      done = max(done, step / self._max_steps)
    filled = min(_WIDTH, int(done * _WIDTH))
    return f'[{"#" * filled}{"." * (_WIDTH - filled)}]'


def _in_units(joules: float) -> str:
  """'812 J', '12.3 kJ', '4.56 MJ'."""
  if joules < 1e4:
    return f'{joules:,.0f} J'
  return f'{joules / 1e3:,.1f} kJ' if joules < 1e7 else f'{joules / 1e6:,.2f} MJ'
