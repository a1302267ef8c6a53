"""This file says what of a trial a checkpoint holds, and takes a trial up from one."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.runner.checkpoint import Saved
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.trial import Trial

# Of a Trial: what is plain, and what may be anything.
_PLAIN = (
  'global_step',
  'validation_goal_reached',
  'test_goal_reached',
  'training_complete',
  'submission_sec',
  'last_eval_submission_sec',
  'evaluation_pending',
)
_ROOTS = ('params', 'model_state', 'optimizer_state', 'eval_results')


class CountedQueue:
  """Batches, and how many of them have been drawn.

  Args:
    batches: from number `drawn` on.
    drawn: before.
  """

  def __init__(self, batches: Iterator[Any], drawn: int = 0) -> None:
    self._batches = batches
    self.drawn = drawn

  def __iter__(self) -> 'CountedQueue':
    return self

  def __next__(self) -> Any:
    batch = next(self._batches)
    self.drawn += 1
    return batch


def plain_part(trial: Trial, clock: Clock, queue: CountedQueue) -> dict[str, Any]:
  """What JSON can hold of a trial: where it is, its accounts, its place in the data."""
  state = {name: getattr(trial, name) for name in _PLAIN}
  return {'state': state, 'seconds': clock.accounts(), 'batches_drawn': queue.drawn}


def objects(trial: Trial, framework: Any) -> dict[str, Any]:
  """The rest: parameters, states, and the hidden random state that foreign code may draw from."""
  hidden = {
    'random': random.getstate(),
    'numpy': np.random.get_state(),
    'framework': framework.state.hidden(),
  }
  return {**{name: getattr(trial, name) for name in _ROOTS}, 'hidden': hidden}


def take_up(trial: Trial, clock: Clock, saved: Saved, framework: Any) -> None:
  """Makes of a freshly started trial what it was when it was saved. Raises UsageError."""
  fresh = {name: getattr(trial, name) for name in _ROOTS}
  found = saved.restore(fresh, framework)
  for name in _ROOTS:
    setattr(trial, name, found[name])
  state: Mapping[str, Any] = saved.content['state']
  if sorted(state) != sorted(_PLAIN):
    raise UsageError(f'{str(saved.path)!r} has other contents than this version writes.')
  for name in _PLAIN:
    setattr(trial, name, state[name])
  clock.take_up(saved.content['seconds'])
  random.setstate(found['hidden']['random'])
  np.random.set_state(found['hidden']['numpy'])
  framework.state.restore_hidden(found['hidden']['framework'])
