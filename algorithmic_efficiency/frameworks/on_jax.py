"""This file is all that the bench asks of JAX. Its neighbour on_pytorch.py has the same names.

A model is a flax.linen module; parameters and model state are plain nested dicts.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from algorithmic_efficiency import jax_sharding_utils, spec
from algorithmic_efficiency.frameworks import processes_jax as processes  # noqa: F401
from algorithmic_efficiency.frameworks import state_jax as state  # noqa: F401

NAME = 'jax'

# For code that runs once: on a CPU it compiles in a third of the time, to the same numbers.
_RUN_ONCE = {'xla_backend_optimization_level': 1}

_compile_seconds = [0.0]


def _note_compilation(event: str, duration_secs: float, **_: Any) -> None:
  if event.startswith('/jax/core/compile/'):
    _compile_seconds[0] += duration_secs


jax.monitoring.register_event_duration_secs_listener(_note_compilation)

# Modules of flax.linen whose `scale` and `bias` are those of a normalisation.
_NORMS = {'BatchNorm': 'BATCH_NORM', 'LayerNorm': 'LAYER_NORM', 'GroupNorm': 'LAYER_NORM'}


def num_devices() -> int:
  """Devices a batch is split over."""
  return jax.device_count()


def device() -> str:
  """The kind that is trained on: 'cpu', 'cuda', or another that JAX knows."""
  found = jax.devices()[0]
  if found.platform != 'gpu':
    return found.platform
  return 'rocm' if 'rocm' in found.client.platform_version.lower() else 'cuda'


def device_uuids() -> list[str]:
  """UUIDs of this process's devices; JAX does not tell them."""
  return []


def describe_devices() -> str:
  """One line for people: '1 x cpu'."""
  return f'{jax.device_count()} x {jax.devices()[0].device_kind}'


def allocated() -> list[dict[str, Any]]:
  """Bytes that this process's accelerators have in use, at most, and set aside; [] on a CPU."""
  found: list[dict[str, Any]] = []
  for one in jax.local_devices():
    told = one.memory_stats() if one.platform != 'cpu' else None
    if told:
      found.append({
        'device': f'{one.platform}:{one.id}',
        'in_use': told['bytes_in_use'],
        'peak': told.get('peak_bytes_in_use'),
        'reserved': told.get('bytes_reserved', told.get('pool_bytes')),
      })  # fmt: skip
  return found


def seed(seed: int) -> None:
  """JAX has no hidden random state."""
  del seed


def keys(numbers: np.ndarray) -> np.ndarray:
  """PRNG keys from random uint32s of shape [..., 2].

  The keys stay in numpy: jax.random and compiled functions take them as they are, and making
  arrays of them one by one would cost more than a small network's step.
  """
  width = jax.random.key_data(jax.random.key(0)).shape[-1]  # 2, or 4 under the rbg generator
  return np.tile(numbers, width // 2)


def place(batch: Any) -> Any:
  """Puts a batch (this process's rows of it) where the compiled step expects it.

  With one device numpy arrays stay as they are, since a compiled function moves its arguments
  itself, faster than jax.device_put. With several, the first dimension is split over them.
  """
  if jax.device_count() == 1:
    return batch
  if jax.process_count() == 1:
    return jax_sharding_utils.shard_along_batch_dim(batch)
  sharding = jax_sharding_utils.get_batch_dim_sharding()
  return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), batch)


def place_all(batches: Iterator[Any]) -> Iterator[Any]:
  """The batches, placed one by one as they are asked for."""
  return batches if jax.device_count() == 1 else map(place, batches)


def wait(*trees: Any) -> None:
  """Returns when the devices have finished computing these values."""
  jax.block_until_ready(trees)


def init(model: Any, inputs: np.ndarray, seed: int) -> tuple[Any, Any]:
  """(parameters, model state) of a model, weights drawn from `seed`; one compilation in all."""

  def build(key: jax.Array) -> Any:
    return model.init({'params': key}, inputs, train=False)

  sharding = jax_sharding_utils.get_replicate_sharding() if jax.device_count() > 1 else None
  compiled = jax.jit(build, compiler_options=_RUN_ONCE, out_shardings=sharding)
  variables = dict(compiled(jax.random.PRNGKey(seed)))
  params = variables.pop('params')
  return params, variables


def wrap(params: Any, model_state: Any, compiled: bool) -> tuple[Any, Any]:
  """The parameters and model state as submissions get them: as they are."""
  del compiled  # a submission compiles its own step
  return params, model_state


def unwrap(params: Any, model_state: Any) -> tuple[Any, Any]:
  """What `wrap` was given; evaluations look at these."""
  return params, model_state


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
  """The forward pass: (logits, new model state).

  A model is asked for dropout or for certain batch statistics only where they are wanted.
  """
  train = mode == spec.ForwardPassMode.TRAIN
  rngs = {'dropout': rng} if train and rng is not None else None
  settings: dict[str, Any] = {'train': train}
  if not isinstance(dropout_rate, int | float) or dropout_rate:  # it may be traced
    settings['dropout_rate'] = dropout_rate
  if not model_state:
    return model.apply({'params': params}, inputs, rngs=rngs, **settings), model_state
  variables = {'params': params, **model_state}
  if use_running_average_bn is not None:
    settings['use_running_average_bn'] = use_running_average_bn
  if not train if use_running_average_bn is None else use_running_average_bn:
    return model.apply(variables, inputs, rngs=rngs, **settings), model_state
  # Flax's batch norm writes its statistics as it goes; whoever wants the old keeps them.
  logits, new = model.apply(variables, inputs, rngs=rngs, mutable=list(model_state), **settings)
  return logits, new if update_batch_norm else model_state


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
    return {
      'summed': per_example.sum(),
      'n_valid_examples': per_example.shape[0],
      'per_example': per_example,
    }
  per_example = per_example * mask
  return {'summed': per_example.sum(), 'n_valid_examples': mask.sum(), 'per_example': per_example}


def activate(loss_type: spec.LossType, logits: Any) -> Any:
  """Probabilities from logits."""
  if loss_type == spec.LossType.SOFTMAX_CROSS_ENTROPY:
    return jax.nn.softmax(logits, axis=-1)
  if loss_type == spec.LossType.SIGMOID_CROSS_ENTROPY:
    return jax.nn.sigmoid(logits)
  return logits


def predictor(predict: Callable[..., Any]) -> Callable[..., Any]:
  """`predict(params, model_state, batch)` compiled for evaluations; gives numpy arrays.

  Of several processes each gets the rows of its own devices.
  """
  if jax.process_count() == 1:
    compiled = jax.jit(predict)
    return lambda *arguments: jax.device_get(compiled(*arguments))
  compiled = jax.jit(predict, out_shardings=jax_sharding_utils.get_batch_dim_sharding())
  return lambda *arguments: jax.tree.map(_own_rows, compiled(*arguments))


def _own_rows(array: jax.Array) -> np.ndarray:
  shards = sorted(array.addressable_shards, key=lambda shard: shard.index[0].start)
  return np.concatenate([shard.data for shard in shards])


def param_shapes(params: Any) -> Any:
  """The tree of ShapeTuples."""
  return jax.tree.map(lambda x: spec.ShapeTuple(x.shape), params)


def param_types(params: Any) -> Any:
  """The tree of ParameterTypes, told by flax's names and the number of dimensions."""
  return jax.tree_util.tree_map_with_path(_param_type, params)


def num_params(params: Any) -> int:
  """Trained numbers in the model."""
  return sum(x.size for x in jax.tree.leaves(params))


def snapshot(params: Any, model_state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Copies of the parameters and of the model's statistics as numpy arrays, by name."""
  return _named_arrays(params), _named_arrays(model_state)


def is_out_of_memory(error: BaseException) -> bool:
  """Whether a device or the machine had no memory left."""
  return isinstance(error, MemoryError) or (
    isinstance(error, jax.errors.JaxRuntimeError) and 'RESOURCE_EXHAUSTED' in str(error)
  )


def compile_does_not_help() -> str:
  """JAX's models are compiled by the submission, with its step."""
  return 'a submission compiles its own step'


def compile_seconds() -> float:
  """Spent on tracing, lowering and compiling in this process so far."""
  return _compile_seconds[0]


def free_memory() -> None:
  """Lets go of compiled functions and their buffers between trials."""
  jax.clear_caches()


def _named_arrays(tree: Any) -> dict[str, Any]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def _param_type(path: Any, value: Any) -> spec.ParameterType:
  names = [str(key.key) for key in path]
  leaf, module = names[-1], names[-2] if len(names) > 1 else ''
  for prefix, kind in _NORMS.items():
    if module.startswith(prefix):
      return spec.ParameterType[f'{kind}_{"SCALE" if leaf == "scale" else "BIAS"}']
  if leaf == 'embedding':
    return spec.ParameterType.EMBEDDING
  if leaf == 'bias':
    return spec.ParameterType.BIAS
  return spec.ParameterType.CONV_WEIGHT if value.ndim > 2 else spec.ParameterType.WEIGHT


def _softmax_cross_entropy(targets: Any, logits: Any, label_smoothing: float) -> Any:
  if targets.ndim == logits.ndim - 1:
    targets = jax.nn.one_hot(targets, logits.shape[-1])
  smoothed = (1 - label_smoothing) * targets + label_smoothing / logits.shape[-1]
  return -jnp.sum(smoothed * jax.nn.log_softmax(logits, axis=-1), axis=-1)


def _sigmoid_cross_entropy(targets: Any, logits: Any, label_smoothing: float) -> Any:
  smoothed = (1 - label_smoothing) * targets + label_smoothing / 2
  each = jnp.maximum(logits, 0) - logits * smoothed + jnp.log1p(jnp.exp(-jnp.abs(logits)))
  return each.reshape(each.shape[0], -1).sum(axis=-1)


def _squared_error(targets: Any, logits: Any, _: float) -> Any:
  return jnp.square(logits - targets).reshape(logits.shape[0], -1).mean(axis=-1)


def _absolute_error(targets: Any, logits: Any, _: float) -> Any:
  return jnp.abs(logits - targets).reshape(logits.shape[0], -1).mean(axis=-1)


def _dice(targets: Any, logits: Any, label_smoothing: float) -> Any:
  """Soft Dice loss of each example; the two ones keep it from dividing by nothing."""
  targets, logits = targets.reshape(len(targets), -1), logits.reshape(len(logits), -1)
  smoothed = (1 - label_smoothing) * targets + label_smoothing / 2
  shares = jax.nn.sigmoid(logits)
  overlap, total = (shares * smoothed).sum(axis=-1), (shares + smoothed).sum(axis=-1)
  return 1 - (2 * overlap + 1) / (total + 1)


_LOSSES: dict[spec.LossType | str, Callable[[Any, Any, float], Any]] = {
  spec.LossType.SOFTMAX_CROSS_ENTROPY: _softmax_cross_entropy,
  spec.LossType.SIGMOID_CROSS_ENTROPY: _sigmoid_cross_entropy,
  spec.LossType.MEAN_SQUARED_ERROR: _squared_error,
  spec.LossType.MEAN_ABSOLUTE_ERROR: _absolute_error,
  'dice': _dice,
}
