"""Runs the command and times every step, each waited for, whatever the profiler does around it.

  python one_run.py FILE FLAGS_OF_THE_COMMAND...

Writes the seconds of the steps into FILE as JSON. Waiting for every step is what the bench never
does; it is done to all steps here, traced or not.
"""

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency import submission_runner
from algorithmic_efficiency.runner import streams
from algorithmic_efficiency.submissions.submission import Submission


def main() -> None:
  """Runs it."""
  file = Path(sys.argv.pop(1))
  seconds: list[float] = []
  update, leave = Submission.update, streams.leave

  def timed(self: Submission, workload: Any, trial: Any, *arguments: Any) -> None:
    framework = importlib.import_module(
      'algorithmic_efficiency.frameworks.on_' + ('jax' if 'jax' in sys.modules else 'pytorch')
    )
    begin = time.perf_counter()
    update(self, workload, trial, *arguments)
    framework.wait(trial.params, trial.model_state, trial.optimizer_state)
    seconds.append(time.perf_counter() - begin)

  def write_and_leave(code: int) -> None:
    file.write_text(json.dumps(seconds))
    leave(code)

  timed_class: Any = Submission
  timed_class.update = timed
  streams.leave = write_and_leave
  submission_runner.main()


if __name__ == '__main__':
  main()
