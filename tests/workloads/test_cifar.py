"""Tests of cifar: its splits, its crops and flips, and one network in both frameworks.

Gradients are compared in float64: in float32 an input of a ReLU that is zero but for rounding
may pass in one framework and not in the other.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import weights

from algorithmic_efficiency.frameworks import on_jax, on_pytorch
from algorithmic_efficiency.spec import LossType, ParameterType
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.cifar import (
  FACTS,
  dataset,
  input_pipeline,
  model_jax,
  model_pytorch,
)
from algorithmic_efficiency.workloads.facts import EDITIONS

RNG = np.random.default_rng(23)
# Blocks with and without a shortcut of their own, and the image halved twice.
NARROW = FACTS.variant('narrow', model={'width': 4, 'stage_sizes': (1, 2, 1)})
PIXELS = RNG.integers(0, 256, (32, 32, 32, 3), np.uint8)
INPUTS = RNG.standard_normal((8, 32, 32, 3), dtype=np.float32)
QUICKLY = {'xla_backend_optimization_level': 1}  # compiles in a third of the time
TARGETS = RNG.integers(0, 10, 8)


def normalised(pixels):
  return (np.float64(pixels) / 255 - FACTS.train_mean) / FACTS.train_stddev


# Facts and splits.


def test_cifar_is_upstreams():
  assert registry.find('cifar').folder == 'cifar'
  assert FACTS.loss_type == LossType.SOFTMAX_CROSS_ENTROPY
  assert (FACTS.target_metric_name, FACTS.lower_is_better) == ('accuracy', False)
  assert (FACTS.validation_target_value, FACTS.test_target_value) == (0.85, 0.85)
  assert (FACTS.num_train_examples, FACTS.num_eval_train_examples) == (45_000, 5_120)
  assert (FACTS.num_validation_examples, FACTS.num_test_examples) == (5_000, 10_000)
  assert (FACTS.eval_batch_size, FACTS.dropout_rate) == (1024, 0)
  assert set(FACTS.budgets) == set(EDITIONS)
  for budget in FACTS.budgets.values():
    assert dataclasses.astuple(budget) == (3600, 600, 4883)


@pytest.fixture
def small(monkeypatch):
  """Facts of a tenth of a thousandth of the data, which stands in for all of it."""
  images = RNG.integers(0, 256, (12, 32, 32, 3), np.uint8)
  labels = RNG.integers(0, 10, 12, dtype=np.int32)
  cifar = dataset.Cifar(images[:10], labels[:10], images[10:], labels[10:], 'made up')
  monkeypatch.setattr(dataset, 'load', lambda _: cifar)
  input_pipeline._read.cache_clear()
  yield dataclasses.replace(FACTS, num_train_examples=7, num_eval_train_examples=3), images, labels
  input_pipeline._read.cache_clear()


def test_the_splits_are_cut_as_upstream_does(small):
  facts, images, labels = small
  cuts = {'train': (0, 7), 'eval_train': (0, 3), 'validation': (7, 10), 'test': (10, 12)}
  for split, (start, end) in cuts.items():
    arrays = input_pipeline.load(facts, split, None)
    assert set(arrays) == {'inputs', 'targets'}
    assert arrays['targets'].tolist() == labels[start:end].tolist()
    assert arrays['targets'].dtype == np.int32
    if split == 'train':
      assert arrays['inputs'].dtype == np.uint8
      assert np.array_equal(arrays['inputs'], images[start:end])
    else:
      assert arrays['inputs'].dtype == np.float32
      assert np.abs(arrays['inputs'] - normalised(images[start:end])).max() < 1e-5
  assert input_pipeline.source(None) == 'made up'


# Crops and flips.


def slowly(images, drawn):
  """The same pixel by pixel."""
  out = np.zeros_like(images)
  for n, image in enumerate(images):
    for row in range(32):
      for column in range(32):
        y = row + drawn['top'][n] - 4
        x = (31 - column if drawn['flipped'][n] else column) + drawn['left'][n] - 4
        if 0 <= y < 32 and 0 <= x < 32:
          out[n, row, column] = image[y, x]
  return out


def test_images_are_cropped_and_flipped_as_drawn():
  drawn = input_pipeline.draw_augmentation(np.random.default_rng(1), len(PIXELS))
  before = PIXELS.copy()
  batch = {'inputs': PIXELS, 'targets': np.arange(32)}
  augmented = input_pipeline.augment(FACTS, batch, drawn)
  expected = slowly(PIXELS, drawn)
  assert augmented['inputs'].dtype == np.float32
  assert augmented['inputs'].shape == PIXELS.shape
  assert augmented['inputs'].flags.c_contiguous
  # The zeros around an image are pixels, and normalised like them.
  assert np.abs(augmented['inputs'] - normalised(expected)).max() < 1e-5
  assert augmented['targets'] is batch['targets']
  assert np.array_equal(PIXELS, before)
  assert batch['inputs'] is PIXELS


def test_synthetic_inputs_are_cropped_and_flipped_only():
  drawn = input_pipeline.draw_augmentation(np.random.default_rng(2), len(INPUTS))
  augmented = input_pipeline.augment(FACTS, {'inputs': INPUTS}, drawn)
  assert np.array_equal(augmented['inputs'], slowly(INPUTS, drawn))


def test_an_image_may_stay_as_it_is_and_may_be_mirrored():
  drawn = {'top': np.array([4, 4]), 'left': np.array([4, 4]), 'flipped': np.array([False, True])}
  crops = input_pipeline.crop_and_flip(PIXELS[:2], **drawn)
  assert np.array_equal(crops[0], PIXELS[0])
  assert np.array_equal(crops[1], PIXELS[1, :, ::-1])


def test_a_part_of_the_batch_is_augmented_as_it_is_within_the_whole():
  drawn = input_pipeline.draw_augmentation(np.random.default_rng(3), len(PIXELS))
  whole = input_pipeline.augment(FACTS, {'inputs': PIXELS}, drawn)['inputs']
  for part in (slice(0, 16), slice(16, 32)):
    own = {name: array[part] for name, array in drawn.items()}
    batch = {'inputs': PIXELS[part]}
    assert np.array_equal(input_pipeline.augment(FACTS, batch, own)['inputs'], whole[part])


def test_every_crop_is_as_likely_as_any_other_and_half_are_flipped():
  count = 81_000
  drawn = input_pipeline.draw_augmentation(np.random.default_rng(4), count)
  assert {name: array.shape for name, array in drawn.items()} == dict.fromkeys(drawn, (count,))
  crops = np.zeros((9, 9), int)
  np.add.at(crops, (drawn['top'], drawn['left']), 1)
  # 1000 are expected of each, give or take 31; of flips 40,500, give or take 142.
  assert crops.sum() == count
  assert np.abs(crops - 1000).max() < 5 * 31
  assert drawn['flipped'].dtype == bool
  assert abs(int(drawn['flipped'].sum()) - count // 2) < 5 * 142
  assert (
    abs(np.corrcoef([drawn['top'], drawn['left'], drawn['flipped']])[[0, 0, 1], [1, 2, 2]]).max()
    < 0.02
  )


def test_the_generator_decides_what_is_drawn():
  one, same, other = (
    input_pipeline.draw_augmentation(np.random.default_rng(seed), 32) for seed in (5, 5, 6)
  )
  assert all(np.array_equal(one[name], same[name]) for name in one)
  assert any(not np.array_equal(one[name], other[name]) for name in one)


# The network.


@pytest.mark.slow
def test_the_networks_have_upstreams_parameters():
  model, module = model_jax.build_model(FACTS), model_pytorch.build_model(FACTS)()
  params, state = on_jax.init(model, INPUTS[:1], 0)
  assert on_jax.num_params(params) == on_pytorch.num_params(module) == 11_173_962
  assert FACTS.num_params == 11_173_962
  expected = {
    ParameterType.CONV_WEIGHT: 20,
    ParameterType.BATCH_NORM_SCALE: 20,
    ParameterType.BATCH_NORM_BIAS: 20,
    ParameterType.WEIGHT: 1,
    ParameterType.BIAS: 1,
  }
  for types in (on_jax.param_types(params), on_pytorch.param_types(module)):
    leaves = jax.tree.leaves(types)
    assert {kind: leaves.count(kind) for kind in set(leaves)} == expected
  assert set(model_jax.OUTPUT_PARAMS) <= set(params)
  assert set(model_pytorch.OUTPUT_PARAMS) <= dict(module.named_parameters()).keys()
  assert params['Dense_0']['kernel'].shape == (512, 10)
  assert module.output.weight.shape == (10, 512)
  variables = {'params': params, **state}
  assert_drawn_alike(weights.named_like_pytorch(model, variables, module, INPUTS[:1]), module)
  weights.copy_to_pytorch(model, variables, module, INPUTS[:1])
  assert_predicted_alike(model, variables, module, INPUTS[:2])


def assert_drawn_alike(drawn, module):
  """The weights are those that He and others draw, by fan-out; a block begins as its shortcut."""
  drawn = {name: array for name, array in drawn.items() if 'running' not in name}
  ours = {name: p.detach().numpy() for name, p in module.named_parameters()}
  assert drawn.keys() == ours.keys()
  for arrays in (drawn, ours):
    for name, array in arrays.items():
      if array.ndim == 1:
        assert np.all(array == float('norm' in name or 'shortcut' in name) * is_scale(name)), name
        continue
      outputs, inputs, *window = array.shape
      wanted = np.sqrt(2 / (outputs * np.prod(window))) if window else np.sqrt(1 / inputs)
      assert array.std() == pytest.approx(wanted, rel=4 / np.sqrt(array.size)), name
      assert abs(array.mean()) < 5 * wanted / np.sqrt(array.size), name
      if not window:  # cut at two standard deviations of the normal that is cut
        assert abs(array).max() <= 2 * wanted / 0.8796


def is_scale(name):
  return name.endswith('weight') and not name.endswith('norm2.weight')


@pytest.fixture(scope='module')
def narrow():
  """(flax module, its variables with every number drawn, PyTorch module with the same numbers)."""
  model, module = model_jax.build_model(NARROW), model_pytorch.build_model(NARROW)()
  params, state = on_jax.init(model, INPUTS[:1], 0)
  draw = np.random.default_rng(6)

  def disturb(array):
    # Scales of zero would hide what stands before them; variances stay above zero.
    return np.asarray(array) + (array.ndim == 1) * draw.uniform(0.1, 0.9, array.shape)

  variables = jax.tree.map(disturb, {'params': params, **state})
  weights.copy_to_pytorch(model, variables, module, INPUTS[:1])
  return model, variables, module


def assert_predicted_alike(model, variables, module, inputs):
  expected = compiled(model)(jax.tree.map(np.float32, variables), inputs, train=False)
  with torch.no_grad():
    ours = module.eval()(torch.from_numpy(inputs))
  assert np.abs(expected).max() > 0.1
  assert ours.numpy() == pytest.approx(np.asarray(expected), rel=1e-4, abs=1e-5)


def compiled(model):
  """Its forward pass."""
  static = ('train', 'use_running_average_bn', 'mutable')
  return jax.jit(model.apply, static_argnames=static, compiler_options=QUICKLY)


def test_the_frameworks_predict_alike(narrow):
  model, variables, module = narrow
  assert_predicted_alike(model, variables, module, INPUTS)
  # A stride of two must begin at the same pixel in both, however little of the image is lit.
  edge = np.zeros((2, 32, 32, 3), np.float32)
  edge[0, 0, 0], edge[1, 31, 31] = 50, 50
  assert_predicted_alike(model, variables, module, edge)


@pytest.fixture
def float64():
  jax.config.update('jax_enable_x64', True)
  yield
  jax.config.update('jax_enable_x64', False)


@pytest.mark.usefixtures('float64')
def test_the_frameworks_train_alike(narrow):
  model, variables, module = narrow
  before = {name: array.clone() for name, array in module.state_dict().items()}

  def mean_loss(params):
    given = {**variables, 'params': params}
    logits, new = model.apply(given, np.float64(INPUTS), train=True, mutable=['batch_stats'])
    return -jax.nn.log_softmax(logits)[jnp.arange(8), TARGETS].mean(), (logits, new)

  both = jax.jit(jax.value_and_grad(mean_loss, has_aux=True), compiler_options=QUICKLY)
  (loss, (logits, new)), gradients = both(variables['params'])
  found = {'params': gradients, **new}
  expected = weights.named_like_pytorch(model, found, module, INPUTS[:1])
  weights.copy_to_pytorch(model, variables, module.double(), np.float64(INPUTS[:1]))
  out = module.train()(torch.from_numpy(np.float64(INPUTS)))
  ours_loss = torch.nn.functional.cross_entropy(out, torch.from_numpy(TARGETS))
  ours_loss.backward()
  ours = {name: p.grad.numpy() for name, p in module.named_parameters()}
  ours |= {n: b.numpy().copy() for n, b in module.named_buffers() if 'tracked' not in n}
  module.zero_grad(set_to_none=True)
  module.float().load_state_dict(before)
  assert out.detach().numpy() == pytest.approx(np.asarray(logits), rel=1e-9, abs=1e-9)
  assert ours_loss.item() == pytest.approx(float(loss), rel=1e-9)
  assert ours.keys() == expected.keys()
  assert len(ours) == 2 + 11 * (1 + 2 + 2)  # of convolutions and norms there are eleven
  for name, array in expected.items():
    assert ours[name] == pytest.approx(array, rel=1e-7, abs=1e-7 * abs(array).max()), name


def test_the_model_of_flax_says_itself_which_statistics_it_takes(narrow):
  model, variables, _ = narrow
  variables = jax.tree.map(np.float32, variables)
  apply = compiled(model)

  def run(**options):
    logits, new = apply(variables, INPUTS, mutable='batch_stats', **options)
    return np.asarray(logits), new

  of_batch, new = run(train=True)
  running, kept = run(train=False)
  assert not np.allclose(of_batch, running, atol=1e-2)
  assert jax.tree.all(jax.tree.map(np.array_equal, kept['batch_stats'], variables['batch_stats']))
  changed = jax.tree.map(np.allclose, new['batch_stats'], variables['batch_stats'])
  assert not any(jax.tree.leaves(changed))
  assert run(train=True, use_running_average_bn=True)[0] == pytest.approx(running, abs=1e-4)
  assert run(train=False, use_running_average_bn=False)[0] == pytest.approx(of_batch, abs=1e-4)


def test_dropout_stands_before_the_last_layer_in_both(narrow):
  model, variables, module = narrow
  variables = jax.tree.map(np.float32, variables)
  bias = variables['params']['Dense_0']['bias']

  @jax.jit
  def run(rate, key):
    options = {'dropout_rate': rate, 'rngs': {'dropout': key}, 'use_running_average_bn': True}
    return model.apply(variables, INPUTS, train=True, **options)

  one, two = jax.random.split(jax.random.key(0))
  expected = run(0.0, one)
  assert not np.allclose(run(0.5, one), expected, atol=1e-3)
  assert not np.allclose(run(0.5, one), run(0.5, two), atol=1e-3)
  # With everything dropped the last layer's bias is left.
  assert run(1.0, one) == pytest.approx(np.tile(bias, (8, 1)), abs=1e-6)
  state = {name: array.clone() for name, array in module.state_dict().items()}
  with torch.no_grad():
    dropped = module.train()(torch.from_numpy(INPUTS), dropout_rate=1.0)
    assert dropped.numpy() == pytest.approx(np.tile(bias, (8, 1)), abs=1e-6)
    kept = module.eval()(torch.from_numpy(INPUTS), dropout_rate=1.0)
    assert not np.allclose(kept, dropped, atol=1e-3)
  module.load_state_dict(state)
