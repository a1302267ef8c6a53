"""Tests of what the two frameworks do differently: same face, same numbers, each against numpy."""

import functools
import importlib.util
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.frameworks import on_jax, on_pytorch
from algorithmic_efficiency.spec import ForwardPassMode, LossType, ParameterType, ShapeTuple

SEVERAL_DEVICES = '--xla_force_host_platform_device_count=8'
EXAMPLES, CLASSES = 6, 5
TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
MASK = np.float32([1, 1, 0, 1, 0, 1])


def functions_of(module):
  """Public functions defined in a module, each with its arguments' names and kinds."""
  return {
    name: [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and name[0] != '_'
  }


def test_both_have_the_same_functions_with_the_same_arguments():
  assert functions_of(on_jax) == functions_of(on_pytorch)
  assert (on_jax.NAME, on_pytorch.NAME) == ('jax', 'pytorch')


def test_load_gives_the_module_of_that_name():
  assert frameworks.load('jax') is on_jax
  assert frameworks.load('pytorch') is on_pytorch


@pytest.mark.parametrize(('name', 'module'), [('jax', 'flax'), ('pytorch', 'torch')])
def test_a_framework_that_is_not_installed_is_told_with_its_remedy(name, module, monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, 'find_spec', lambda n: None if n == module else find(n))
  with pytest.raises(UsageError, match=rf'needs {module}, .*algorithmic-efficiency\[{name}\]'):
    frameworks.load(name)


# Losses and activations. The closed forms are in float64 and share no code with the frameworks.


def softmax(logits):
  exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
  return exponentials / exponentials.sum(axis=-1, keepdims=True)


def sigmoid(logits):
  return 1 / (1 + np.exp(-logits))


def closed_form(loss_type, targets, logits, smoothing):
  """The loss of each example."""
  logits = logits.astype(np.float64)
  if loss_type == LossType.SOFTMAX_CROSS_ENTROPY:
    wanted = np.eye(CLASSES)[targets] if targets.ndim == 1 else targets.astype(np.float64)
    wanted = wanted * (1 - smoothing) + smoothing / CLASSES
    return -(wanted * np.log(softmax(logits))).sum(axis=-1)
  if loss_type == LossType.SIGMOID_CROSS_ENTROPY:
    wanted = targets * (1 - smoothing) + smoothing * 0.5
    each = -wanted * np.log(sigmoid(logits)) - (1 - wanted) * np.log(sigmoid(-logits))
    return each.reshape(len(each), -1).sum(axis=-1)
  difference = logits - targets
  each = difference**2 if loss_type == LossType.MEAN_SQUARED_ERROR else np.abs(difference)
  return each.reshape(len(each), -1).mean(axis=-1)


def loss_case(loss_type, kind):
  """(targets, logits) of that kind."""
  draw = np.random.default_rng(7)
  shape = {'one number': (EXAMPLES,), 'image': (EXAMPLES, 3, 4, 2)}.get(kind, (EXAMPLES, CLASSES))
  logits = (3 * draw.standard_normal(shape)).astype(np.float32)
  classes = draw.integers(0, CLASSES, EXAMPLES, dtype=np.int32)
  if kind == 'integer':
    return classes, logits
  if kind == 'one-hot':
    return np.eye(CLASSES, dtype=np.float32)[classes], logits
  if loss_type == LossType.SIGMOID_CROSS_ENTROPY:
    return draw.integers(0, 2, shape).astype(np.float32), logits
  return draw.standard_normal(shape).astype(np.float32), logits


LOSS_CASES = [
  (LossType.SOFTMAX_CROSS_ENTROPY, 'integer'),
  (LossType.SOFTMAX_CROSS_ENTROPY, 'one-hot'),
  *((loss, kind) for loss in (
      LossType.SIGMOID_CROSS_ENTROPY, LossType.MEAN_SQUARED_ERROR, LossType.MEAN_ABSOLUTE_ERROR
    ) for kind in ('one number', 'image')),
]  # fmt: skip


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
@pytest.mark.parametrize('masked', [False, True], ids=['whole', 'masked'])
@pytest.mark.parametrize(('loss_type', 'kind'), LOSS_CASES)
@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
def test_a_loss_is_its_closed_form(framework, loss_type, kind, masked, smoothing):
  targets, logits = loss_case(loss_type, kind)
  placed = framework.place({'targets': targets, 'logits': logits, 'mask': MASK})
  mask = placed['mask'] if masked else None
  found = framework.loss(loss_type, placed['targets'], placed['logits'], mask, smoothing)
  if loss_type in (LossType.MEAN_SQUARED_ERROR, LossType.MEAN_ABSOLUTE_ERROR):
    smoothing = 0.0  # there are no classes to smooth over
  expected = closed_form(loss_type, targets, logits, smoothing) * (MASK if masked else 1.0)
  assert set(found) == {'summed', 'n_valid_examples', 'per_example'}
  assert np.shape(found['per_example']) == (EXAMPLES,)
  np.testing.assert_allclose(found['per_example'], expected, rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(found['summed'], expected.sum(), rtol=1e-5, atol=1e-5)
  assert float(found['n_valid_examples']) == (4 if masked else EXAMPLES)


@pytest.mark.parametrize('loss_type', [LossType.SOFTMAX_CROSS_ENTROPY, LossType.MEAN_SQUARED_ERROR])
@pytest.mark.parametrize('mask', [None, torch.tensor(MASK)])
def test_the_number_of_valid_examples_is_a_tensor_that_can_be_summed_over_ranks(loss_type, mask):
  kind = 'integer' if loss_type == LossType.SOFTMAX_CROSS_ENTROPY else 'vector'
  targets, logits = loss_case(loss_type, kind)
  batch = on_pytorch.place({'targets': targets, 'logits': logits})
  found = on_pytorch.loss(loss_type, **batch, mask=mask)
  assert isinstance(found['n_valid_examples'], torch.Tensor)
  assert found['n_valid_examples'].shape == found['summed'].shape == ()


def test_the_number_of_valid_examples_can_be_divided_by_in_a_compiled_function():
  targets, logits = loss_case(LossType.SOFTMAX_CROSS_ENTROPY, 'integer')

  @jax.jit
  def mean(targets, logits):
    found = on_jax.loss(LossType.SOFTMAX_CROSS_ENTROPY, targets, logits)
    return found['summed'] / found['n_valid_examples']

  expected = closed_form(LossType.SOFTMAX_CROSS_ENTROPY, targets, logits, 0.0).mean()
  assert float(mean(targets, logits)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
@pytest.mark.parametrize(
  ('loss_type', 'targets', 'expected'),
  [
    (LossType.SOFTMAX_CROSS_ENTROPY, np.int32([0, 1]), [0.0, 2000.0]),
    (LossType.SIGMOID_CROSS_ENTROPY, np.float32([[1, 0], [0, 1]]), [0.0, 2000.0]),
  ],
)
def test_losses_of_very_sure_logits_are_finite(framework, loss_type, targets, expected):
  logits = np.float32([[1000, -1000], [1000, -1000]])
  placed = framework.place({'targets': targets, 'logits': logits})
  found = framework.loss(loss_type, placed['targets'], placed['logits'])
  np.testing.assert_allclose(found['per_example'], expected, rtol=1e-6)


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
@pytest.mark.parametrize(
  ('loss_type', 'expected'),
  [
    (LossType.SOFTMAX_CROSS_ENTROPY, softmax),
    (LossType.SIGMOID_CROSS_ENTROPY, sigmoid),
    (LossType.MEAN_SQUARED_ERROR, lambda logits: logits),
    (LossType.MEAN_ABSOLUTE_ERROR, lambda logits: logits),
    (LossType.CTC_LOSS, lambda logits: logits),
  ],
)
def test_an_activation_is_its_closed_form(framework, loss_type, expected):
  logits = loss_case(LossType.SOFTMAX_CROSS_ENTROPY, 'integer')[1]
  found = framework.activate(loss_type, framework.place({'logits': logits})['logits'])
  np.testing.assert_allclose(found, expected(logits.astype(np.float64)), rtol=1e-5, atol=1e-6)


# Batch norm: the rule is in the closed form, with the frameworks' different variances.


class NormJax(nn.Module):
  @nn.compact
  def __call__(self, inputs, train):
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(inputs)


INPUTS = np.random.default_rng(3).normal(2.0, 3.0, (32, 4)).astype(np.float32)
UPDATED_MEAN = 0.1 * INPUTS.mean(axis=0)
# flax averages the batch's own variance, PyTorch the unbiased estimate from it.
UPDATED_VAR = {
  'jax': 0.9 + 0.1 * INPUTS.var(axis=0),
  'pytorch': 0.9 + 0.1 * INPUTS.var(axis=0, ddof=1),
}
BY_THE_BATCH = (INPUTS - INPUTS.mean(axis=0)) / np.sqrt(INPUTS.var(axis=0) + 1e-5)
BY_FRESH_STATISTICS = INPUTS / np.sqrt(1 + 1e-5)


class BatchNormUser:
  """A model that is one batch norm, run through a framework's `apply`."""

  def __init__(self, framework):
    self.framework = framework
    self.model = NormJax() if framework is on_jax else functools.partial(torch.nn.BatchNorm1d, 4)
    self.params, self.state = framework.init(self.model, INPUTS[:1], 0)

  def forward(self, mode, update):
    inputs = self.framework.place({'inputs': INPUTS})['inputs']
    outputs, self.state = self.framework.apply(
      self.model, self.params, inputs, self.state, mode, None, update
    )
    return np.asarray(outputs.detach() if self.framework is on_pytorch else outputs)

  def statistics(self):
    """(mean, variance) as they are now."""
    if self.framework is on_pytorch:
      return self.params.running_mean.numpy().copy(), self.params.running_var.numpy().copy()
    found = self.state['batch_stats']['BatchNorm_0']
    return np.asarray(found['mean']), np.asarray(found['var'])


@pytest.fixture(params=[on_jax, on_pytorch], ids=lambda f: f.NAME)
def norm(request):
  return BatchNormUser(request.param)


def test_training_with_an_update_moves_the_statistics(norm):
  outputs = norm.forward(TRAIN, update=True)
  np.testing.assert_allclose(outputs, BY_THE_BATCH, atol=1e-4)
  mean, var = norm.statistics()
  np.testing.assert_allclose(mean, UPDATED_MEAN, rtol=1e-4)
  np.testing.assert_allclose(var, UPDATED_VAR[norm.framework.NAME], rtol=1e-4)


def test_training_without_an_update_keeps_the_statistics_and_still_uses_the_batch(norm):
  outputs = norm.forward(TRAIN, update=False)
  np.testing.assert_allclose(outputs, BY_THE_BATCH, atol=1e-4)
  assert [x.tolist() for x in norm.statistics()] == [[0.0] * 4, [1.0] * 4]


@pytest.mark.parametrize('update', [False, True])
def test_evaluation_uses_the_statistics_and_keeps_them(norm, update):
  outputs = norm.forward(EVAL, update)
  np.testing.assert_allclose(outputs, BY_FRESH_STATISTICS, rtol=1e-4)
  assert [x.tolist() for x in norm.statistics()] == [[0.0] * 4, [1.0] * 4]


def test_each_pass_obeys_its_own_flag_whatever_came_before(norm):
  norm.forward(TRAIN, update=True)
  once = norm.statistics()
  norm.forward(TRAIN, update=False)
  norm.forward(EVAL, update=True)
  np.testing.assert_array_equal(norm.statistics(), once)
  norm.forward(TRAIN, update=True)
  twice = norm.statistics()
  np.testing.assert_allclose(twice[0], 1.9 * UPDATED_MEAN, rtol=1e-4)
  evaluated = norm.forward(EVAL, update=False)
  np.testing.assert_allclose(evaluated, (INPUTS - twice[0]) / np.sqrt(twice[1] + 1e-5), atol=1e-4)


def test_only_training_keeps_what_gradients_need():
  module = torch.nn.Linear(4, 2)
  inputs = torch.tensor(INPUTS)
  trained, _ = on_pytorch.apply(None, module, inputs, None, TRAIN, None, True)
  evaluated, _ = on_pytorch.apply(None, module, inputs, None, EVAL, None, True)
  assert trained.requires_grad
  assert not evaluated.requires_grad
  assert torch.equal(trained, evaluated)


class DropoutJax(nn.Module):
  @nn.compact
  def __call__(self, inputs, train):
    return nn.Dropout(0.5, deterministic=not train)(inputs)


def test_dropout_draws_from_the_key_in_training_and_is_off_in_evaluation():
  forward = functools.partial(on_jax.apply, DropoutJax(), {}, jnp.ones((8, 8)), None)
  first, second = on_jax.keys(np.uint32([[1, 2], [3, 4]]))
  one, again, other = (forward(TRAIN, key, True)[0] for key in (first, first, second))
  assert np.array_equal(one, again)
  assert not np.array_equal(one, other)
  assert set(np.unique(one)) == {0.0, 2.0}
  assert np.array_equal(forward(EVAL, None, True)[0], np.ones((8, 8)))


# What a parameter is.


class EveryLayerJax(nn.Module):
  @nn.compact
  def __call__(self, inputs, train):
    x = nn.Embed(11, 8)(inputs)[..., None]
    x = nn.Conv(4, (3, 3))(x)
    x = nn.BatchNorm(use_running_average=not train)(x)
    x = nn.GroupNorm(2)(x)
    x = nn.LayerNorm()(x)
    return nn.Dense(3)(x)


class EveryLayerPytorch(torch.nn.Module):
  def __init__(self):
    super().__init__()
    self.embed = torch.nn.Embedding(11, 8)
    self.conv = torch.nn.Conv2d(1, 4, 3)
    self.batch_norm = torch.nn.BatchNorm2d(4)
    self.group_norm = torch.nn.GroupNorm(2, 4)
    self.layer_norm = torch.nn.LayerNorm(4)
    self.dense = torch.nn.Linear(4, 3)


def shapes_of_every_layer():
  """The parameters of EveryLayerJax without their values, which need not be computed here."""
  build = functools.partial(EveryLayerJax().init, jax.random.PRNGKey(0), train=False)
  return jax.eval_shape(build, np.zeros((1, 5), np.int32))['params']


def test_parameter_types_in_jax():
  params = shapes_of_every_layer()
  scaled = {'scale': ParameterType.LAYER_NORM_SCALE, 'bias': ParameterType.LAYER_NORM_BIAS}
  assert on_jax.param_types(params) == {
    'Embed_0': {'embedding': ParameterType.EMBEDDING},
    'Conv_0': {'kernel': ParameterType.CONV_WEIGHT, 'bias': ParameterType.BIAS},
    'BatchNorm_0': {
      'scale': ParameterType.BATCH_NORM_SCALE,
      'bias': ParameterType.BATCH_NORM_BIAS,
    },
    'GroupNorm_0': scaled,
    'LayerNorm_0': scaled,
    'Dense_0': {'kernel': ParameterType.WEIGHT, 'bias': ParameterType.BIAS},
  }


def test_parameter_types_in_pytorch():
  params, _ = on_pytorch.init(EveryLayerPytorch, np.zeros((1, 5)), 0)
  assert on_pytorch.param_types(params) == {
    'embed.weight': ParameterType.EMBEDDING,
    'conv.weight': ParameterType.CONV_WEIGHT,
    'conv.bias': ParameterType.BIAS,
    'batch_norm.weight': ParameterType.BATCH_NORM_SCALE,
    'batch_norm.bias': ParameterType.BATCH_NORM_BIAS,
    'group_norm.weight': ParameterType.LAYER_NORM_SCALE,
    'group_norm.bias': ParameterType.LAYER_NORM_BIAS,
    'layer_norm.weight': ParameterType.LAYER_NORM_SCALE,
    'layer_norm.bias': ParameterType.LAYER_NORM_BIAS,
    'dense.weight': ParameterType.WEIGHT,
    'dense.bias': ParameterType.BIAS,
  }


def test_both_count_and_measure_the_same_parameters():
  in_jax = shapes_of_every_layer()
  in_pytorch, _ = on_pytorch.init(EveryLayerPytorch, np.zeros((1, 5)), 0)
  by_hand = 11 * 8 + (3 * 3 * 4 + 4) + 3 * (4 + 4) + (4 * 3 + 3)
  assert on_jax.num_params(in_jax) == on_pytorch.num_params(in_pytorch) == by_hand
  assert on_jax.param_shapes(in_jax)['Conv_0']['kernel'] == ShapeTuple((3, 3, 1, 4))
  assert on_pytorch.param_shapes(in_pytorch)['conv.weight'] == ShapeTuple((4, 1, 3, 3))
