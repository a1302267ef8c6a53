"""Tests of what must hold of every baseline, and of all that a submission may do."""

import ast
import copy
import csv
import functools
import importlib
import json
import math
import sys
from collections import namedtuple
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from conftest import ROOT

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.hparams import sampling, search_space
from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.runner.clock import Clock
from algorithmic_efficiency.runner.rules import Rules
from algorithmic_efficiency.runner.seeds import TrialSeeds
from algorithmic_efficiency.runner.study import Study
from algorithmic_efficiency.runner.trial import Course, Trial, run_trial
from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.workload import Workload

BASELINES = sorted((ROOT / 'baselines').glob('**/submission.py'))
WORKLOADS = sorted(registry.find_all())
IN_PACKAGE = 'digits'

# What takes long is done quickly for two folders, slowly for all; each rule has its own test in
# test_baseline_rules.py.
QUICK = ('adamw', 'mnist')


def name_of(path):
  return path.parent.relative_to(ROOT / 'baselines').as_posix()


def slow_unless_quick(path):
  return path if name_of(path).startswith(QUICK) else pytest.param(path, marks=pytest.mark.slow)


each_baseline = pytest.mark.parametrize('path', BASELINES, ids=name_of)
each_baseline_in_time = pytest.mark.parametrize(
  'path', [slow_unless_quick(path) for path in BASELINES], ids=name_of
)


@pytest.fixture(autouse=True)
def _imports_end_with_the_test(tmp_path, monkeypatch):
  """What a submission was imported by is forgotten, as if each had a process of its own."""
  monkeypatch.setattr(sys, 'path', [str(ROOT), *sys.path])
  yield
  for name, module in list(sys.modules.items()):
    if str(getattr(module, '__file__', None) or '').startswith(str(tmp_path)):
      del sys.modules[name]


def framework_of(path):
  """The framework that a baseline's folder names, or that a submission written here imports."""
  if path.is_relative_to(ROOT / 'baselines'):
    return path.parent.name.rpartition('_')[-1]
  nodes = ast.walk(ast.parse(path.read_text()))
  modules = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
  return {('jax',): 'jax', ('torch',): 'pytorch'}[tuple(modules & {'jax', 'torch'})]


def beside(path, name):
  """The file of that name in the submission's folder or the nearest above; None without one."""
  folders = [p for p in path.parents if p.is_relative_to(ROOT / 'baselines')]
  return next((folder / name for folder in folders if (folder / name).exists()), None)


def point_of(path):
  """One point of a baseline's search space."""
  space = search_space.load(beside(path, 'tuning_search_space.json'))
  return sampling.sample(space, 0, 1, 4)[0]


def study_of(path, tmp_path, **changes):
  """A study of one trial on synthetic digits, its hyperparameters given, and its record here."""
  space = tmp_path / 'space.json'
  space.write_text(json.dumps([changes.pop('point', {'learning_rate': 0.1})]))
  values = dict.fromkeys(settings.Settings.__dataclass_fields__) | {
    'workload': IN_PACKAGE,
    'framework': framework_of(path),
    'submission_path': str(path),
    'tuning_ruleset': 'external',
    'tuning_search_space': str(space),
    'num_tuning_trials': 1,
    'log_dir': str(tmp_path / 'logs'),
    'data': 'synthetic',
    'rng_seed': 7,
    'max_global_steps': 3,
    'eval_period_steps': 1000,  # rows at step 1 and at the end
    'record_extra_metadata': [],
    'overwrite': False,
    'resume': False,
    'save_checkpoints': True,
    'telemetry': 'row',
    'num_checkpoints_kept': 2,
    'edition': '1.0',
    'submission_api': 'auto',
    'torch_compile': 'auto',
    'device': 'auto',
    'command': '',
  }
  return Study(settings.check(settings.Settings(**values | changes)))


def rows_of(study):
  """The rows of the only trial, which must be complete."""
  (outcome,) = study.run()
  assert outcome['status'] == 'complete', outcome['reason']
  with study.plan.folder.trial(0).metrics_csv.open(newline='') as file:
    rows = list(csv.DictReader(file))
  losses = [float(row[f'{split}/loss']) for row in rows for split in ('train', 'test')]
  assert all(map(math.isfinite, losses))
  return rows


@functools.cache
def untrained(name, framework):
  """(workload on synthetic data, parameters, model state), which are copied before they train."""
  workload = Workload(registry.find(name), frameworks.load(framework), synthetic_seed=2)
  return workload, *workload.init_model_fn(9)


def evaluations(path, name, hyperparameters):
  """(step, metrics) of each evaluation of three steps, without a record."""
  framework, submission = frameworks.load(framework_of(path)), loader.load(path)
  workload, params, model_state = untrained(name, framework.NAME)
  trial, seeds = Trial(copy.deepcopy(params), model_state), TrialSeeds(7, framework.keys)
  trial.clock = Clock(lambda: framework.wait(trial.params))
  trial.rules = Rules(workload, hyperparameters is None, 3, eval_period_steps=1000)
  submission.start(workload, trial, hyperparameters, seeds.optimizer)
  course = Course(
    workload=workload,
    submission=submission,
    hyperparameters=hyperparameters,
    seeds=seeds,
    rules=trial.rules,
    clock=trial.clock,
    queue=workload.training_queue(seeds.data, submission.get_batch_size(name)),
    evaluate=lambda trial: workload.evaluate(trial.params, trial.model_state),
    save=lambda: None,
    record=lambda trial, metrics: found.append((trial.global_step, metrics)),
    tick=lambda *_: None,
  )
  found = []
  assert run_trial(trial, course) == '3 steps made (--max_global_steps)'
  assert all(math.isfinite(value) for _, metrics in found for value in metrics.values())
  return found


# Baselines.


def test_there_are_baselines_for_both_frameworks():
  assert {framework_of(path) for path in BASELINES} == {'jax', 'pytorch'}


@each_baseline
def test_a_baseline_is_without_fault_and_knows_the_workloads(path):
  names = search_space.load(beside(path, 'tuning_search_space.json')).names
  assert loader.check_source(path, framework_of(path), names) == []
  submission = loader.load(path)
  assert [submission.get_batch_size(name) > 0 for name in WORKLOADS] == [True] * len(WORKLOADS)
  with pytest.raises(ValueError, match='no_such_workload'):
    submission.get_batch_size('no_such_workload')


@each_baseline_in_time
def test_a_baseline_learns_digits_and_is_recorded(path, tmp_path):
  study = study_of(path, tmp_path, point=point_of(path), data='real', max_global_steps=100)
  first, last = rows_of(study)
  assert (first['global_step'], last['global_step']) == ('1', '100')
  for split in ('train', 'validation', 'test'):
    assert float(last[f'{split}/loss']) < 0.9 * float(first[f'{split}/loss'])
    assert float(last[f'{split}/accuracy']) > float(first[f'{split}/accuracy'])


@each_baseline_in_time
@pytest.mark.parametrize(
  'workload',
  [
    pytest.param(name, marks=pytest.mark.slow) if name in ('cifar', 'unet') else name
    for name in sorted({*WORKLOADS} - {IN_PACKAGE})
  ],
)
def test_a_baseline_trains_the_other_workloads_and_is_evaluated(path, workload):
  point = point_of(path)
  chosen = namedtuple('Hyperparameters', point)(**point)
  assert [step for step, _ in evaluations(path, workload, chosen)] == [1, 3]


with_defaults = [path for path in BASELINES if beside(path, 'defaults.py')]


@pytest.mark.parametrize('path', with_defaults, ids=name_of)
def test_a_baselines_defaults_are_a_point_of_its_search_space(path):
  folder = beside(path, 'defaults.py').parent
  defaults = importlib.import_module(f'baselines.{folder.name}.defaults').DEFAULTS
  space = json.loads((folder / 'tuning_search_space.json').read_text())
  assert set(defaults._fields) == set(space)
  for name, value in defaults._asdict().items():
    points = space[name].get('feasible_points')
    assert value in points if points else space[name]['min'] <= value <= space[name]['max']


@pytest.mark.parametrize('path', [slow_unless_quick(path) for path in with_defaults], ids=name_of)
def test_a_baseline_with_defaults_tunes_itself(path):
  assert [step for step, _ in evaluations(path, 'mnist', None)] == [1, 3]


class Line:
  """Linear regression without an offset, in either framework, as far as a submission uses it."""

  step_hint = 20
  loss_type = LossType.MEAN_SQUARED_ERROR

  def model_fn(self, params, batch, state, mode, rng, update_batch_norm):
    weights = params['weight'] if isinstance(params, dict) else params.weight
    return batch['inputs'] @ weights.T, state

  def loss_fn(self, targets, logits, mask=None, label_smoothing=0.0):
    assert mask is None
    return {'summed': ((logits[:, 0] - targets) ** 2).sum(), 'n_valid_examples': len(targets)}


def adamw_by_hand(weights, batches, point):
  """Decoupled weight decay after Loshchilov and Hutter, in float64; Adam where there is none."""
  rate, decay = point['learning_rate'], point.get('weight_decay', 0.0)
  beta_1, beta_2 = 1 - point['one_minus_beta_1'], point.get('beta_2', 0.999)
  first, second = np.zeros_like(weights), np.zeros_like(weights)
  for step, (inputs, targets) in enumerate(batches):
    share = 1.0
    if 'warmup_fraction' in point:
      warmup = max(1, int(point['warmup_fraction'] * Line.step_hint))
      done = max(0.0, (step - warmup) / (Line.step_hint - warmup))
      share = min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))
    gradient = 2 * (inputs @ weights - targets) @ inputs / len(targets)
    first = beta_1 * first + (1 - beta_1) * gradient
    second = beta_2 * second + (1 - beta_2) * gradient**2
    direction = first / (1 - beta_1 ** (step + 1))
    direction /= np.sqrt(second / (1 - beta_2 ** (step + 1))) + point.get('epsilon', 1e-8)
    weights = weights - rate * share * (direction + decay * weights)
  return weights


@pytest.mark.parametrize(
  'path', [path for path in BASELINES if name_of(path).startswith(QUICK)], ids=name_of
)
def test_a_baseline_is_the_published_algorithm(path):
  point = point_of(path) | {'learning_rate': 0.05}
  if 'warmup_fraction' in point:
    point |= {'warmup_fraction': 0.2, 'weight_decay': 0.1}
  chosen = namedtuple('Hyperparameters', point)(**point)
  draw = np.random.default_rng(0)
  start, submission = draw.standard_normal(3).astype(np.float32), loader.load(path)
  batches = [(draw.standard_normal((8, 3)), draw.standard_normal(8)) for _ in range(10)]
  if framework_of(path) == 'jax':
    params, place = {'weight': jnp.array(start[None])}, jnp.float32
  else:
    params, place = torch.nn.Linear(3, 1, bias=False), lambda x: torch.tensor(x).float()
    params.weight.data[:] = torch.tensor(start)
  line, run = Line(), SimpleNamespace(model_state=None, param_types=None, eval_results=[])
  run.params, run.global_step = params, 0
  submission.start(line, run, chosen, None)
  for run.global_step, (inputs, targets) in enumerate(batches):
    batch = {'inputs': place(inputs), 'targets': place(targets)}
    submission.update(line, run, chosen, batch, np.uint32([0, 1]))
  weights = run.params['weight'] if isinstance(run.params, dict) else run.params.weight.detach()
  expected = adamw_by_hand(start.astype(np.float64), batches, point)
  np.testing.assert_allclose(np.asarray(weights)[0], expected, rtol=1e-4, atol=1e-5)
  assert np.abs(expected - start).max() > 0.05


# The schedule.


@pytest.fixture
def warmup_cosine():
  return importlib.import_module('baselines.schedules').warmup_cosine


@pytest.mark.parametrize(
  ('step', 'share'),
  [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (32.5, 0.8535534), (55, 0.5), (100, 0.0), (999, 0.0)],
)
def test_the_schedule_has_its_closed_form(warmup_cosine, step, share):
  assert warmup_cosine(step, 100, 0.1) == pytest.approx(share, abs=1e-7)


@pytest.mark.parametrize(('num_steps', 'fraction'), [(2000, 0.02), (7813, 0.05), (30, 0.0), (1, 1)])
def test_the_schedule_is_the_same_compiled(warmup_cosine, num_steps, fraction):
  steps = np.unique(np.linspace(0, 1.2 * num_steps, 60).astype(int))
  compiled = jax.jit(lambda step: warmup_cosine(step, num_steps, fraction, numpy=jnp))(steps)
  expected = [warmup_cosine(int(step), num_steps, fraction) for step in steps]
  np.testing.assert_allclose(compiled, expected, atol=2e-6)
  assert 0 <= min(expected) <= max(expected) <= 1


def test_the_schedule_is_optaxs_but_for_a_warm_up_that_is_one_step_ahead(warmup_cosine):
  # optax's first update has a rate of zero and moves nothing. Here update s of the warm-up has
  # optax's rate of update s + 1, so the peak is reached one update sooner and lasts for two.
  num_steps, warmup = 400, 20
  optaxs = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup, num_steps)
  steps = np.arange(num_steps + 50)
  theirs = np.asarray(jax.jit(jax.vmap(optaxs))(steps))
  ours = np.array([warmup_cosine(int(step), num_steps, warmup / num_steps) for step in steps])
  np.testing.assert_allclose(ours[warmup:], theirs[warmup:], atol=2e-6)
  np.testing.assert_allclose(ours[:warmup], theirs[1 : warmup + 1], atol=2e-6)


# All that a submission may do, by submissions written here.

PLAIN = """
def get_batch_size(workload_name):
  return {size}

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  return {{'optimizer': None}}

def data_selection(workload, input_queue, optimizer_state, current_param_container, model_state,
                   hyperparameters, global_step, rng):
  return next(input_queue)

def update_params(workload, current_param_container, current_params_types, model_state,
                  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
                  rng{more}):
{body}
  return optimizer_state, current_param_container, model_state
"""

PREPARES = """
import torch

SEEN, PREPARED = [], []

def get_eval_batch_size(workload_name):
  return 77

def prepare_for_eval(workload, current_param_container, current_params_types, model_state,
                     hyperparameters, loss_type, optimizer_state, eval_results, global_step, rng):
  PREPARED.append((global_step, len(eval_results), int(rng[0])))
  with torch.no_grad():
    for parameter in current_param_container.parameters():
      parameter.zero_()
  return optimizer_state, current_param_container, model_state
"""

TRAIN_STATE = {
  'validation_goal_reached',
  'test_goal_reached',
  'is_time_remaining',
  'last_eval_time',
  'training_complete',
  'accumulated_submission_time',
  'accumulated_eval_time',
  'accumulated_logging_time',
  'last_step_end_time',
}


def write(folder, extra='', size='50', more='', body='  pass'):
  """A submission in `folder`."""
  folder.mkdir(exist_ok=True)
  path = folder / 'submission.py'
  path.write_text(f'import torch\n{extra}' + PLAIN.format(size=size, more=more, body=body))
  return path


def test_a_submission_may_know_the_state_prepare_and_size_its_evaluations(tmp_path):
  body = '  SEEN.append(train_state)'
  path = write(tmp_path / 'mine', PREPARES, more=', train_state', body=body)
  study = study_of(path, tmp_path)
  rows = rows_of(study)
  seen, prepared = (study.submission.update_params.__globals__[n] for n in ('SEEN', 'PREPARED'))
  assert [set(state) for state in seen] == [TRAIN_STATE] * 3
  with pytest.raises(TypeError):
    seen[0]['training_complete'] = True
  spent = [state['accumulated_submission_time'] for state in seen]
  assert 0 < spent[0] < spent[1] < spent[2]
  assert seen[0]['accumulated_eval_time'] == 0 < seen[1]['accumulated_eval_time']
  assert seen[1]['last_eval_time'] == pytest.approx(float(rows[0]['accumulated_submission_time']))
  assert seen[2]['is_time_remaining'] is True
  assert [step_and_results[:2] for step_and_results in prepared] == [(1, 0), (3, 1)]
  assert study.workload.eval_batch_size == 77
  # What prepare_for_eval returned is what was evaluated: all zeros know nothing of ten classes.
  assert [float(row['test/loss']) for row in rows] == pytest.approx([math.log(10)] * 2)
  assert [row['test/num_examples'] for row in rows] == ['256'] * 2


@pytest.mark.parametrize(
  ('statement', 'file'),
  [
    ('from .sizes import SIZE', 'mine/sizes.py'),
    ('from sizes_beside import SIZE', 'mine/sizes_beside.py'),
    ('from .kit.sizes import SIZE', 'mine/kit/sizes.py'),
    ('from kit_beside.sizes import SIZE', 'mine/kit_beside/sizes.py'),
    ('from ..shared.sizes import SIZE', 'shared/sizes.py'),
    ('from shared_above.sizes import SIZE', 'shared_above/sizes.py'),
  ],
)
def test_a_submission_may_import_its_siblings(statement, file, tmp_path):
  sibling = tmp_path / file
  sibling.parent.mkdir(parents=True)
  sibling.write_text('SIZE = 41\n')
  submission = loader.load(write(tmp_path / 'mine', statement + '\n', size='SIZE'))
  assert submission.get_batch_size(IN_PACKAGE) == 41


def test_a_submission_may_refuse_a_workload(tmp_path):
  size = "{'digits': 50}.get(workload_name) or int(f'no size for {workload_name}')"
  submission = loader.load(write(tmp_path / 'mine', size=size))
  assert loader.batch_sizes(submission, 'digits', 'digits', None) == (50, None)
  assert loader.batch_sizes(submission, 'digits_silu', 'digits', None) == (50, None)
  assert loader.batch_sizes(submission, 'mnist', 'mnist', 8) == (8, None)
  with pytest.raises(UsageError, match=r"get_batch_size\('mnist'\).*ValueError.*--batch_size=N"):
    loader.batch_sizes(submission, 'mnist', 'mnist', None)
