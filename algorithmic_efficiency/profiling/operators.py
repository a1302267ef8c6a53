"""This file tells from an operator's name its phase, its layer, and whether tensor cores fit it.

Names as frameworks give them:
  jit(train_step)/transpose(jvp(Net))/Conv_0/conv_general_dilated      JAX
  gradient_tape/model/conv2d_6/Conv2D/Conv2DBackpropFilter             TensorFlow
  aten::convolution_backward                                           PyTorch
"""

import functools
import re

# Steps of a training step; '' where the name does not tell.
FORWARD, BACKWARD, UPDATE, EVALUATION = 'forward', 'backward', 'update', 'evaluation'

_JAX = re.compile(r'(?:jit|pjit|pmap|vmap|shard_map|checkpoint|remat|xla_call)\(')
_WRAPPER = re.compile(r'^\w+\((.*)\)$')
_OPTIMIZERS = 'adadelta|adafactor|adagrad|adam|adamax|adamw|ftrl|lamb|lion|nadam|rmsprop|sgd'
_TF_UPDATE = re.compile(rf'^(?:training/)?(?:{_OPTIMIZERS})(?:_\d+)?/', re.IGNORECASE)
_TF_APPLY = re.compile(r'Resource(?:Sparse)?Apply\w+')
_TF_BACKWARD = re.compile(r'^(?:gradient_tape|gradients(?:_\d+)?|training/\w+/gradients)/')
_TF_FORWARD = re.compile(r'^(?:model|sequential|functional)(?:_\d+)?/|^[a-z]\w*/[a-z]\w*/')

# A matrix product or a convolution, by the last part of the operator's name.
_ELIGIBLE = re.compile(
  r'(?:batch_?)?mat_?mul(?:v\d)?|(?:fused_?)?conv\w*|\w*dot(?:_general)?|einsum|gemm|\w*addmm|bmm'
  r'|baddbmm|mm|_?\w*linear|\w*convolution\w*|cudnn_?rnn\w*|\w*attention\w*|xlaconv\w*|fusedmatmul',
  re.IGNORECASE,
)
# Kernels that run on tensor cores say so: the shape of their instruction (Volta h884, Turing s1688,
# Ampere s16816), the instruction (hmma, wgmma), or the library's word for it.
_TENSOR_CORE = re.compile(
  r'[a-z](?:884|1688|16816|16832|8816|8832|16864|88128|256128)(?!\d)'
  r'(?:gemm|cudnn|fprop|dgrad|wgrad|_|$)|[hibdqu]?[hw]?gmma|[hibd]mma|wmma|xmma|tensorop|nvjet'
  r'|utcmma|tcgen05',
  re.IGNORECASE,
)


@functools.lru_cache(65536)
def phase(op_name: str, op_type: str = '') -> str:
  """FORWARD, BACKWARD, UPDATE, or '' where the name does not tell."""
  if _JAX.match(op_name):
    if 'transpose(' in op_name:
      return BACKWARD
    return FORWARD if 'jvp(' in op_name else ''
  if _TF_BACKWARD.match(op_name):
    return BACKWARD
  if _TF_UPDATE.match(op_name) or _TF_APPLY.match(op_type):
    return UPDATE
  if op_name.endswith('Backward0') or '_backward' in op_name:
    return BACKWARD
  if op_name.startswith(('model', 'sequential', 'functional')) and _TF_FORWARD.match(op_name):
    return FORWARD
  return ''


@functools.lru_cache(65536)
def layer(op_name: str) -> str:
  """The layer by the model's own name for it, such as 'Conv_0' or 'conv2d_6'; '' if unknown."""
  if _JAX.match(op_name):
    return _jax_layer(op_name)
  if '::' in op_name:
    return ''
  parts = _TF_BACKWARD.sub('', op_name).split('/')
  if len(parts) < 3 or _TF_UPDATE.match(op_name):
    return ''
  # 'model/block/conv2d_6/Conv2D/Conv2DBackpropFilter': operators are in capitals, layers are not.
  names = parts[1:-1]
  while names and names[-1][:1].isupper():
    names.pop()
  return '/'.join(names)


def _jax_layer(op_name: str) -> str:
  """What flax adds between the transformations and the primitive, without the network's name."""
  names: list[str] = []
  for part in op_name.split('/')[1:-1]:
    if part.startswith(('jit(', 'pjit(')):
      continue  # a function within, such as jit(relu)
    while match := _WRAPPER.match(part):
      part = match[1]
    names.append(part)
  return '/'.join(name for name in names[1:] if name)  # the first is the network itself


@functools.lru_cache(65536)
def is_tensor_core_eligible(op_name: str, op_type: str = '') -> bool:
  """Whether the operator is a matrix product or a convolution, which tensor cores can do."""
  last = op_type or op_name.rpartition('/')[2].rpartition('::')[2]
  return _ELIGIBLE.fullmatch(last.partition('[')[0]) is not None


@functools.lru_cache(65536)
def uses_tensor_core(kernel_name: str) -> bool:
  """Whether the kernel's name says that it runs on tensor cores."""
  return _TENSOR_CORE.search(kernel_name) is not None
