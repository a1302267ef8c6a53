"""What JAX submissions import from the front door: shardings over a mesh of all devices.

The mesh has one axis, 'batch'. Replicated values live whole on every device; batches are split
along their first dimension.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def get_mesh() -> Mesh:
  """All devices in one axis named 'batch'."""
  return Mesh(np.asarray(jax.devices()), ('batch',))


def get_replicate_sharding(mesh: Mesh | None = None) -> NamedSharding:
  """The sharding of a value that every device holds whole."""
  return NamedSharding(mesh or get_mesh(), PartitionSpec())


def get_batch_dim_sharding(mesh: Mesh | None = None) -> NamedSharding:
  """The sharding of a batch: its first dimension is split over the devices."""
  return NamedSharding(mesh or get_mesh(), PartitionSpec('batch'))


def shard_along_batch_dim(x: Any, mesh: Mesh | None = None) -> Any:
  """Places every array of the tree `x` with its first dimension split over the devices."""
  return jax.device_put(x, get_batch_dim_sharding(mesh))


def replicate(x: Any, mesh: Mesh | None = None) -> Any:
  """Places every array of the tree `x` whole on every device.

  On the only device arrays are not tied to a mesh, so that a step compiled without shardings is
  not compiled anew when its outputs come back.
  """
  if mesh is None and jax.device_count() == 1:
    return jax.device_put(x)
  return jax.device_put(x, get_replicate_sharding(mesh))
