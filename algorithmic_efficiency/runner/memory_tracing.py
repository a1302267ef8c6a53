"""This file hands a trial's memory trace what it needs of the rooms around it."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from algorithmic_efficiency.memory_trace.handle import MemoryTrace, NoMemoryTrace
from algorithmic_efficiency.records.run_folder import TrialFolder


def make(
  study: Any, folder: TrialFolder, wait: Callable[[], None], warn: Callable[[str], None]
) -> NoMemoryTrace:
  """The memory trace of a trial; one that does nothing without --trace_memory."""
  wanted = study.plan.memory
  if wanted is None:
    return NoMemoryTrace()
  processes = study.framework.processes
  path = free_path(folder, processes.index() if processes.count() > 1 else None)
  return MemoryTrace(wanted, path, wait, study.framework.allocated, warn)


def free_path(folder: TrialFolder, process: int | None) -> Path:
  """Of the trace: a trial that is taken up again has another beside the first."""
  for number in itertools.count(1):
    path = folder.memory(process, number)
    if not path.exists():
      return path
  raise AssertionError('itertools.count does not end')
