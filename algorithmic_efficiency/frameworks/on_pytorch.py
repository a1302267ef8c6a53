"""This file is all that the bench asks of PyTorch. Its neighbour on_jax.py has the same names.

A model is a torch.nn.Module and is itself the parameter container.
"""

import gc
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from algorithmic_efficiency import spec
from algorithmic_efficiency.frameworks import devices_pytorch as devices
from algorithmic_efficiency.frameworks import processes_pytorch as processes
from algorithmic_efficiency.frameworks import state_pytorch as state  # noqa: F401
from algorithmic_efficiency.pytorch_utils import pytorch_setup

NAME = 'pytorch'

_, _, DEVICE, _ = pytorch_setup()
if DEVICE.type == 'hpu':
  devices.prepare_hpu()

_NORMS = {
  torch.nn.modules.batchnorm._BatchNorm: 'BATCH_NORM',
  torch.nn.LayerNorm: 'LAYER_NORM',
  torch.nn.GroupNorm: 'LAYER_NORM',
}
_DDP = torch.nn.parallel.DistributedDataParallel
# Its flag had another name before PyTorch 2.13.
_SYNC_BUFFERS = 'forward_sync_buffers'
if _SYNC_BUFFERS not in inspect.signature(_DDP.__init__).parameters:
  _SYNC_BUFFERS = 'broadcast_buffers'
_CONVOLUTIONS = torch.nn.modules.conv._ConvNd


def num_devices() -> int:
  """Devices a batch is split over: every process has one."""
  return processes.count()


def device() -> str:
  """The kind that is trained on: 'cpu', 'cuda' or 'hpu'."""
  return DEVICE.type


def device_uuids() -> list[str]:
  """UUIDs of this process's devices as NVML writes them; empty where PyTorch does not tell."""
  uuid = torch.cuda.get_device_properties(DEVICE).uuid if DEVICE.type == 'cuda' else None
  return [] if uuid is None else [f'GPU-{uuid}']


def describe_devices() -> str:
  """One line for people: '1 x cpu'."""
  name = DEVICE.type
  if name == 'cuda':
    name = torch.cuda.get_device_name(DEVICE)
  elif name == 'hpu':
    name = devices.name_of_hpu()
  return f'{num_devices()} x {name}'


def allocated() -> list[dict[str, Any]]:
  """Bytes that this process's accelerators have in use, at most, and set aside; [] on a CPU."""
  if DEVICE.type == 'cpu':
    return []
  kind = getattr(torch, DEVICE.type)
  return [{
    'device': str(DEVICE),
    'in_use': kind.memory_allocated(DEVICE),
    'peak': kind.max_memory_allocated(DEVICE),
    'reserved': kind.memory_reserved(DEVICE),
  }]  # fmt: skip


def seed(seed: int) -> None:
  """Seeds the hidden random state that dropout and default initialisers draw from."""
  torch.manual_seed(seed)


def keys(numbers: np.ndarray) -> list[Any]:
  """Pairs of ints usable as seeds (rng[0]) from random numbers of shape [..., 2].

  Below 2**31, since some of PyTorch's and numpy's generators take no larger seed.
  """
  return (numbers >> 1).tolist()


def place(batch: Any) -> Any:
  """Puts a batch (this process's rows of it) on the device.

  Whole numbers become int64, as losses want them.
  """
  return {name: _tensor(array) for name, array in batch.items()}


def place_all(batches: Iterator[Any]) -> Iterator[Any]:
  """The batches, placed one by one as they are asked for."""
  return map(place, batches)


def wait(*trees: Any) -> None:
  """Returns when the device has finished all that was queued."""
  del trees
  if DEVICE.type == 'cuda':
    torch.cuda.synchronize(DEVICE)
  elif DEVICE.type == 'hpu':
    devices.wait_for_hpu()


def init(model: Any, inputs: np.ndarray, seed: int) -> tuple[Any, Any]:
  """(module on the device, None); weights drawn from `seed` by the module's own initialisers.

  `model` builds the module when called: PyTorch draws the weights while it builds.
  """
  del inputs  # JAX needs an example to know the shapes
  torch.manual_seed(seed)
  return model().to(DEVICE), None


def wrap(params: Any, model_state: Any, compiled: bool) -> tuple[Any, Any]:
  """The module as submissions get it: in DistributedDataParallel if there are several processes.

  And compiled by torch.compile, if so asked. Buffers are not broadcast: batch norm keeps the same
  statistics on every process.
  """
  if processes.count() > 1:
    devices = [DEVICE] if DEVICE.type == 'cuda' else None
    options: dict[str, Any] = {'device_ids': devices, _SYNC_BUFFERS: False}
    params = _DDP(params, **options)
  return torch.compile(params) if compiled else params, model_state


def unwrap(params: Any, model_state: Any) -> tuple[Any, Any]:
  """What `wrap` was given; evaluations look at these."""
  return _bare(params), model_state


def apply(
  model: Any,
  params: Any,
  inputs: Any,
  model_state: Any,
  mode: spec.ForwardPassMode,
  rng: Any,
  update_batch_norm: bool,
  dropout_rate: Any = 0.0,
  use_running_average_bn: bool | None = None,
) -> tuple[Any, Any]:
  """The forward pass: (logits, None). Batch statistics live in the module; updated if asked for."""
  del model, rng
  train = mode == spec.ForwardPassMode.TRAIN
  bare = _bare(params)
  if bare.training != train or params.training != train:  # evaluations are of the bare module
    params.train(train)
  if train:
    _set_batch_norm(bare, update_batch_norm)
  layers = [] if use_running_average_bn is None else _batch_norms(bare)
  for layer in layers:
    layer.training = not use_running_average_bn
  options = {'dropout_rate': dropout_rate} if dropout_rate else {}
  with torch.set_grad_enabled(train and torch.is_grad_enabled()):
    logits = params(inputs, **options)
  for layer in layers:
    layer.training = train
  return logits, model_state


def loss(
  kind: spec.LossType | str,
  targets: Any,
  logits: Any,
  mask: Any | None = None,
  label_smoothing: float = 0.0,
) -> dict[str, Any]:
  """The submission API's loss dictionary; a loss that is none of the API's has a name."""
  per_example = _LOSSES[kind](targets, logits, label_smoothing)
  if mask is None:
    count = torch.full((), len(per_example), device=per_example.device)
    return {'summed': per_example.sum(), 'n_valid_examples': count, 'per_example': per_example}
  per_example = per_example * mask
  return {'summed': per_example.sum(), 'n_valid_examples': mask.sum(), 'per_example': per_example}


def activate(loss_type: spec.LossType, logits: Any) -> Any:
  """Probabilities from logits."""
  if loss_type == spec.LossType.SOFTMAX_CROSS_ENTROPY:
    return torch.softmax(logits, dim=-1)
  if loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
    return torch.sigmoid(logits)
  return logits


def predictor(predict: Callable[..., Any]) -> Callable[..., Any]:
  """`predict(params, model_state, batch)` for evaluations; gives numpy arrays."""

  def run(*arguments: Any) -> Any:
    with torch.no_grad():
      return tuple(tensor.cpu().numpy() for tensor in predict(*arguments))

  return run


def param_shapes(params: Any) -> Any:
  """Name to ShapeTuple."""
  return {name: spec.ShapeTuple(tuple(p.shape)) for name, p in _bare(params).named_parameters()}


def param_types(params: Any) -> Any:
  """Name to ParameterType, told by the module that holds the parameter."""
  bare = _bare(params)
  modules = dict(bare.named_modules())
  types: dict[str, spec.ParameterType] = {}
  for name, _ in bare.named_parameters():
    module, _, leaf = name.rpartition('.')
    types[name] = _param_type(modules[module], leaf)
  return types


def num_params(params: Any) -> int:
  """Trained numbers in the model."""
  return sum(p.numel() for p in params.parameters())


def snapshot(params: Any, model_state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Copies of the parameters and of the model's statistics as numpy arrays, by name."""
  del model_state  # the module holds it
  bare = _bare(params)
  groups = (bare.named_parameters(), bare.named_buffers())
  ours, theirs = ({n: t.detach().cpu().numpy().copy() for n, t in group} for group in groups)
  return ours, theirs


def is_out_of_memory(error: BaseException) -> bool:
  """Whether a device or the machine had no memory left."""
  return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
    isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
  )


def compile_does_not_help() -> str:
  """Why torch.compile is not used here by default; '' where it is."""
  if DEVICE.type == 'cpu':
    return 'on a CPU it takes longer than it saves'
  if DEVICE.type == 'hpu':
    return 'on an HPU it needs a backend of its own'
  if importlib.util.find_spec('triton') is None:
    return 'it needs triton, which is not installed'
  return ''


def compile_seconds() -> float:
  """Spent by torch.compile in this process so far."""
  dynamo = sys.modules.get('torch._dynamo.utils')  # there once something has been compiled
  if dynamo is None:
    return 0.0
  return dynamo.calculate_time_spent().get('total_wall_time', 0.0)


def free_memory() -> None:
  """Gives cached device memory back between trials, and lets go of compiled code."""
  if 'torch._dynamo' in sys.modules:
    torch.compiler.reset()
  gc.collect()
  if DEVICE.type == 'cuda':
    torch.cuda.empty_cache()


def _tensor(array: np.ndarray) -> torch.Tensor:
  tensor = torch.from_numpy(array)
  if tensor.dtype == torch.int32:
    tensor = tensor.long()
  return tensor if DEVICE.type == 'cpu' else tensor.to(DEVICE, non_blocking=True)


def _bare(params: torch.nn.Module) -> torch.nn.Module:
  """The module itself, without what torch.compile and DistributedDataParallel put around it."""
  while True:
    inside = params._modules.get('_orig_mod') or (
      params._modules.get('module') if isinstance(params, _DDP) else None
    )
    if inside is None:
      return params
    params = inside


def _batch_norms(params: torch.nn.Module) -> list[Any]:
  return [m for m in params.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]


def _set_batch_norm(params: torch.nn.Module, update: bool) -> None:
  """Lets batch norm layers update their running statistics, or not.

  A module remembers the last choice, so that most steps cost one comparison.
  """
  # From __dict__, since a module's own look-up of what it lacks costs microseconds.
  if params.__dict__.get('_updates_batch_norm', True) == update:
    return
  for layer in _batch_norms(params):
    layer.track_running_stats = update
  params._updates_batch_norm = update  # type: ignore[assignment]


def _param_type(module: torch.nn.Module, leaf: str) -> spec.ParameterType:
  for norm, kind in _NORMS.items():
    if isinstance(module, norm):
      return spec.ParameterType[f'{kind}_{"SCALE" if leaf == "weight" else "BIAS"}']
  if isinstance(module, torch.nn.Embedding):
    return spec.ParameterType.EMBEDDING
  if 'bias' in leaf:
    return spec.ParameterType.BIAS
  is_convolution = isinstance(module, _CONVOLUTIONS)
  return spec.ParameterType.CONV_WEIGHT if is_convolution else spec.ParameterType.WEIGHT


def _softmax_cross_entropy(targets: Any, logits: Any, label_smoothing: float) -> Any:
  return functional.cross_entropy(
    logits, targets, reduction='none', label_smoothing=label_smoothing
  )


def _sigmoid_cross_entropy(targets: Any, logits: Any, label_smoothing: float) -> Any:
  smoothed = (1 - label_smoothing) * targets + label_smoothing / 2
  each = functional.binary_cross_entropy_with_logits(logits, smoothed, reduction='none')
  return each.flatten(1).sum(dim=-1) if each.ndim > 1 else each


def _squared_error(targets: Any, logits: Any, _: float) -> Any:
  return (
    functional.mse_loss(logits, targets, reduction='none').reshape(len(logits), -1).mean(dim=-1)
  )


def _absolute_error(targets: Any, logits: Any, _: float) -> Any:
  return functional.l1_loss(logits, targets, reduction='none').reshape(len(logits), -1).mean(dim=-1)


def _dice(targets: Any, logits: Any, label_smoothing: float) -> Any:
  """Soft Dice loss of each example; the two ones keep it from dividing by nothing."""
  targets, logits = targets.reshape(len(targets), -1), logits.reshape(len(logits), -1)
  smoothed = (1 - label_smoothing) * targets + label_smoothing / 2
  shares = torch.sigmoid(logits)
  overlap, total = (shares * smoothed).sum(dim=-1), (shares + smoothed).sum(dim=-1)
  return 1 - (2 * overlap + 1) / (total + 1)


_LOSSES: dict[spec.LossType | str, Callable[[Any, Any, float], Any]] = {
  spec.LossType.SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy,
  spec.LossType.SIGMOID_CROSS_ENTROPY: _sigmoid_cross_entropy,
  spec.LossType.MEAN_SQUARED_ERROR: _squared_error,
  spec.LossType.MEAN_ABSOLUTE_ERROR: _absolute_error,
  'dice': _dice,
}
