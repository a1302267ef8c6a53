"""Tests of unet: one network in both frameworks, its loss and its metric; its files are elsewhere.

Gradients are compared in float64: in float32 an input of a ReLU that is zero but for rounding
may pass in one framework and not in the other.
"""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import weights

from algorithmic_efficiency.frameworks import on_jax, on_pytorch
from algorithmic_efficiency.spec import LossType, ParameterType
from algorithmic_efficiency.workloads import registry, synthetic, unet
from algorithmic_efficiency.workloads.facts import EDITIONS
from algorithmic_efficiency.workloads.unet import metrics, model_jax, model_pytorch

RNG = np.random.default_rng(29)
QUICKLY = {'xla_backend_optimization_level': 1}  # compiles in a third of the time
INPUTS = RNG.standard_normal((6, 32, 32, 3), dtype=np.float32)
MASKS = (RNG.uniform(size=(6, 32, 32, 1)) < 0.3).astype(np.float32)
MASKS[4:] = 0  # two of the six show nothing
FULL_WIDTHS = (32, 64, 128, 256, 512)


def facts_of(widths):
  """All four levels, whatever the other tests have made of the facts."""
  return dataclasses.replace(unet.FACTS, model={**unet.FACTS.model, 'widths': widths})


NARROW = facts_of((2, 3, 4, 5, 6))


# Facts.


def test_the_facts_are_those_that_were_asked_for():
  assert registry.find('unet').folder == 'unet'
  assert (unet.FACTS.loss_name, unet.FACTS.target_metric_name) == ('dice', 'dice')
  assert unet.FACTS.loss_type == LossType.SIGMOID_CROSS_ENTROPY
  assert not unet.FACTS.lower_is_better
  assert (unet.FACTS.validation_target_value, unet.FACTS.test_target_value) == (0.8, 0.8)
  assert set(unet.FACTS.budgets) == set(EDITIONS)


def test_synthetic_masks_have_their_shape():
  arrays = synthetic.split(unet.FACTS, 'validation', 10, 3)
  assert arrays['inputs'].shape == (10, *unet.FACTS.input_shape)
  assert arrays['targets'].shape == (10, *unet.FACTS.target_shape)
  assert arrays['inputs'].dtype == arrays['targets'].dtype == np.float32
  assert set(np.unique(arrays['targets'])) == {0, 1}


# The network.


def shapes_of_the_full_network():
  """(flax module, its parameters without their values, PyTorch module)."""
  facts = facts_of(FULL_WIDTHS)
  model, module = model_jax.build_model(facts), model_pytorch.build_model(facts)()
  variables = jax.eval_shape(
    lambda key: model.init(key, np.zeros((1, 64, 64, 3), np.float32), train=False),
    jax.random.key(0),
  )
  return model, variables['params'], module


def test_the_networks_have_7763041_parameters():
  _, params, module = shapes_of_the_full_network()
  assert on_jax.num_params(params) == on_pytorch.num_params(module) == 7_763_041
  expected = {
    ParameterType.CONV_WEIGHT: 18 + 4 + 1,
    ParameterType.BATCH_NORM_SCALE: 18,
    ParameterType.BATCH_NORM_BIAS: 18,
    ParameterType.BIAS: 4 + 1,
  }
  for types in (on_jax.param_types(params), on_pytorch.param_types(module)):
    leaves = jax.tree.leaves(types)
    assert {kind: leaves.count(kind) for kind in set(leaves)} == expected
  assert params['Conv_0']['kernel'].shape == (1, 1, 32, 1)
  assert module.output.weight.shape == (1, 32, 1, 1)
  assert set(model_jax.OUTPUT_PARAMS) <= set(params)
  assert set(model_pytorch.OUTPUT_PARAMS) <= dict(module.named_parameters()).keys()


@pytest.mark.slow
def test_both_draw_their_weights_from_one_distribution():
  facts = facts_of((8, 16, 32))
  model, module = model_jax.build_model(facts), model_pytorch.build_model(facts)()
  params, state = on_jax.init(model, INPUTS[:1], 0)
  drawn = weights.named_like_pytorch(model, {'params': params, **state}, module, INPUTS[:1])
  ours = {name: p.detach().numpy() for name, p in module.named_parameters()}
  assert {name for name in drawn if 'running' not in name} == ours.keys()
  for name, array in ours.items():
    for found in (array, drawn[name]):
      if found.ndim == 1:
        assert np.all(found == ('norm' in name and name.endswith('weight'))), name
        continue
      # [outputs, inputs, 3, 3] before a ReLU; [inputs, outputs, 2, 2] or [outputs, inputs, 1, 1].
      inputs = found.shape[0] if 'enlarge' in name else found.shape[1]
      wanted = np.sqrt(2 / (9 * inputs)) if found.shape[-1] == 3 else np.sqrt(1 / inputs)
      error = wanted / np.sqrt(found.size)
      assert found.std() == pytest.approx(wanted, abs=4 * error), name
      assert abs(found.mean()) < 5 * error, name


@pytest.fixture(scope='module')
def narrow():
  """(flax module, its variables with every number drawn, PyTorch module with the same numbers)."""
  model, module = model_jax.build_model(NARROW), model_pytorch.build_model(NARROW)()
  params, state = on_jax.init(model, INPUTS[:1], 0)
  draw = np.random.default_rng(6)

  def disturb(array):
    # Biases of zero and scales of one would hide a mistake; variances stay above zero.
    return np.asarray(array) + (array.ndim == 1) * draw.uniform(0.1, 0.9, array.shape)

  variables = jax.tree.map(disturb, {'params': params, **state})
  weights.copy_to_pytorch(model, variables, module, INPUTS[:1])
  return model, variables, module


def test_the_frameworks_predict_alike(narrow):
  model, variables, module = narrow
  run = jax.jit(model.apply, static_argnames='train', compiler_options=QUICKLY)
  edge = np.zeros((6, 32, 32, 3), np.float32)
  edge[0, 0, 0], edge[1, 31, 31], edge[2, 0, 31], edge[3, 13, 18] = 50, 50, 50, 50
  for inputs in (INPUTS, edge):
    expected = np.asarray(run(jax.tree.map(np.float32, variables), inputs, train=False))
    with torch.no_grad():
      ours = module.eval()(torch.from_numpy(inputs)).numpy()
    assert expected.shape == (6, 32, 32, 1)
    assert expected.std(axis=(1, 2)).max() > 0.01
    assert ours == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.fixture
def float64():
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', False)


@pytest.mark.slow
@pytest.mark.usefixtures('float64')
def test_the_frameworks_train_alike(narrow):
  model, variables, module = narrow
  before = {name: array.clone() for name, array in module.state_dict().items()}
  masks = np.float64(MASKS)

  def mean_loss(params):
    given = {**variables, 'params': params}
    logits, new = model.apply(given, np.float64(INPUTS), train=True, mutable=['batch_stats'])
    found = on_jax.loss('dice', masks, logits)
    return found['summed'] / found['n_valid_examples'], (logits, new)

  both = jax.jit(jax.value_and_grad(mean_loss, has_aux=True), compiler_options=QUICKLY)
  (loss, (logits, new)), gradients = both(variables['params'])
  found = {'params': gradients, **new}
  expected = weights.named_like_pytorch(model, found, module, INPUTS[:1])
  weights.copy_to_pytorch(model, variables, module.double(), np.float64(INPUTS[:1]))
  out = module.train()(torch.from_numpy(np.float64(INPUTS)))
  found = on_pytorch.loss('dice', torch.from_numpy(masks), out)
  ours_loss = found['summed'] / found['n_valid_examples']
  ours_loss.backward()
  ours = {name: p.grad.numpy() for name, p in module.named_parameters()}
  ours |= {n: b.numpy().copy() for n, b in module.named_buffers() if 'tracked' not in n}
  module.zero_grad(set_to_none=True)
  module.float().load_state_dict(before)
  assert out.detach().numpy() == pytest.approx(np.asarray(logits), rel=1e-9, abs=1e-9)
  assert ours_loss.item() == pytest.approx(float(loss), rel=1e-9)
  assert ours.keys() == expected.keys()
  assert len(ours) == 18 * (1 + 2 + 2) + (4 + 1) * 2
  for name, array in expected.items():
    assert array.any(), name
    assert ours[name] == pytest.approx(array, rel=1e-7, abs=1e-7 * abs(array).max()), name


@pytest.mark.slow
def test_dropout_stands_at_the_bottom_in_both():
  facts = facts_of((2, 3, 4))
  model, module = model_jax.build_model(facts), model_pytorch.build_model(facts)()
  params, state = on_jax.init(model, INPUTS[:1], 0)
  variables = {'params': params, **state}
  weights.copy_to_pytorch(model, variables, module, INPUTS[:1])

  @jax.jit
  def run(rate, key):
    options = {'dropout_rate': rate, 'rngs': {'dropout': key}, 'use_running_average_bn': True}
    return model.apply(variables, INPUTS, train=True, **options)

  one, two = jax.random.split(jax.random.key(0))
  assert not np.allclose(run(0.5, one), run(0.5, two), atol=1e-4)
  assert not np.allclose(run(0.5, one), run(0.0, one), atol=1e-4)
  module.train()
  for layer in module.modules():  # the running statistics, as above
    if isinstance(layer, torch.nn.BatchNorm2d):
      layer.eval()
  with torch.no_grad():
    dropped = module(torch.from_numpy(INPUTS), dropout_rate=1.0)
  # With all of the bottom dropped nothing is random: both have what went past it.
  assert dropped.numpy() == pytest.approx(np.asarray(run(1.0, one)), rel=1e-4, abs=1e-5)


# The loss and the metric, against a slow and obvious version.


def dice_slowly(predicted, wanted):
  """Pixel by pixel, of one example."""
  overlap = total = 0
  for ours, theirs in zip(predicted.ravel().tolist(), wanted.ravel().tolist(), strict=True):
    overlap += 1 if ours and theirs else 0
    total += (1 if ours else 0) + (1 if theirs else 0)
  return 1.0 if total == 0 else 2 * overlap / total


def dice_loss_slowly(logits, mask):
  """Of one example, with smooth 1."""
  overlap = total = 0.0
  for logit, theirs in zip(logits.ravel().tolist(), mask.ravel().tolist(), strict=True):
    share = 1 / (1 + np.exp(-logit))
    overlap += share * theirs
    total += share + theirs
  return 1 - (2 * overlap + 1) / (total + 1)


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('smoothing', [0.0, 0.2])
def test_the_loss_is_the_soft_dice_of_each_example(framework, masked, smoothing):
  logits = 3 * RNG.standard_normal(MASKS.shape, dtype=np.float32)
  weight = np.float32([1, 0, 1, 1, 0, 1])
  placed = framework.place({'targets': MASKS, 'logits': logits, 'weights': weight})
  mask = placed['weights'] if masked else None
  found = framework.loss('dice', placed['targets'], placed['logits'], mask, smoothing)
  wanted = MASKS * (1 - smoothing) + smoothing / 2
  expected = np.array([dice_loss_slowly(*each) for each in zip(logits, wanted, strict=True)])
  expected = expected * weight if masked else expected
  np.testing.assert_allclose(found['per_example'], expected, rtol=1e-5)
  np.testing.assert_allclose(found['summed'], expected.sum(), rtol=1e-5)
  assert float(found['n_valid_examples']) == (4 if masked else 6)


@pytest.mark.parametrize('framework', [on_jax, on_pytorch], ids=lambda f: f.NAME)
def test_the_loss_knows_its_ends(framework):
  sure = np.where(MASKS > 0, 1000, -1000).astype(np.float32)
  placed = framework.place({'targets': MASKS, 'right': sure, 'wrong': -sure})
  right = framework.loss('dice', placed['targets'], placed['right'])['per_example']
  wrong = framework.loss('dice', placed['targets'], placed['wrong'])['per_example']
  np.testing.assert_allclose(right, 0, atol=1e-6)  # an empty mask found empty included
  np.testing.assert_allclose(wrong, 1 - 1 / (32 * 32 + 1), rtol=1e-6)
  shares = framework.activate(unet.FACTS.loss_type, placed['right'])
  assert np.array_equal(np.asarray(shares), MASKS)


def test_the_metric_is_the_mean_of_the_dice_of_each_example():
  logits = RNG.standard_normal((6, 32, 32, 1)) - 0.5
  logits[0], logits[5] = -1, -1  # nothing found where there is something, and where there is not
  losses, weight = np.arange(6.0), np.float32([1, 1, 0, 1, 1, 1])
  found = metrics.summed_metrics(logits, MASKS, losses, weight)
  each = [dice_slowly(logit > 0, mask) for logit, mask in zip(logits, MASKS, strict=True)]
  assert each[0] == each[4] == 0
  assert each[5] == 1
  assert found == {
    'dice': pytest.approx(sum(each) - each[2]),
    'loss': pytest.approx(losses.sum() - losses[2]),
  }


def test_a_probability_of_one_half_is_not_above_it():
  logits, mask = np.zeros((1, 2, 2, 1)), np.ones((1, 2, 2, 1))
  zero, one = np.zeros(1), np.ones(1)
  assert metrics.summed_metrics(logits, mask, zero, one)['dice'] == 0
  assert metrics.summed_metrics(logits, 0 * mask, zero, one)['dice'] == 1
  assert metrics.summed_metrics(logits + 1e-9, mask, zero, one)['dice'] == 1
