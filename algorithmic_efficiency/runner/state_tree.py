"""This file turns what a trial is made of into plain data, and back.

A submission's state may hold anything: arrays, counters, named tuples, optimizers whose state has
parameters as keys, schedulers, functions. What is data is written down; what is code (functions,
classes, process groups) is not, and stays what a fresh start made it. So a state is always restored
*into* a fresh start's: `restore` walks both side by side, keeps the objects that are there and
gives them the data. Nothing that a checkpoint holds is ever run.

Data is a list of nodes that refer to each other by number, so that what was one object stays one.
Arrays stand beside them as bytes, under names that the nodes mention.
"""

# pyright: basic
# What it walks is of any type.

import base64
import builtins
import collections
import dataclasses
import enum
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

Bytes = dict[str, np.ndarray[Any, Any]]  # uint8 [bytes] by name
_MISSING: Any = object()
_PLAIN = (type(None), bool, int, float, str)
_SEQUENCES: dict[str, Any] = {
  'list': list,
  'tuple': tuple,
  'set': set,
  'frozenset': frozenset,
  'deque': collections.deque,
}
_CONTAINERS: dict[str, Any] = {
  **{f'builtins:{name}': getattr(builtins, name) for name in _SEQUENCES if name != 'deque'},
  'builtins:dict': dict,
  'collections:Counter': collections.Counter,
  'collections:OrderedDict': collections.OrderedDict,
  'collections:deque': collections.deque,
}
_FACTORIES: dict[str, Any] = {'dict': dict, 'float': float, 'int': int, 'list': list, 'set': set}
# What is of the bench, the system or a framework's machinery has no data of the algorithm.
_NO_DATA = (
  'algorithmic_efficiency.frameworks',
  'algorithmic_efficiency.records',
  'algorithmic_efficiency.runner',
  'algorithmic_efficiency.workloads.workload',
  'jax',
  'jaxlib',
  'numpy',
  'torch',
)
_WITH_DATA = ('torch.optim', 'torch.amp', 'torch.cuda.amp', 'torch.nn.modules', 'types')


class CannotRestore(Exception):
  """The state does not fit a fresh start; the message tells which part and why."""


def flatten(roots: Mapping[str, Any], framework: Any) -> tuple[dict[str, Any], Bytes]:
  """(plain data that JSON can hold, the arrays' bytes) of some objects."""
  walk = _Flattening(framework.state)
  tree = {name: walk.value(root) for name, root in roots.items()}
  return {'roots': tree, 'nodes': walk.nodes}, walk.arrays


def restore(
  data: Mapping[str, Any], arrays: Bytes, fresh: Mapping[str, Any], framework: Any
) -> dict[str, Any]:
  """The objects again, from those of a fresh start, which are changed. Raises CannotRestore.

  Args:
    data: as `flatten` gave it.
    arrays: likewise.
    fresh: the objects of the same names as a fresh start makes them.
    framework: the same that flattened them.
  """
  walk = _Restoring(data['nodes'], framework.state.Unpacking(arrays), arrays)
  roots = data['roots']
  return {name: walk.value(roots[name], fresh.get(name, _MISSING), name) for name in roots}


class _Flattening:
  def __init__(self, state: Any) -> None:
    self._state = state  # the framework's state_*.py
    self._stored: dict[Any, str] = {}
    self._numbers: dict[int, int] = {}
    self._kept: list[Any] = []  # so that no two objects have the same id while this lasts
    self.nodes: list[Any] = []
    self.arrays: Bytes = {}

  def value(self, x: Any) -> Any:
    """JSON for a value: itself if it is plain, else a small dict."""
    if type(x) in _PLAIN:
      return x
    if isinstance(x, bytes):
      return {'bytes': base64.b64encode(x).decode()}
    if isinstance(x, complex):
      return {'complex': [x.real, x.imag]}
    if isinstance(x, enum.Enum):
      return {'enum': x.name, 'type': type_name(x)}
    if isinstance(x, np.generic):
      return {'scalar': x.dtype.name, 'bytes': base64.b64encode(x.tobytes()).decode()}
    if id(x) not in self._numbers:
      number = self._numbers[id(x)] = len(self.nodes)
      self._kept.append(x)
      self.nodes.append(None)
      self.nodes[number] = self._node(x)
    return {'node': self._numbers[id(x)]}

  def _node(self, x: Any) -> dict[str, Any]:
    packed = self._state.pack(x, self._store, self.value)
    if packed is not None:
      return {'kind': 'array', **packed}
    if isinstance(x, np.ndarray) and not x.dtype.hasobject:
      return {'kind': 'ndarray', 'dtype': x.dtype.name, 'shape': x.shape,
              'bytes': self._store(x)}  # fmt: skip
    if isinstance(x, Mapping) and isinstance(x, dict):
      items = cast(dict[Any, Any], x).items()
      pairs = [[self.value(key), self.value(item)] for key, item in items]
      factory = getattr(x, 'default_factory', None)
      known = [name for name, made in _FACTORIES.items() if made is factory]
      made_of = {'factory': known[0]} if known else {}
      return {'kind': 'dict', 'type': type_name(x), 'pairs': pairs, **made_of}
    if isinstance(x, tuple(_SEQUENCES.values())):
      items = [self.value(item) for item in cast(Any, x)]
      kind = next(name for name, cls in _SEQUENCES.items() if isinstance(x, cls))
      return {'kind': kind, 'type': type_name(x), 'items': items}
    generator = _state_of_generator(x)
    if generator is not None:
      return {'kind': 'generator', 'type': type_name(x), 'state': self.value(generator)}
    attributes = self._state.attributes(x)
    if attributes is None:
      attributes = _attributes(x)
    if attributes is None:
      return {'kind': 'code', 'type': type_name(x)}
    values = {name: self.value(item) for name, item in attributes.items()}
    return {'kind': 'object', 'type': type_name(x), 'attributes': values}

  def _store(self, array: np.ndarray[Any, Any], key: Any = None) -> str:
    """The name under which an array's bytes stand; what has the same key is stored once."""
    if key is not None and key in self._stored:
      return self._stored[key]
    name = str(len(self.arrays))
    self.arrays[name] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if key is not None:
      self._stored[key] = name
    return name


class _Restoring:
  def __init__(self, nodes: list[Any], unpacking: Any, arrays: Bytes) -> None:
    self._nodes = nodes
    self._unpacking = unpacking
    self._arrays = arrays
    self._made: dict[int, Any] = {}
    self._begun: set[int] = set()

  def value(self, data: Any, fresh: Any, path: str) -> Any:
    """The value again; `fresh` is what a fresh start has in its place, or _MISSING."""
    if not isinstance(data, dict):
      return data
    found = cast(dict[str, Any], data)
    if 'node' in found:
      return self._node(found['node'], fresh, path)
    if 'scalar' in found:
      return np.frombuffer(base64.b64decode(found['bytes']), found['scalar'])[0]
    if 'bytes' in found:
      return base64.b64decode(found['bytes'])
    if 'complex' in found:
      return complex(*found['complex'])
    return self._class(found['type'], fresh, path)[found['enum']]

  def _node(self, number: int, fresh: Any, path: str) -> Any:
    if number in self._made:
      return self._made[number]
    if number in self._begun:
      raise CannotRestore(f'{path} contains itself')
    self._begun.add(number)
    node = self._nodes[number]
    restore: Callable[..., Any] = getattr(self, f'_{node["kind"]}', self._sequence)
    self._made[number] = made = restore(number, node, fresh, path)
    return made

  def _array(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    del number
    grad = node.get('grad')
    if grad is not None:
      grad = self.value(grad, getattr(fresh, 'grad', _MISSING), f'{path}.grad')
    return self._unpacking.unpack(node, None if fresh is _MISSING else fresh, grad)

  def _ndarray(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    del number, path
    found = self._arrays[node['bytes']].view(node['dtype']).reshape(node['shape'])
    if isinstance(fresh, np.ndarray) and fresh.flags.writeable:
      kept = cast(np.ndarray[Any, Any], fresh)
      if (kept.shape, kept.dtype) == (found.shape, found.dtype):
        kept[...] = found
        return kept
    return found.copy()

  def _dict(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    kept = fresh if type_name(fresh) == node['type'] else self._new(node, path)
    self._made[number] = kept
    old = dict(kept)
    kept.clear()
    for key_data, item in node['pairs']:
      key = self.value(key_data, _MISSING, f'a key of {path}')
      kept[key] = self.value(item, old.get(key, _MISSING), f'{path}[{_shown(key)}]')
    return kept

  def _sequence(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    same = type_name(fresh) == node['type']
    old = list(fresh) if same and node['kind'] in ('list', 'tuple', 'deque') else []
    old += [_MISSING] * (len(node['items']) - len(old))
    pairs = enumerate(zip(node['items'], old, strict=False))
    if node['kind'] in ('list', 'deque'):
      kept = fresh if same else self._new(node, path)
      self._made[number] = kept
      items = [self.value(item, o, f'{path}[{i}]') for i, (item, o) in pairs]
      kept.clear()
      kept.extend(items)
      return kept
    items = [self.value(item, o, f'{path}[{i}]') for i, (item, o) in pairs]
    cls = type(fresh) if same else self._class(node['type'], _MISSING, path)
    return cls(*items) if hasattr(cls, '_fields') else cls(items)

  def _generator(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    del number
    if type_name(fresh) != node['type']:
      raise _not_there(path, node)
    _restore_generator(fresh, self.value(node['state'], _MISSING, path))
    return fresh

  def _object(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    kept = fresh if type_name(fresh) == node['type'] else self._new(node, path)
    self._made[number] = kept
    for name, data in node['attributes'].items():
      old = getattr(kept, name, _MISSING)
      item = self.value(data, old, f'{path}.{name}')
      if item is not old:
        object.__setattr__(kept, name, item)
    return kept

  def _code(self, number: int, node: Any, fresh: Any, path: str) -> Any:
    del number
    if fresh is _MISSING:
      raise _not_there(path, node)
    return fresh

  def _new(self, node: Any, path: str) -> Any:
    """An empty object of the node's type; its __init__ is not run."""
    if 'factory' in node:
      return collections.defaultdict(_FACTORIES[node['factory']])
    cls = self._class(node['type'], _MISSING, path)
    return cls.__new__(cls) if node['kind'] == 'object' else cls()

  def _class(self, name: str, fresh: Any, path: str) -> Any:
    """A class that holds data only, among those that the run has loaded by itself."""
    if fresh is not _MISSING and type_name(fresh) == name:
      return type(fresh)
    module, _, qualified = name.partition(':')
    if name in _CONTAINERS:
      return _CONTAINERS[name]
    cls: Any = sys.modules.get(module)
    for part in qualified.split('.'):
      cls = getattr(cls, part, None)
    holds_data = isinstance(cls, type) and (
      dataclasses.is_dataclass(cls) or hasattr(cls, '_fields') or issubclass(cls, enum.Enum)
    )
    if not holds_data:
      raise _not_there(path, {'type': name})
    return cls


def type_name(x: Any) -> str:
  """'module:Class' of an object."""
  return f'{type(x).__module__}:{type(x).__qualname__}'


def _attributes(x: Any) -> dict[str, Any] | None:
  """What an object holds; None if it is code, or nothing of the algorithm's."""
  module = type(x).__module__
  if isinstance(x, type):
    return None
  without = _is_of(module, _NO_DATA) or module.partition('.')[0] in sys.stdlib_module_names
  if without and not _is_of(module, _WITH_DATA):
    return None
  names = [*getattr(x, '__dict__', {}), *_slots(type(x))]
  return {name: getattr(x, name) for name in names if hasattr(x, name)} if names else None


def _is_of(module: str, names: tuple[str, ...]) -> bool:
  return any(module == name or module.startswith(f'{name}.') for name in names)


def _slots(cls: type) -> list[str]:
  slots: list[str] = []
  for base in cls.__mro__:
    named = vars(base).get('__slots__', ())
    slots += [named] if isinstance(named, str) else named
  return [name for name in slots if name not in ('__dict__', '__weakref__')]


def _state_of_generator(x: Any) -> Any:
  if isinstance(x, np.random.Generator):
    return x.bit_generator.state
  if isinstance(x, np.random.RandomState):
    return x.get_state()
  return x.getstate() if isinstance(x, random.Random) else None


def _restore_generator(x: Any, state: Any) -> None:
  if isinstance(x, np.random.Generator):
    x.bit_generator.state = state
  elif isinstance(x, np.random.RandomState):
    x.set_state(state)
  else:
    x.setstate(state)


def _not_there(path: str, node: Any) -> CannotRestore:
  return CannotRestore(
    f'{path} is a {node["type"].replace(":", ".")}, which is not among what a fresh start has there'
  )


def _shown(key: Any) -> str:
  return repr(key) if isinstance(key, _PLAIN) else type(key).__name__
