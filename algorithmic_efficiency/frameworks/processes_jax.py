"""This file is how JAX's processes of a run talk. Its neighbour for PyTorch has the same names.

Every function is called by all processes, or by none; with one process none of them costs a thing.
"""

import json
import os
from typing import Any

import jax
import numpy as np

from algorithmic_efficiency.frameworks import environment


def join() -> None:
  """Meets the other processes, if the environment names any; before JAX is used for anything."""
  process = environment.this_process('jax')
  if process.count == 1 or jax.distributed.is_initialized():
    return
  if process.launcher_variable == 'JAX_PROCESS_ID':
    address = os.environ.get('JAX_COORDINATOR_ADDRESS')
    if not address:
      raise ValueError('JAX_PROCESS_ID is set but JAX_COORDINATOR_ADDRESS (host:port) is not')
    jax.distributed.initialize(address, process.count, process.index)
  else:
    jax.distributed.initialize()


def leave() -> None:
  """Parts from the others once all have come to the end."""
  if count() > 1:
    jax.distributed.shutdown()


def count() -> int:
  """Processes of this run."""
  return jax.process_count()


def index() -> int:
  """This process's number, from 0; process 0 writes the record."""
  return jax.process_index()


def share(value: Any) -> Any:
  """What process 0 gives, to all of them; anything that JSON can hold."""
  if count() == 1:
    return value
  from jax.experimental import multihost_utils

  data = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
  sent = multihost_utils.broadcast_one_to_all(np.resize(data, size))
  return json.loads(np.asarray(sent, np.uint8).tobytes())


def gather(numbers: list[float]) -> np.ndarray:
  """Every process's numbers: float64 [processes, numbers]."""
  own = np.asarray(numbers, np.float64)
  if count() == 1:
    return own[None]
  from jax.experimental import multihost_utils

  # As pairs of uint32, since JAX would make float32 of them.
  bits = multihost_utils.process_allgather(own.view(np.uint32))
  return np.ascontiguousarray(bits).view(np.float64)
