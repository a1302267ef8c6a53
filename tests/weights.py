"""Copying a flax model's weights and statistics into the PyTorch module of the same network."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import torch

_NORM = torch.nn.modules.batchnorm._BatchNorm
_WITH_WEIGHTS = nn.Dense | nn.Conv | nn.ConvTranspose | nn.BatchNorm


def copy_to_pytorch(model: nn.Module, variables: Any, module: torch.nn.Module, inputs: Any) -> None:
  """Fills `module` with what flax's `variables` hold; layers are matched in the order of their use.

  Args:
    model: the flax module; its layers may be dense, convolutions either way and batch norms.
    variables: its 'params' and, where it has batch norms, 'batch_stats'.
    module: the PyTorch module, which is left in the mode it was in.
    inputs: a batch that both models take, one example at least.
  """
  layers, paths = _layers_of(module, inputs), _paths_of(model, variables, inputs)
  assert len(layers) == len(paths), (len(layers), len(paths))
  with torch.no_grad():
    for path, layer in zip(paths, layers, strict=True):
      for name, array in _arrays_of(layer, variables, path).items():
        target = getattr(layer, name)
        assert tuple(target.shape) == array.shape, (path, name, target.shape, array.shape)
        target.copy_(torch.from_numpy(array.copy()))


def named_like_pytorch(
  model: nn.Module, variables: Any, module: torch.nn.Module, inputs: Any
) -> dict[str, np.ndarray]:
  """What `variables` (or a tree of gradients shaped like it) hold, by the names of `module`."""
  names = {id(layer): name for name, layer in module.named_modules()}
  found: dict[str, np.ndarray] = {}
  paths = _paths_of(model, variables, inputs)
  for path, layer in zip(paths, _layers_of(module, inputs), strict=True):
    for name, array in _arrays_of(layer, variables, path).items():
      found[f'{names[id(layer)]}.{name}'] = array
  return found


def _paths_of(model: nn.Module, variables: Any, inputs: Any) -> list[tuple[str, ...]]:
  """Where the layers' weights are in flax's tree, in the order of their use."""
  paths: list[tuple[str, ...]] = []

  def note(call: Any, arguments: Any, options: Any, context: Any) -> Any:
    layer = context.module
    is_call = context.method_name == '__call__'
    if is_call and isinstance(layer, _WITH_WEIGHTS):
      paths.append(layer.path)
    return call(*arguments, **options)

  with nn.intercept_methods(note):
    jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, np.asarray(inputs))
  return paths


def _layers_of(module: torch.nn.Module, inputs: Any) -> list[torch.nn.Module]:
  """The layers of a PyTorch module that have weights, in the order of their use."""
  used: list[torch.nn.Module] = []
  hooks = [
    layer.register_forward_hook(lambda layer, *_: used.append(layer))
    for layer in module.modules()
    if list(layer.parameters(recurse=False))
  ]
  training = module.training
  with torch.no_grad():
    module.eval()(torch.from_numpy(np.array(inputs)))
  module.train(training)
  for hook in hooks:
    hook.remove()
  return used


def _arrays_of(layer: torch.nn.Module, variables: Any, path: Any) -> Mapping[str, np.ndarray]:
  """The arrays of one layer by PyTorch's names, in PyTorch's layout."""
  params = _at(variables['params'], path)
  if isinstance(layer, _NORM):
    arrays = {'weight': params['scale'], 'bias': params['bias']}
    if 'batch_stats' in variables:
      statistics = _at(variables['batch_stats'], path)
      arrays |= {'running_mean': statistics['mean'], 'running_var': statistics['var']}
    return {name: np.asarray(array) for name, array in arrays.items()}
  kernel = np.asarray(params['kernel'])
  # flax: [*window, inputs, outputs]; PyTorch: [outputs, inputs, *window].
  weight = np.moveaxis(kernel, (-1, -2), (0, 1))
  if isinstance(layer, torch.nn.ConvTranspose2d):
    # PyTorch: [inputs, outputs, *window], and the window is laid on the output the other way round.
    weight = np.moveaxis(kernel[::-1, ::-1], (-2, -1), (0, 1))
  arrays = {'weight': weight}
  return arrays | ({'bias': np.asarray(params['bias'])} if 'bias' in params else {})


def _at(tree: Any, path: Any) -> Any:
  for name in path:
    tree = tree[name]
  return tree
