"""This file turns PyTorch's tensors into bytes and back. Its neighbour for JAX has the same names.

Tensors are stored by their storage, so that views of one storage stay views of one. They are
restored in place: whoever held a tensor of a fresh start holds it still.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

ARRAYS_SUFFIX = '.pt'
_PLAIN = (type(None), bool, int, float, str, torch.Tensor)


def pack(x: Any, store: Callable[..., str], value: Callable[[Any], Any]) -> dict[str, Any] | None:
  """Plain data for a tensor or a generator, its bytes given to `store`; None for all else."""
  if isinstance(x, torch.Generator):
    return {'generator': store(x.get_state().numpy())}
  if not isinstance(x, torch.Tensor):
    return None
  if x.layout != torch.strided:
    raise TypeError(f'a tensor of layout {x.layout} cannot be stored')
  storage = x.untyped_storage()
  return {
    'storage': store(_bytes(storage), ('storage', storage._cdata)),
    'dtype': str(x.dtype).removeprefix('torch.'),
    'shape': list(x.shape),
    'stride': list(x.stride()),
    'offset': x.storage_offset(),
    'parameter': isinstance(x, torch.nn.Parameter),
    'requires_grad': x.requires_grad,
    'device': str(x.device),
    'grad': value(x.grad) if x.is_leaf and x.grad is not None else None,
  }


class Unpacking:
  """Tensors again, from bytes by name."""

  def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
    self._arrays = arrays
    self._storages: dict[str, torch.UntypedStorage] = {}
    self._taken: set[int] = set()

  def unpack(self, node: Mapping[str, Any], fresh: Any, grad: Any) -> Any:
    """A tensor: `fresh` itself, if it has the same form."""
    if 'generator' in node:
      generator = fresh if isinstance(fresh, torch.Generator) else torch.Generator()
      generator.set_state(torch.from_numpy(self._arrays[node['generator']].copy()))
      return generator
    made = self._in_place(node, fresh)
    if made is None:
      made = self._view(node)
    if made.is_leaf:
      made.requires_grad_(node['requires_grad'])
      made.grad = grad
    return made

  def _in_place(self, node: Mapping[str, Any], fresh: Any) -> Any:
    if not isinstance(fresh, torch.Tensor) or _form(fresh) != _form_of(node):
      return None
    storage, name = fresh.untyped_storage(), node['storage']
    if name in self._storages:
      return fresh if self._storages[name]._cdata == storage._cdata else None
    if storage._cdata in self._taken or storage.nbytes() != len(self._arrays[name]):
      return None
    _as_bytes(storage).copy_(torch.from_numpy(self._arrays[name]))
    self._storages[name] = storage
    self._taken.add(storage._cdata)
    return fresh

  def _view(self, node: Mapping[str, Any]) -> torch.Tensor:
    name = node['storage']
    if name not in self._storages:
      data = torch.from_numpy(self._arrays[name].copy()).to(node['device'])
      self._storages[name] = data.untyped_storage()
    dtype: torch.dtype = getattr(torch, node['dtype'])
    empty = torch.empty(0, dtype=dtype, device=self._storages[name].device)
    view = empty.set_(self._storages[name], node['offset'], node['shape'], node['stride'])
    return torch.nn.Parameter(view, node['requires_grad']) if node['parameter'] else view


def attributes(x: Any) -> dict[str, Any] | None:
  """What a module holds: parameters, buffers, modules below it, plain values; None for all else."""
  if not isinstance(x, torch.nn.Module):
    return None
  names = ('_parameters', '_buffers', '_modules')
  return {n: v for n, v in vars(x).items() if n in names or isinstance(v, _PLAIN)}


def hidden() -> dict[str, Any]:
  """The hidden random state that dropout draws from."""
  cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
  return {'cpu': torch.get_rng_state(), 'cuda': cuda}


def restore_hidden(state: Mapping[str, Any]) -> None:
  """Sets what `hidden` gave."""
  torch.set_rng_state(state['cpu'])
  if state['cuda']:
    torch.cuda.set_rng_state_all(state['cuda'])


def write(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
  """Writes arrays of bytes, by name."""
  torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, file)


def read(path: Path) -> dict[str, np.ndarray]:
  """What was written; runs no code from it."""
  tensors = torch.load(path, map_location='cpu', weights_only=True)
  return {name: tensor.numpy() for name, tensor in tensors.items()}


def _bytes(storage: torch.UntypedStorage) -> np.ndarray:
  return _as_bytes(storage).cpu().numpy()


def _as_bytes(storage: torch.UntypedStorage) -> torch.Tensor:
  return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _form(x: torch.Tensor) -> tuple[Any, ...]:
  dtype = str(x.dtype).removeprefix('torch.')
  kind = isinstance(x, torch.nn.Parameter)
  return (dtype, list(x.shape), list(x.stride()), x.storage_offset(), kind, x.device.type)


def _form_of(node: Mapping[str, Any]) -> tuple[Any, ...]:
  names = ('dtype', 'shape', 'stride', 'offset', 'parameter')
  return (*(node[name] for name in names), node['device'].partition(':')[0])
