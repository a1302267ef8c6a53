"""This file is on_jax.py for submissions that map their step over devices with jax.pmap.

They get parameters and model state replicated along a leading axis, one copy for each local
device, and batches of shape [local devices, examples of one device, …]. All else is as on_jax.py
has it; evaluations run there.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax import jax_utils

from algorithmic_efficiency import jax_sharding_utils
from algorithmic_efficiency.frameworks import processes_jax as processes
from algorithmic_efficiency.frameworks import state_jax as state
from algorithmic_efficiency.frameworks.on_jax import (
  NAME,
  activate,
  allocated,
  apply,
  compile_does_not_help,
  compile_seconds,
  describe_devices,
  device,
  device_uuids,
  free_memory,
  init,
  is_out_of_memory,
  keys,
  loss,
  num_devices,
  num_params,
  param_shapes,
  param_types,
  place,
  predictor,
  seed,
  snapshot,
  wait,
)

__all__ = [
  'NAME',
  'activate',
  'allocated',
  'apply',
  'compile_does_not_help',
  'compile_seconds',
  'describe_devices',
  'device',
  'device_uuids',
  'free_memory',
  'init',
  'is_out_of_memory',
  'keys',
  'loss',
  'num_devices',
  'num_params',
  'param_shapes',
  'param_types',
  'place',
  'place_all',
  'predictor',
  'processes',
  'seed',
  'snapshot',
  'state',
  'unwrap',
  'wait',
  'wrap',
]


def place_all(batches: Iterator[Any]) -> Iterator[Any]:
  """Batches with their examples dealt to the local devices, along a leading axis."""
  devices = jax.local_device_count()

  def deal(array: np.ndarray) -> np.ndarray:
    return array.reshape(devices, -1, *array.shape[1:])

  return ({name: deal(array) for name, array in batch.items()} for batch in batches)


def wrap(params: Any, model_state: Any, compiled: bool) -> tuple[Any, Any]:
  """The parameters and model state, one copy for each local device along a leading axis."""
  del compiled  # a submission compiles its own step
  return jax_utils.replicate(jax.device_get((params, model_state)))


def unwrap(params: Any, model_state: Any) -> tuple[Any, Any]:
  """The first device's copy, whole on every device; evaluations look at these."""

  def first_of(copies: Any) -> Any:
    return (copies.addressable_data(0) if isinstance(copies, jax.Array) else copies)[0]

  first = jax.tree.map(first_of, (params, model_state))
  if jax.device_count() == 1:
    return first
  # By way of the host, since a device of another process cannot be copied to.
  return jax_sharding_utils.replicate(jax.device_get(first))
