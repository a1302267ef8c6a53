"""This file turns JAX's arrays into bytes and back. Its neighbour for PyTorch has the same names.

An array comes back where it was: with the same sharding over the same devices, or not bound to any.
Each process stores what its own devices hold.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

ARRAYS_SUFFIX = '.npy'


def pack(x: Any, store: Callable[..., str], value: Callable[[Any], Any]) -> dict[str, Any] | None:
  """Plain data for an array, its bytes given to `store`; None for all else."""
  del value
  if not isinstance(x, jax.Array):
    return None
  if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
    packed = pack(jax.random.key_data(x), store, lambda _: None)
    return {**(packed or {}), 'key': str(jax.random.key_impl(x))}
  placed = {'dtype': x.dtype.name, 'shape': list(x.shape), 'weak': x.aval.weak_type,
            'sharding': _describe(x)}  # fmt: skip
  if x.is_fully_addressable or x.is_fully_replicated:
    return {**placed, 'bytes': store(np.asarray(x))}
  shards = {str(s.device.id): store(np.asarray(s.data)) for s in x.addressable_shards}
  return {**placed, 'shards': shards}


class Unpacking:
  """Arrays again, from bytes by name."""

  def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
    self._arrays = arrays
    self._devices = {device.id: device for device in jax.devices()}

  def unpack(self, node: Mapping[str, Any], fresh: Any, grad: Any) -> Any:
    """An array."""
    del grad
    made = self._array(node, fresh)
    return jax.random.wrap_key_data(made, impl=node['key']) if 'key' in node else made

  def _array(self, node: Mapping[str, Any], fresh: Any) -> jax.Array:
    sharding = self._sharding(node['sharding'], fresh)
    shape = tuple(node['shape'])
    if 'shards' in node:
      assert sharding is not None
      shard_shape = sharding.shard_shape(shape)
      shards = [
        jax.device_put(self._read(name, node['dtype'], shard_shape), self._devices[int(device)])
        for device, name in node['shards'].items()
      ]
      return jax.make_array_from_single_device_arrays(shape, sharding, shards)
    data = self._read(node['bytes'], node['dtype'], shape)
    if node['weak'] and not shape:
      return jnp.asarray(data.item())
    if sharding is None:
      return jnp.asarray(data)
    return jax.make_array_from_callback(shape, sharding, lambda index: data[index])

  def _read(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    # A copy: JAX may take the memory as it is, and what was read is one block.
    return self._arrays[name].view(jnp.dtype(dtype)).reshape(shape).copy()

  def _sharding(self, told: Mapping[str, Any] | None, fresh: Any) -> Any:
    if told is None:
      return None
    if 'device' in told:
      return SingleDeviceSharding(self._devices[told['device']])
    if 'mesh' in told:
      devices = np.array([self._devices[i] for i in told['mesh']]).reshape(told['mesh_shape'])
      parts = [tuple(part) if isinstance(part, list) else part for part in told['parts']]
      return NamedSharding(Mesh(devices, told['names']), PartitionSpec(*parts))
    return fresh.sharding  # of another kind: where the fresh start has it


def attributes(x: Any) -> dict[str, Any] | None:
  """Nothing of JAX's own has attributes that hold data."""
  del x
  return None


def hidden() -> dict[str, Any]:
  """JAX has no hidden random state."""
  return {}


def restore_hidden(state: Mapping[str, Any]) -> None:
  """There is none."""
  del state


def write(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays of bytes as one .npy after another; the first has all names, as JSON.

  numpy reads that by as many calls of np.load. A zip of them, .npz, takes twice as long.
  """
  names = np.frombuffer(json.dumps(list(arrays)).encode(), np.uint8)
  for array in (names, *arrays.values()):
    np.lib.format.write_array(file, array, allow_pickle=False)


def read(path: Path) -> dict[str, np.ndarray]:
  """What was written; runs no code from it."""
  with path.open('rb') as file:
    names = json.loads(np.lib.format.read_array(file, allow_pickle=False).tobytes())
    return {name: np.lib.format.read_array(file, allow_pickle=False) for name in names}


def _describe(x: jax.Array) -> dict[str, Any] | None:
  """Where an array is; None if it is bound to no device."""
  sharding = x.sharding
  if isinstance(sharding, NamedSharding):
    devices: Any = sharding.mesh.devices
    return {
      'mesh': [device.id for device in devices.flat],
      'mesh_shape': list(devices.shape),
      'names': list(sharding.mesh.axis_names),
      'parts': list(sharding.spec),
    }
  if isinstance(sharding, SingleDeviceSharding):
    (device,) = sharding.device_set
    return {'device': device.id} if x.committed else None
  return {'kind': type(sharding).__name__}
