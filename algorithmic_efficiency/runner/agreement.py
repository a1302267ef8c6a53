"""This file lets several processes decide by time as one, without waiting at every step.

Each process has a clock of its own, and two that differ by a hair may disagree on whether an
evaluation is due; then one trains while the other waits for ever. So decisions rest on a time that
all have agreed on, the slowest process's. They exchange it only at steps agreed on before: half of
what is left until the next decision, at the speed of the last stretch, is made without asking. A
stretch is at most twice as long as the one before, since few steps tell little of the speed: those
that are only queued seem to take no time at all.
"""

from collections.abc import Callable
from typing import Any

_SHARE_WITHOUT_ASKING = 0.5  # of the steps until the next decision by time
_GROWTH = 2  # of a stretch over the one before
_LONGEST_SEC = 5.0  # between exchanges: steps may become slower, and who is asked to stop must tell


class Agreement:
  """Submission time that all processes of a run agree on.

  Args:
    processes: of the framework; None for one process.
    asked: whether this process has been asked to stop.

  Attributes:
    stops: some process has been asked to stop, and all know.
    exchanges: made so far.
  """

  def __init__(self, processes: Any = None, asked: Callable[[], bool] = lambda: False) -> None:
    self._processes = processes
    self._asked = asked
    self.stops = False
    self._alone: bool = processes is None or processes.count() == 1
    self._step = 0
    self._seconds = 0.0
    self._next_step = 0
    self.exchanges = 0

  def seconds(self, step: int, own_seconds: float, next_decision_sec: float) -> float:
    """The agreed time at a step; up to half a decision's distance old.

    Args:
      step: steps made; the same in every process.
      own_seconds: this process's submission time.
      next_decision_sec: when the next decision by time is due, in agreed time.
    """
    if self._alone:
      return own_seconds
    if step >= self._next_step:
      self._exchange(step, own_seconds, next_decision_sec)
    return self._seconds

  def slowest(self, step: int, own_seconds: float) -> float:
    """The agreed time, by an exchange now; to be called by all processes at the same step."""
    if self._alone:
      return own_seconds
    self._exchange(step, own_seconds, own_seconds)
    return self._seconds

  def _exchange(self, step: int, own_seconds: float, next_decision_sec: float) -> None:
    told = self._processes.gather([own_seconds, float(self._asked())]).max(axis=0)
    now, self.stops = float(told[0]), bool(told[1])
    self.exchanges += 1
    ahead = 0
    if step > self._step:
      sec_per_step = max((now - self._seconds) / (step - self._step), 1e-9)
      sec_ahead = min(_SHARE_WITHOUT_ASKING * (next_decision_sec - now), _LONGEST_SEC)
      ahead = min(int(sec_ahead / sec_per_step), _GROWTH * (step - self._step))
    self._step, self._seconds = step, now
    self._next_step = step + max(1, ahead)
