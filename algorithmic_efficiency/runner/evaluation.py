"""This file evaluates within limits: of memory, by smaller batches, and of time."""

import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from typing import Any

from algorithmic_efficiency.errors import SubmissionError
from algorithmic_efficiency.runner.interrupts import Interrupts, TooLong
from algorithmic_efficiency.runner.trial import Metrics, Trial

_log = logging.getLogger(__name__)

_GRACE_SEC = 10.0  # after its limit, before an evaluation that hears no exception ends the process


class Evaluation:
  """Evaluates a trial.

  Args:
    workload: evaluated on.
    framework: of the run.
    interrupts: of the run.
    limit_sec: of one evaluation; None for none.
    end_at_once: called with the reason, in another thread, for one that hangs in foreign code.
  """

  def __init__(
    self,
    workload: Any,
    framework: Any,
    interrupts: Interrupts,
    limit_sec: float | None,
    end_at_once: Callable[[str], None],
  ) -> None:
    self._workload = workload
    self._framework = framework
    self._interrupts = interrupts
    self._limit_sec = limit_sec
    self._end_at_once = end_at_once

  def __call__(self, trial: Trial) -> Metrics:
    """Metrics on all splits. Raises SubmissionError if memory or time do not suffice."""
    while True:
      size: int = self._workload.eval_batch_size
      try:
        with self._in_time(trial.global_step):
          return self._workload.evaluate(trial.params, trial.model_state)
      except Exception as error:
        alone = self._framework.processes.count() == 1
        if not alone or not self._framework.is_out_of_memory(error):
          raise
        if not self._workload.halve_eval_batch_size():
          raise SubmissionError(
            f'the evaluation at step {trial.global_step:,} ran out of memory, even with '
            f'{size} examples at a time'
          ) from error
      # Out of the handler, since an exception keeps alive all that was on the stack.
      _log.warning(
        'the evaluation at step %s ran out of memory with %d examples at a time; trying %d.',
        f'{trial.global_step:,}', size, self._workload.eval_batch_size,
      )  # fmt: skip

  @contextlib.contextmanager
  def _in_time(self, step: int) -> Generator[None, None, None]:
    if self._limit_sec is None:
      yield
      return
    reason = (
      f'the evaluation at step {step:,} took longer than {self._limit_sec:g} s (--eval_timeout_sec)'
    )
    last_resort = threading.Timer(
      self._limit_sec + _GRACE_SEC, self._end_at_once, [f'{reason} and could not be broken off']
    )
    last_resort.daemon = True
    last_resort.start()
    try:
      with self._interrupts.limited(self._limit_sec):
        yield
    except TooLong as error:
      raise SubmissionError(reason) from error
    finally:
      last_resort.cancel()
