"""Tests of what must hold of every workload in both frameworks, whichever there are.

Workloads whose data is not in the package are tested on synthetic data.
"""

import dataclasses
import functools
import itertools
import math

import jax
import numpy as np
import pytest
import weights

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.frameworks import on_jax, on_pytorch
from algorithmic_efficiency.spec import ForwardPassMode, LossType, ParameterType, ShapeTuple
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.facts import EDITIONS
from algorithmic_efficiency.workloads.workload import Workload

NAMES = sorted(registry.find_all())
FRAMEWORKS = ('jax', 'pytorch')
TRAIN, EVAL = ForwardPassMode.TRAIN, ForwardPassMode.EVAL
BATCH_SIZE = 32


def make(name, framework, **options):
  found = registry.find(name)
  if 'inside the package' not in found.facts.data:
    options = {'synthetic_seed': 11, **options}
  return Workload(found, frameworks.load(framework), **options)


@functools.cache
def made(name, framework):
  """A workload that tests only read from."""
  return make(name, framework)


@functools.cache
def initialised(name, framework, seed=5):
  """(parameters, model state) of `made`; not to be changed."""
  return made(name, framework).init_model_fn(seed)


# Of convolutions most of a test is compiling: a minute, which few changes are worth.
LARGE = ('cifar', 'unet')
each_workload = pytest.mark.parametrize(
  'name', [pytest.param(n, marks=pytest.mark.slow) if n in LARGE else n for n in NAMES]
)
each_framework = pytest.mark.parametrize('framework', FRAMEWORKS)


def numpy_of(framework, params):
  """Parameters by name as arrays: 'Dense_0/kernel' in JAX, 'hidden.weight' in PyTorch."""
  if framework == 'jax':
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {'/'.join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
  return {n: p.detach().numpy().copy() for n, p in params.named_parameters()}


def example_of(name):
  """One input, of zeros."""
  return np.zeros((1, *registry.find(name).facts.input_shape), np.float32)


def with_the_weights_of_jax(name):
  """A PyTorch module that holds the JAX parameters of `initialised`."""
  module, state = make(name, 'pytorch').init_model_fn(0)
  params, model_state = initialised(name, 'jax')
  variables = {'params': params, **(model_state or {})}
  weights.copy_to_pytorch(made(name, 'jax')._model, variables, module, example_of(name))
  return module, state


def batch_of(name, framework, seed=3):
  return next(made(name, framework).training_queue(seed, BATCH_SIZE))


def mean_loss(workload, params, state, batch):
  logits, _ = workload.model_fn(params, batch, state, TRAIN, None, update_batch_norm=True)
  loss = workload.loss_fn(batch['targets'], logits)
  return loss['summed'] / loss['n_valid_examples']


# Facts.


@each_workload
def test_the_facts_are_complete_and_sound(name):
  facts = registry.find(name).facts
  for text in ('summary', 'data', 'source', 'expected', 'target_metric_name'):
    assert getattr(facts, text).strip()
  assert isinstance(facts.loss_type, LossType)
  for count in ('train', 'eval_train', 'validation'):
    assert getattr(facts, f'num_{count}_examples') > 0
  assert facts.num_eval_train_examples <= facts.num_train_examples
  assert facts.num_test_examples is None or facts.num_test_examples > 0
  assert (facts.test_target_value is None) == (facts.num_test_examples is None)
  assert facts.eval_batch_size > 0
  assert all(size > 0 for size in (*facts.input_shape, facts.num_classes, facts.num_params))


@each_workload
@each_framework
@pytest.mark.parametrize('edition', EDITIONS)
def test_every_edition_grants_a_budget(name, framework, edition):
  workload = make(name, framework, edition=edition)
  granted = registry.find(name).facts.budgets[edition]
  assert workload.max_allowed_runtime_sec == granted.max_allowed_runtime_sec > 0
  assert workload.eval_period_time_sec == granted.eval_period_time_sec > 0
  assert workload.step_hint == granted.step_hint > 0
  assert workload.eval_period_time_sec < workload.max_allowed_runtime_sec


def test_mnist_is_upstreams():
  facts = registry.find('mnist').facts
  assert facts.loss_type == LossType.SOFTMAX_CROSS_ENTROPY
  assert (facts.target_metric_name, facts.lower_is_better) == ('accuracy', False)
  assert (facts.validation_target_value, facts.test_target_value) == (0.97, 0.97)
  assert facts.num_train_examples == 50_000
  assert facts.num_eval_train_examples == 10_000
  assert facts.num_validation_examples == facts.num_test_examples == 10_000
  assert facts.eval_batch_size == 10_000
  assert facts.num_params == 784 * 128 + 128 + 128 * 10 + 10 == 101_770
  assert (facts.train_mean, facts.train_stddev) == (0.1307, 0.3081)
  assert set(facts.budgets) == set(EDITIONS) == {'0.5', '0.6', '1.0'}
  for budget in facts.budgets.values():
    assert dataclasses.astuple(budget) == (60, 10, 7813)


@each_workload
@each_framework
def test_a_workload_is_hashable_and_differs_from_its_copy(name, framework):
  one, other = make(name, framework), make(name, framework)
  assert len({one, other, one}) == 2


# Parameters.


@each_workload
@each_framework
def test_the_model_has_the_number_of_parameters_of_the_facts(name, framework):
  params, _ = initialised(name, framework)
  count = sum(array.size for array in numpy_of(framework, params).values())
  assert count == made(name, framework).facts.num_params
  assert frameworks.load(framework).num_params(params) == count


@each_workload
@each_framework
def test_shapes_and_types_are_trees_like_the_parameters_once_there_is_a_model(name, framework):
  for tree in ('param_shapes', 'model_params_types'):
    with pytest.raises(ValueError, match='init_model_fn'):
      getattr(make(name, framework), tree)
  workload, (params, _) = made(name, framework), initialised(name, framework)
  like = params if framework == 'jax' else dict(params.named_parameters())
  shapes = jax.tree.map(lambda x: ShapeTuple(tuple(x.shape)), like)
  assert workload.param_shapes == shapes
  assert jax.tree.structure(workload.model_params_types) == jax.tree.structure(like)
  for kind, parameter in zip(
    jax.tree.leaves(workload.model_params_types), jax.tree.leaves(like), strict=True
  ):
    assert isinstance(kind, ParameterType)
    assert ('BIAS' in kind.name or 'SCALE' in kind.name) == (parameter.ndim == 1)


@each_workload
@each_framework
def test_the_seed_alone_decides_the_weights(name, framework):
  first, other = (numpy_of(framework, initialised(name, framework, seed)[0]) for seed in (5, 6))
  differing = {key for key in first if not np.array_equal(first[key], other[key])}
  assert differing == {key for key in first if first[key].ndim > 1}
  # A key of the framework seeds as its last number does.
  key = jax.random.PRNGKey(5) if framework == 'jax' else [3, 5]
  again = numpy_of(framework, make(name, framework).init_model_fn(key)[0])
  assert all(np.array_equal(first[key], again[key]) for key in first)


def is_zero_or_scale(key, array):
  return np.all(array == 0) or (np.all(array == 1) and ('scale' in key or 'weight' in key))


@each_workload
@each_framework
def test_weights_are_drawn_with_variance_one_over_fan_in_and_biases_are_zero(name, framework):
  params, _ = initialised(name, framework)
  for key, array in numpy_of(framework, params).items():
    if array.ndim == 1:
      assert is_zero_or_scale(key, array), key
      continue
    if array.ndim > 2:
      continue  # tests/workloads/test_cifar.py and test_unet.py look at convolutions
    fan_in = array.shape[0 if framework == 'jax' else 1]
    wanted = 1 / math.sqrt(fan_in)
    # The standard error of an estimate from n draws is near 0.6 / sqrt(n) of it.
    assert array.std() == pytest.approx(wanted, rel=3 / math.sqrt(array.size)), key
    assert abs(array.mean()) < 5 * wanted / math.sqrt(array.size), key
    # A normal cut at two standard deviations has 0.8796 of its variance's root left.
    assert np.abs(array).max() <= 2 * wanted / 0.8796, key
    assert np.abs(array).max() > 1.8 * wanted or array.size < 100, key


@each_workload
@each_framework
def test_the_output_parameters_are_those_that_make_the_logits(name, framework):
  workload = made(name, framework)
  params, _ = initialised(name, framework)
  if framework == 'jax':
    ours = {key for key in params if workload.is_output_params(key)}
    bias = {key: layer['bias'].shape for key, layer in params.items() if 'bias' in layer}
    expected = {key for key, shape in bias.items() if shape == (workload.facts.num_classes,)}
  else:
    shapes = {n: p.shape for n, p in params.named_parameters()}
    ours = {n for n in shapes if workload.is_output_params(n)}
    expected = {n for n, shape in shapes.items() if shape[0] == workload.facts.num_classes}
  assert ours == expected
  assert ours
  assert not workload.is_output_params('no such parameter')
  if framework == 'pytorch':  # as DistributedDataParallel and torch.compile name them
    assert all(workload.is_output_params(f'_orig_mod.module.{name}') for name in ours)


# Data.


@each_workload
def test_both_frameworks_see_the_same_batches(name):
  queues = [made(name, framework).training_queue(3, BATCH_SIZE) for framework in FRAMEWORKS]
  for in_jax, in_pytorch in itertools.islice(zip(*queues, strict=True), 5):
    assert set(in_jax) == set(in_pytorch) == {'inputs', 'targets'}
    assert in_pytorch['inputs'].numpy().tobytes() == np.asarray(in_jax['inputs']).tobytes()
    assert np.array_equal(in_pytorch['targets'].numpy(), in_jax['targets'])
  other = np.asarray(batch_of(name, 'jax', seed=4)['inputs'])
  assert not np.array_equal(other, batch_of(name, 'jax', seed=3)['inputs'])


@each_workload
@each_framework
def test_a_batch_has_the_shape_of_the_facts(name, framework):
  facts = registry.find(name).facts
  batch = {key: np.asarray(value) for key, value in batch_of(name, framework).items()}
  assert batch['inputs'].shape == (BATCH_SIZE, *facts.input_shape)
  assert batch['inputs'].dtype == np.float32
  assert batch['targets'].shape == (BATCH_SIZE, *facts.target_shape)
  values = 2 if facts.target_shape else facts.num_classes
  assert 0 <= batch['targets'].min() < batch['targets'].max() < values


@each_workload
def test_a_queue_may_start_later(name):
  whole = itertools.islice(made(name, 'jax').training_queue(3, BATCH_SIZE), 4, 6)
  later = made(name, 'jax').training_queue(3, BATCH_SIZE, start=4)
  for expected, batch in zip(whole, later, strict=False):
    assert np.array_equal(expected['inputs'], batch['inputs'])


@each_workload
@each_framework
def test_upstreams_input_queue_gives_the_same(name, framework):
  workload = made(name, framework)
  queue = workload._build_input_queue([0, 3], 'train', '', BATCH_SIZE)
  for batch in (next(queue), next(workload._build_input_queue(3, 'train', '', BATCH_SIZE))):
    assert np.array_equal(batch['inputs'], batch_of(name, framework)['inputs'])
  batches = list(workload._build_input_queue(0, 'validation', '', 128))
  count = len(workload.load('validation')['targets'])
  assert len(batches) == -(-count // 128)
  assert sum(float(batch['weights'].sum()) for batch in batches) == count
  assert len(list(workload._build_input_queue(0, 'test', '', 128, num_batches=2))) == 2
  endless = workload._build_input_queue(0, 'validation', '', 128, repeat_final_dataset=True)
  assert len(list(itertools.islice(endless, 3 * len(batches)))) == 3 * len(batches)


# The model.


@each_workload
@each_framework
@pytest.mark.parametrize('mode', [TRAIN, EVAL])
def test_a_batch_runs_forward_by_keyword_and_by_position(name, framework, mode):
  workload, batch = made(name, framework), batch_of(name, framework)
  params, state = initialised(name, framework)
  by_position, new_state = workload.model_fn(params, batch, state, mode, None, True)
  by_keyword, _ = workload.model_fn(
    params=params,
    augmented_and_preprocessed_input_batch=batch,
    model_state=state,
    mode=mode,
    rng=None,
    update_batch_norm=False,
  )
  facts = workload.facts
  assert tuple(by_position.shape) == (BATCH_SIZE, *(facts.target_shape or (facts.num_classes,)))
  assert jax.tree.structure(new_state) == jax.tree.structure(state)
  assert np.array_equal(by_position.tolist(), by_keyword.tolist())
  shares = np.asarray(workload.output_activation_fn(by_position, framework).tolist())
  assert 0 <= shares.min() < shares.max() <= 1
  if not facts.target_shape:
    np.testing.assert_allclose(shares.sum(axis=-1), 1, rtol=1e-5)


@each_workload
def test_both_frameworks_make_the_same_of_the_same_weights(name):
  module, state = with_the_weights_of_jax(name)
  in_jax = (made(name, 'jax'), *initialised(name, 'jax'), batch_of(name, 'jax'))
  in_pytorch = (made(name, 'pytorch'), module, state, batch_of(name, 'pytorch'))
  found = []
  for workload, params, model_state, batch in (in_jax, in_pytorch):
    logits, _ = workload.model_fn(params, batch, model_state, EVAL, None, update_batch_norm=False)
    losses = workload.loss_fn(batch['targets'], logits, label_smoothing=0.1)['per_example']
    found.append((np.asarray(logits), np.asarray(losses)))
  for one, other in zip(*found, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


@each_workload
def test_both_frameworks_have_the_same_gradients(name):
  module, state = with_the_weights_of_jax(name)
  params, model_state = initialised(name, 'jax')
  workload, batch = made(name, 'jax'), batch_of(name, 'jax')
  grads = jax.jit(jax.grad(lambda p: mean_loss(workload, p, model_state, batch)))(params)
  mean_loss(made(name, 'pytorch'), module, state, batch_of(name, 'pytorch')).backward()
  tree = {'params': grads, **(model_state or {})}
  expected = weights.named_like_pytorch(workload._model, tree, module, example_of(name))
  assert any(array.any() for array in expected.values())
  for parameter_name, parameter in module.named_parameters():
    theirs = expected[parameter_name]
    # A narrow ResNet has many activations at zero, where rounding decides which way they go.
    tolerance = 1e-2 if model_state else 1e-4
    distance = np.linalg.norm(parameter.grad.numpy() - theirs)
    assert distance <= tolerance * np.linalg.norm(theirs) + 1e-6, parameter_name


# Evaluation and targets.


def dice_by_hand(logits, masks):
  """(Dice coefficient, Dice loss), each the mean over examples."""
  coefficients, losses = [], []
  for logit, mask in zip(logits, masks, strict=True):
    share, found = 1 / (1 + np.exp(-logit)), logit > 0
    losses.append(1 - (2 * (share * mask).sum() + 1) / (share.sum() + mask.sum() + 1))
    coefficients.append(2 * found[mask > 0].sum() / (found.sum() + mask.sum()))
  return np.mean(coefficients), np.mean(losses)


def evaluation_by_hand(workload, params, state, split):
  """(target metric, loss) over a whole split, from its logits in one piece."""
  arrays = workload.load(split)
  placed = workload._framework.place(dict(arrays))
  logits, _ = workload.model_fn(params, placed, state, EVAL, None, update_batch_norm=False)
  logits = np.asarray(logits).astype(np.float64)
  if workload.facts.loss_name == 'dice':
    return dice_by_hand(logits, arrays['targets'].astype(np.float64))
  highest = logits.max(axis=-1)
  log_sum = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=-1))
  losses = log_sum - logits[np.arange(len(logits)), arrays['targets']]
  return (logits.argmax(axis=-1) == arrays['targets']).mean(), losses.mean()


@each_workload
@each_framework
def test_an_evaluation_counts_each_example_once_whatever_the_batch_size(
  name, framework, monkeypatch
):
  workload, (params, state) = made(name, framework), initialised(name, framework)
  total = len(workload.load('validation')['targets'])
  sizes = (total // 3 + 1, total, total + 7)
  # A ResNet is compiled for seconds; what cuts a split into batches knows no models.
  for size in sizes[:1] if state else sizes:
    monkeypatch.setattr(workload, 'eval_batch_size', size)
    metrics = workload.evaluate(params, state)
    for split, prefix in (('eval_train', 'train'), ('validation',) * 2, ('test',) * 2):
      metric, loss = evaluation_by_hand(workload, params, state, split)
      assert metrics[f'{prefix}/num_examples'] == len(workload.load(split)['targets'])
      name = workload.target_metric_name
      assert metrics[f'{prefix}/{name}'] == pytest.approx(metric, abs=1e-12)
      assert metrics[f'{prefix}/loss'] == pytest.approx(loss, rel=1e-5)


@each_workload
@each_framework
def test_an_evaluation_names_the_target_metric_on_every_split(name, framework):
  workload = made(name, framework)
  metrics = workload.evaluate(*initialised(name, framework))
  for prefix in ('train', 'validation', 'test'):
    assert {f'{prefix}/{workload.target_metric_name}', f'{prefix}/loss'} <= set(metrics)
  assert all(math.isfinite(value) for value in metrics.values())
  name = workload.target_metric_name
  assert metrics[f'train/{name}'] != metrics[f'validation/{name}']


def test_evaluation_batches_divide_over_the_devices(monkeypatch):
  monkeypatch.setattr(on_pytorch, 'num_devices', lambda: 8)
  placed = []
  workload = make('digits', 'pytorch')
  params, state = workload.init_model_fn(5)
  place = on_pytorch.place
  monkeypatch.setattr(on_pytorch, 'place', lambda b: placed.append(len(b['targets'])) or place(b))
  assert workload.evaluate(params, state)['validation/num_examples'] == 300
  assert placed
  assert [size % 8 for size in placed] == [0] * len(placed)


@each_workload
@pytest.mark.parametrize('split', ['validation', 'test'])
def test_a_target_is_reached_at_equality(name, split):
  workload = made(name, 'jax')
  target = getattr(workload, f'{split}_target_value')
  key = f'{split}/{workload.target_metric_name}'
  has_reached = getattr(workload, f'has_reached_{split}_target')
  better = -1 if workload.facts.lower_is_better else 1
  assert has_reached({key: target})
  assert has_reached({key: target + better * 1e-9})
  assert not has_reached({key: target - better * 1e-9})
  assert not has_reached({key: math.nan})


def test_a_target_that_is_better_low_is_reached_from_above_and_an_absent_one_always():
  found = registry.find('digits')
  changes = {'lower_is_better': True, 'target_metric_name': 'loss', 'test_target_value': None}
  facts = dataclasses.replace(found.facts, **changes, validation_target_value=0.5)
  workload = Workload(dataclasses.replace(found, facts=facts), on_jax)
  assert workload.has_reached_validation_target({'validation/loss': 0.5})
  assert workload.has_reached_validation_target({'validation/loss': 0.4})
  assert not workload.has_reached_validation_target({'validation/loss': 0.6})
  assert workload.has_reached_test_target({})
