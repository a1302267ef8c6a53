"""This file has the names that JAX has since removed, for submissions written before.

They are lent to one submission at a time, by modules of its own that stand in front of JAX's; JAX
itself is not touched. What each name meant is told by JAX's change log.
"""

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


def device_put_sharded(shards: list[Any], devices: list[Any]) -> Any:
  """Stacks trees along a new leading axis that is split over the devices, one for each."""
  return jax.tree.map(lambda *arrays: _split(np.stack(arrays), devices), *shards)


def device_put_replicated(tree: Any, devices: list[Any]) -> Any:
  """Copies a tree to every device, along a new leading axis that is split over them."""
  return jax.tree.map(lambda x: _split(np.stack([x] * len(devices)), devices), tree)


def clip(
  arr: Any = None,
  min: Any = None,
  max: Any = None,
  *,
  a: Any = None,
  a_min: Any = None,
  a_max: Any = None,
) -> Any:
  """jax.numpy.clip with the keywords it had."""
  lowest, highest = (min if a_min is None else a_min), (max if a_max is None else a_max)
  return jnp.clip(arr if a is None else a, lowest, highest)


def _split(array: np.ndarray, devices: list[Any]) -> jax.Array:
  mesh = jax.sharding.Mesh(np.asarray(devices), ('devices',))
  return jax.device_put(array, NamedSharding(mesh, PartitionSpec('devices')))


REMOVED: Mapping[str, Mapping[str, Any]] = {
  'jax': {
    'tree_map': jax.tree_util.tree_map,
    'tree_multimap': jax.tree_util.tree_map,
    'tree_flatten': jax.tree_util.tree_flatten,
    'tree_unflatten': jax.tree_util.tree_unflatten,
    'tree_leaves': jax.tree_util.tree_leaves,
    'tree_structure': jax.tree_util.tree_structure,
    'tree_transpose': jax.tree_util.tree_transpose,
    'tree_all': jax.tree_util.tree_all,
    'tree_reduce': jax.tree_util.tree_reduce,
    'device_put_replicated': device_put_replicated,
    'device_put_sharded': device_put_sharded,
  },
  'jax.tree_util': {'tree_multimap': jax.tree_util.tree_map},
  'jax.random': {'KeyArray': jax.Array, 'PRNGKeyArray': jax.Array},
  'jax.numpy': {
    'DeviceArray': jax.Array,
    'alltrue': jnp.all,
    'cumproduct': jnp.cumprod,
    'in1d': lambda *args, **options: jnp.isin(*args, **options).ravel(),
    'msort': lambda a: jnp.sort(a, axis=0),
    'product': jnp.prod,
    'round_': jnp.round,
    'row_stack': jnp.vstack,
    'sometrue': jnp.any,
    'trapz': jnp.trapezoid,
  },
}
_CHANGED = {'jax.numpy': {'clip': clip}}  # still there, but with other arguments


class Lender(ModuleType):
  """A module in front of another: it has the other's names, and the removed ones."""

  def __init__(self, module: ModuleType) -> None:
    super().__init__(module.__name__, module.__doc__)
    vars(self).update(_CHANGED.get(module.__name__, {}))
    self.__lends_for__ = module

  def __getattr__(self, name: str) -> Any:
    module = self.__lends_for__
    removed = REMOVED[module.__name__]
    try:
      value = getattr(module, name)
    except AttributeError:
      if name not in removed:
        raise
      value = removed[name]
    if isinstance(value, ModuleType):
      value = _lent_modules().get(value.__name__, value)
    setattr(self, name, value)  # found at once from now on
    return value


_LENT: dict[str, ModuleType] = {}


def _lent_modules() -> Mapping[str, ModuleType]:
  return _LENT


def lend() -> Mapping[str, ModuleType]:
  """Modules with the removed names, by the name of the module that each stands in front of."""
  if not _LENT:
    _LENT.update((name, Lender(importlib.import_module(name))) for name in REMOVED)
  return _LENT
