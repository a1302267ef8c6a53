"""This file writes submissions that take their time: tests stop and kill runs that use them.

On a fast machine the digits are learnt in less time than a signal needs to reach a container, so
no test may count on a run being still there; one of these is. It hurries once it is let go.
"""

from pathlib import Path

_SOURCE = '''"""{baseline}, with a pause before each step."""

import time
from pathlib import Path

from baselines.mnist.{baseline}.submission import (
  get_batch_size,
  init_optimizer_state,
  update_params,
)

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def data_selection(
  workload,
  input_queue,
  optimizer_state,
  current_param_container,
  model_state,
  hyperparameters,
  global_step,
  rng,
):
  if global_step >= {after_step} and not Path(__file__).with_name('go').exists():
    time.sleep({pause_sec})
  return next(input_queue)
'''


def write_submission(
  folder: Path, framework: str, pause_sec: float = 0.1, after_step: int = 0
) -> Path:
  """The file of a submission for `framework` that waits `pause_sec` before each later step."""
  path = folder / f'slowly_{framework}' / 'submission.py'
  path.parent.mkdir(parents=True, exist_ok=True)
  baseline = f'mnist_{framework}'
  path.write_text(_SOURCE.format(baseline=baseline, pause_sec=pause_sec, after_step=after_step))
  return path


def hold(folder: Path) -> None:
  """Takes `let_go` back."""
  for path in folder.glob('slowly_*/go'):
    path.unlink()


def let_go(folder: Path) -> None:
  """Ends the waiting of the submissions in `folder`."""
  for path in folder.glob('slowly_*'):
    (path / 'go').touch()
