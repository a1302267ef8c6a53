"""Every baseline makes the published algorithm's steps, in both frameworks the same.

Both are compared with the formula written out in numpy's float64, on a bowl whose gradient has a
part of its own at every step: two parameters, a matrix [3, 5] and a vector that starts at zero.
"""

import importlib
import json
import sys
from collections import namedtuple
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from conftest import ROOT

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.submissions import loader

STEPS, CURVATURE = 6, 0.3
SHAPES = ((3, 5), (5,))
POINTS = {
  'adamw': {},
  'nadamw': {},
  'lamb': {},
  'schedule_free_adamw': {},
  'sgd_momentum': {'one_minus_momentum': 0.2},
  'sgd_nesterov': {'one_minus_momentum': 0.2},
  'sam': {'one_minus_momentum': 0.2, 'rho': 0.3},
  'adafactor': {'decay_exponent': 0.7},
  'shampoo': {'epsilon': 0.05},
  'muon': {'one_minus_momentum': 0.1, 'adamw_learning_rate': 0.03},
}
ADAM = {'one_minus_beta_1': 0.2, 'beta_2': 0.98}


@pytest.fixture(autouse=True)
def _baselines_can_be_imported(monkeypatch):
  monkeypatch.syspath_prepend(ROOT)


def point_of(name):
  """Hyperparameters under which every term counts; the names are those of the search space."""
  values = {'learning_rate': 0.05, 'weight_decay': 0.1, 'warmup_fraction': 0.2}
  values |= POINTS[name] or ADAM
  space = json.loads((ROOT / 'baselines' / name / 'tuning_search_space.json').read_text())
  assert set(values) == set(space)
  return namedtuple('Hyperparameters', values)(**values)


class Bowl:
  """A network of two parameters that is its own output; targets are a gradient's constant part."""

  step_hint = 20
  loss_type = LossType.MEAN_SQUARED_ERROR

  def model_fn(self, params, batch, state, mode, rng, update_batch_norm):
    if isinstance(params, dict):
      return (params['kernel'], params['bias']), state
    return (params.weight.T, params.bias), state

  def loss_fn(self, targets, logits, mask=None, label_smoothing=0.0):
    pairs = zip(targets, logits, strict=True)
    summed = sum((g * x).sum() + CURVATURE / 2 * (x * x).sum() for g, x in pairs)
    return {'summed': summed, 'n_valid_examples': 1}


def drawn():
  """(the parameters to start with, the gradients' constant parts by step)."""
  draw = np.random.default_rng(0)
  start = [draw.standard_normal(SHAPES[0]), np.zeros(SHAPES[1])]
  return start, [[draw.standard_normal(shape) for shape in SHAPES] for _ in range(STEPS)]


def params_of(framework, start):
  if framework == 'jax':
    kernel, bias = (jnp.array(x, jnp.float32) for x in start)
    return {'kernel': kernel, 'bias': bias}
  layer = torch.nn.Linear(*SHAPES[0])
  layer.weight.data[:], layer.bias.data[:] = torch.tensor(start[0].T), torch.tensor(start[1])
  return layer


def arrays_of(params):
  if isinstance(params, dict):
    return [np.asarray(params['kernel']), np.asarray(params['bias'])]
  return [x.detach().numpy().copy() for x in (params.weight.T, params.bias)]


def train(name, framework, point, evaluate_after=()):
  """(parameters after the last step, as arrays; those evaluated after that step)."""
  submission = loader.load(ROOT / 'baselines' / name / framework / 'submission.py')
  start, parts = drawn()
  place = jnp.float32 if framework == 'jax' else torch.FloatTensor
  run = SimpleNamespace(model_state=None, param_types=None, eval_results=[], global_step=0)
  run.params, bowl = params_of(framework, start), Bowl()
  submission.start(bowl, run, point, None)
  for run.global_step, part in enumerate(parts):
    batch = {'inputs': None, 'targets': tuple(place(g) for g in part)}
    submission.update(bowl, run, point, batch, np.uint32([0, 1]))
    if run.global_step in evaluate_after:
      submission.prepare(bowl, run, point, np.uint32([0, 1]))
  trained = arrays_of(run.params)
  submission.prepare(bowl, run, point, np.uint32([0, 1]))
  return trained, arrays_of(run.params)


# The algorithms, for one parameter: (t from 1, parameter, gradient, memory, rate, point) → new one.


def sgd(t, x, g, memory, rate, point, nesterov=False):
  mu, g = 1 - point.one_minus_momentum, g + point.weight_decay * x
  memory['m'] = m = mu * memory.get('m', 0) + g
  return x - rate * (g + mu * m if nesterov else m)


def sgd_nesterov(*given):
  return sgd(*given, nesterov=True)


def moments(t, g, memory, point):
  """(beta 1, Adam's first moment, the root of its second without bias)."""
  beta_1, beta_2 = 1 - point.one_minus_beta_1, point.beta_2
  memory['m'] = beta_1 * memory.get('m', 0) + (1 - beta_1) * g
  memory['v'] = beta_2 * memory.get('v', 0) + (1 - beta_2) * g**2
  return beta_1, memory['m'], np.sqrt(memory['v'] / (1 - beta_2**t))


def adamw(t, x, g, memory, rate, point):
  beta_1, m, root = moments(t, g, memory, point)
  return x - rate * (m / (1 - beta_1**t) / (root + 1e-8) + point.weight_decay * x)


def nadamw(t, x, g, memory, rate, point):
  beta_1, m, root = moments(t, g, memory, point)
  ahead = beta_1 * m / (1 - beta_1 ** (t + 1)) + (1 - beta_1) * g / (1 - beta_1**t)
  return x - rate * (ahead / (root + 1e-8) + point.weight_decay * x)


def lamb(t, x, g, memory, rate, point):
  beta_1, m, root = moments(t, g, memory, point)
  direction = m / (1 - beta_1**t) / (root + 1e-6) + point.weight_decay * x
  length = np.linalg.norm(x)
  return x - rate * (length / np.linalg.norm(direction) if length else 1.0) * direction


def adafactor(t, x, g, memory, rate, point):
  beta = 1 - t**-point.decay_exponent

  def averaged(name, value):
    memory[name] = beta * memory.get(name, 0) + (1 - beta) * value
    return memory[name]

  if g.ndim == 2:
    rows, columns = averaged('r', (g**2).mean(1)), averaged('c', (g**2).mean(0))
    second = np.outer(rows, columns) / rows.mean()
  else:
    second = averaged('v', g**2)
  update = g / np.sqrt(second)
  update /= max(1.0, np.sqrt((update**2).mean()))
  length = max(1e-3, np.sqrt((x**2).mean()))
  return x - min(rate, t**-0.5) * length * update - rate * point.weight_decay * x


def shampoo(t, x, g, memory, rate, point):
  g = step = g + point.weight_decay * x
  for axis, size in enumerate(g.shape):
    unfolded = np.moveaxis(g, axis, 0).reshape(size, -1)
    memory[axis] = memory.get(axis, point.epsilon * np.eye(size)) + unfolded @ unfolded.T
    values, vectors = np.linalg.eigh(memory[axis])
    root = vectors @ np.diag(values ** (-1 / (2 * g.ndim))) @ vectors.T
    step = np.moveaxis(np.tensordot(root, step, (1, axis)), 0, axis)
  return x - rate * step


def muon(t, x, g, memory, rate, point):
  if x.ndim != 2:
    plain = SimpleNamespace(one_minus_beta_1=0.1, beta_2=0.999, weight_decay=point.weight_decay)
    return adamw(t, x, g, memory, rate * point.adamw_learning_rate / point.learning_rate, plain)
  mu = 1 - point.one_minus_momentum
  memory['m'] = mu * memory.get('m', 0) + g
  o = g + mu * memory['m']
  o = o / np.linalg.norm(o)
  for _ in range(5):
    o = 3.4445 * o - 4.7750 * (o @ o.T) @ o + 2.0315 * (o @ o.T) @ (o @ o.T) @ o
  stretch = np.sqrt(max(1.0, x.shape[1] / x.shape[0]))  # fan-out over fan-in
  return x - rate * (point.weight_decay * x + stretch * o)


RULES = {'sgd_momentum': sgd, 'sam': sgd} | {
  rule.__name__: rule
  for rule in (adamw, nadamw, lamb, adafactor, shampoo, muon, sgd_nesterov)
}  # fmt: skip


def by_hand(name, point):
  """The parameters after the last step."""
  share = importlib.import_module('baselines.schedules').warmup_cosine
  params, parts = drawn()
  memories = [{} for _ in params]
  for step, part in enumerate(parts):
    grads = [g + CURVATURE * x for g, x in zip(part, params, strict=True)]
    if name == 'sam':
      length = np.sqrt(sum((g**2).sum() for g in grads))
      uphill = [x + point.rho * g / length for x, g in zip(params, grads, strict=True)]
      grads = [g + CURVATURE * x for g, x in zip(part, uphill, strict=True)]
    rate = point.learning_rate * share(step, Bowl.step_hint, point.warmup_fraction)
    everything = zip(params, grads, memories, strict=True)
    params = [RULES[name](step + 1, x, g, m, rate, point) for x, g, m in everything]
  return params


def schedule_free_by_hand(point):
  """(the parameters that are trained, those that are evaluated); Defazio et al., 2024, alg. 1."""
  start, parts = drawn()
  beta_1, warmup = 1 - point.one_minus_beta_1, point.warmup_fraction * Bowl.step_hint
  found = []
  for index, x in enumerate(start):
    y = z = x
    memory, total = {}, 0.0
    for t, part in enumerate(parts, start=1):
      rate = point.learning_rate * min(1.0, t / warmup)
      g = part[index] + CURVATURE * y
      _, _, root = moments(t, g, memory, point)
      z = z - rate * (g / (root + 1e-8) + point.weight_decay * y)
      total += rate**2
      x = x + rate**2 / total * (z - x)
      y = (1 - beta_1) * z + beta_1 * x
    found.append((y, x))
  return [y for y, _ in found], [x for _, x in found]


def assert_same(found, expected):
  for one, other in zip(found, expected, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=2e-6)


# Compiling is what takes time, in JAX alone; what the library does with no more of ours is slow.
SLOW = ('adamw', 'nadamw', 'sgd_nesterov')
each_framework = pytest.mark.parametrize('framework', ['jax', 'pytorch'])
each_framework_in_time = pytest.mark.parametrize(
  'framework', [pytest.param('jax', marks=pytest.mark.slow), 'pytorch']
)
each_rule = pytest.mark.parametrize(
  ('name', 'framework'),
  [
    pytest.param(name, framework, marks=[pytest.mark.slow] * (framework == 'jax' and name in SLOW))
    for name in RULES
    for framework in ('jax', 'pytorch')
  ],
)


def test_every_baseline_is_here():
  folders = {path.parents[1].name for path in (ROOT / 'baselines').glob('*/jax/submission.py')}
  assert folders == set(POINTS)
  assert folders == {
    p.parents[1].name for p in (ROOT / 'baselines').glob('*/pytorch/submission.py')
  }


@each_rule
def test_a_baseline_makes_the_steps_of_its_algorithm(name, framework, monkeypatch):
  # The one thing that torch does otherwise; the next test is about it.
  monkeypatch.setattr(torch.Tensor, 'bfloat16', torch.Tensor.float)
  point = point_of(name)
  trained, evaluated = train(name, framework, point)
  expected = by_hand(name, point)
  assert_same(trained, expected)
  assert_same(evaluated, expected)
  moved = [np.abs(x - y).max() for x, y in zip(expected, drawn()[0], strict=True)]
  assert moved[0] > 1e-2
  assert moved[1] > 1e-4  # Adafactor's steps are in proportion to the parameter


def test_torch_orthogonalizes_in_half_precision():
  point = point_of('muon')
  (matrix, vector), _ = train('muon', 'pytorch', point)
  expected = by_hand('muon', point)
  assert_same([vector], expected[1:])
  difference = np.abs(matrix - expected[0]).max() / np.abs(drawn()[0][0] - expected[0]).max()
  assert 1e-4 < difference < 3e-2


@each_framework
def test_schedule_free_trains_one_point_and_is_evaluated_at_another(framework):
  point = point_of('schedule_free_adamw')
  trained, evaluated = train('schedule_free_adamw', framework, point)
  expected = schedule_free_by_hand(point)
  assert_same(trained, expected[0])
  assert_same(evaluated, expected[1])
  assert np.abs(expected[0][0] - expected[1][0]).max() > 1e-3


@each_framework_in_time
def test_evaluations_do_not_change_what_schedule_free_trains(framework):
  point = point_of('schedule_free_adamw')
  undisturbed = train('schedule_free_adamw', framework, point)
  disturbed = train('schedule_free_adamw', framework, point, evaluate_after=(0, 1, 4))
  for one, other in zip(disturbed, undisturbed, strict=True):
    for mine, theirs in zip(one, other, strict=True):
      np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
@pytest.mark.parametrize('shape', [(4,), (3, 4), (3, 3, 2, 4)])
def test_shampoo_preconditions_any_number_of_dimensions(shape):
  """Against the optimizer of the package that the PyTorch baseline takes."""
  from pytorch_optimizer import Shampoo

  scale_by_shampoo = importlib.import_module('baselines.shampoo.shampoo_jax').scale_by_shampoo
  draw = np.random.default_rng(1)
  param = torch.nn.Parameter(torch.zeros(shape))
  theirs, ours = Shampoo([param], lr=1.0, matrix_eps=1e-3), scale_by_shampoo(1e-3)
  moved, update = np.zeros(shape), jax.jit(ours.update)
  state = ours.init(jnp.zeros(shape))
  for _ in range(3):
    grad = draw.standard_normal(shape).astype(np.float32)
    param.grad = torch.tensor(grad)
    theirs.step()
    step, state = update(jnp.array(grad), state)
    moved -= step
    np.testing.assert_allclose(moved, param.detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'package'),
  [('schedule_free_adamw', 'schedulefree'), ('sam', 'pytorch_optimizer')],
)
def test_a_missing_package_names_the_extra_that_brings_it(name, package, monkeypatch):
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(UsageError) as caught:
    loader.load(ROOT / 'baselines' / name / 'pytorch' / 'submission.py')
  message = str(caught.value)
  assert '\n' not in message
  assert f"needs the module '{package}', which is not installed" in message
  assert 'pip install "algorithmic-efficiency[baselines]"' in message
