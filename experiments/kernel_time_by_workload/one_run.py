"""The command of a run, on few cores and with small evaluations, which are not what is asked here.

python one_run.py CORES --workload=… --framework=… …

CORES are how many the run may use on a CPU, 0 for all there are: on one core a duration is not a
sum over threads.
"""

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

EVALUATED = 16


def main() -> None:
  """Runs it, as submission_runner.py does."""
  cores = int(sys.argv.pop(1))
  if cores and hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cores:])
  flags = dict(flag.removeprefix('--').split('=', 1) for flag in sys.argv[1:])
  if flags.get('data') == 'synthetic':  # real sets are as large as they are
    workload: Any = importlib.import_module(f'algorithmic_efficiency.workloads.{flags["workload"]}')
    workload.FACTS = dataclasses.replace(
      workload.FACTS, eval_batch_size=EVALUATED, num_eval_train_examples=EVALUATED,
      num_validation_examples=EVALUATED, num_test_examples=EVALUATED,
    )  # fmt: skip
  from algorithmic_efficiency import submission_runner

  submission_runner.main()


if __name__ == '__main__':
  main()
