"""This file builds networks in PyTorch: those of the zoo with random weights, and any of a user's.

Nothing is downloaded. torchvision is needed for all but LeNet.
"""

import contextlib
import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power.zoo import NETWORKS

_HINT = 'pip install "algorithmic-efficiency[networks]", or torchvision of the version beside torch'
_OPERATORS = (
  'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
  'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
)
_libraries: list[Any] = []  # as long as they live their operators are known


class LeNet(nn.Sequential):
  """LeNet-5 for images of 32 x 32 pixels."""

  def __init__(self) -> None:
    super().__init__(
      nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2),
      nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
      nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(),
      nn.Linear(84, 10),
    )  # fmt: skip


def build(name: str, device: str = 'cpu', seed: int = 0) -> nn.Module:
  """A network in evaluation mode, weights drawn from `seed`; on 'meta' it has shapes alone.

  Args:
    name: of the zoo, or 'module:callable' of a user's, which returns a module.

  Raises UsageError.
  """
  if ':' in name:
    make = _of_user(name)
  elif name not in NETWORKS:
    raise UsageError(
      f'there is no network {name!r}; there are {", ".join(NETWORKS)}, or give module:callable.'
    )
  else:
    make = LeNet if name == 'lenet' else _of_torchvision(name)
  with torch.random.fork_rng(devices=[]):
    torch.manual_seed(seed)
    try:
      with torch.device(device):
        network = make()
    except (RuntimeError, torch.OutOfMemoryError) as error:
      told = str(error).strip().partition('\n')[0].rstrip('.')
      raise UsageError(f'{name} cannot be built on {device} ({told}).') from error
  if not isinstance(network, nn.Module):
    raise UsageError(f'{name} returns a {type(network).__name__}, not a torch.nn.Module.')
  return network.eval()


def _of_user(name: str) -> Any:
  module, _, attribute = name.partition(':')
  if str(Path.cwd()) not in sys.path:
    sys.path.insert(0, str(Path.cwd()))
  try:
    return getattr(importlib.import_module(module), attribute)
  except (ImportError, AttributeError, ValueError) as error:
    raise UsageError(f'{name} cannot be imported ({error}); give module:callable.') from error


def _of_torchvision(name: str) -> Any:
  models = _torchvision_models()
  builder = getattr(models, name, None)
  if builder is None:
    raise UsageError(f'this version of torchvision has no {name}; it needs a newer one: {_HINT}.')
  settings: dict[str, Any] = {'weights': None}
  if name == 'googlenet':  # else its slow initialisation, and two classifiers nobody evaluates
    settings |= {'aux_logits': False, 'init_weights': False}
  return lambda: builder(**settings)


def _torchvision_models() -> Any:
  """torchvision.models; beside a build of torch for the CPU its own library cannot be loaded.

  Its import then fails over two operators for detection, which no network here uses: they are
  declared, and stay without an implementation.
  """
  try:
    return importlib.import_module('torchvision.models')
  except ImportError as error:
    raise UsageError(f'The networks of torchvision are not installed; {_HINT}.') from error
  except RuntimeError as error:
    if 'torchvision::nms' not in str(error):
      raise UsageError(f'torchvision does not start beside this torch ({error}).') from error
  for loaded in [m for m in sys.modules if m.partition('.')[0] == 'torchvision']:
    del sys.modules[loaded]
  library = torch.library.Library('torchvision', 'FRAGMENT')
  for operator in _OPERATORS:
    with contextlib.suppress(RuntimeError):  # known already
      library.define(operator)
  _libraries.append(library)
  return importlib.import_module('torchvision.models')
