"""This file reads from the environment whether this process is one of several of a run.

Launchers say so before any framework is imported: torchrun by RANK and WORLD_SIZE; for JAX,
JAX_PROCESS_ID and JAX_NUM_PROCESSES beside JAX's own JAX_COORDINATOR_ADDRESS, or SLURM or Open MPI
by their own variables, which JAX reads itself.
"""

import os
from typing import NamedTuple

# (index, count) of this process, by framework; the first pair that is set counts.
_VARIABLES = {
  'pytorch': (('RANK', 'WORLD_SIZE'),),
  'jax': (
    ('JAX_PROCESS_ID', 'JAX_NUM_PROCESSES'),
    ('SLURM_PROCID', 'SLURM_STEP_NUM_TASKS'),
    ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
  ),
}


class Process(NamedTuple):
  """One process of a run; `launcher_variable` is the name that told, or ''."""

  index: int = 0
  count: int = 1
  launcher_variable: str = ''


def this_process(framework: str) -> Process:
  """Which process of how many this is. ValueError for variables that are no numbers."""
  for index_name, count_name in _VARIABLES.get(framework, ()):
    index, count = os.environ.get(index_name), os.environ.get(count_name)
    if index is None or count is None:
      continue
    process = Process(int(index), int(count), index_name)
    if not 0 <= process.index < process.count:
      raise ValueError(f'{index_name}={index} does not count from 0 to {count_name}={count}')
    return process
  return Process()


def is_first(framework: str | None) -> bool:
  """Whether this process writes the record and talks; also where the variables make no sense."""
  frameworks = (framework,) if framework in _VARIABLES else tuple(_VARIABLES)
  try:
    return all(this_process(name).index == 0 for name in frameworks)
  except ValueError:
    return True
