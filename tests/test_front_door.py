"""Tests of the front door: the names and values a submission imports, and what they cost."""

import inspect
import json
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch

import algorithmic_efficiency
from algorithmic_efficiency import jax_sharding_utils, pytorch_utils, spec
from algorithmic_efficiency.workloads.workload import Workload

LOSS_TYPES = {
  'SOFTMAX_CROSS_ENTROPY': 0,
  'SIGMOID_CROSS_ENTROPY': 1,
  'MEAN_SQUARED_ERROR': 2,
  'CTC_LOSS': 3,
  'MEAN_ABSOLUTE_ERROR': 4,
}
FORWARD_PASS_MODES = {'TRAIN': 0, 'EVAL': 1}
PARAMETER_TYPES = {
  'WEIGHT': 0,
  'BIAS': 1,
  'CONV_WEIGHT': 2,
  'BATCH_NORM_SCALE': 3,
  'BATCH_NORM_BIAS': 4,
  'LAYER_NORM_SCALE': 5,
  'LAYER_NORM_BIAS': 6,
  'EMBEDDING': 7,
  'ATTENTION_Q': 8,
  'ATTENTION_K': 9,
  'ATTENTION_V': 10,
  'ATTENTION_OUT': 11,
  'ATTENTION_QKV': 12,
  'ATTENTION_KV': 13,
  'ATTENTION_BIAS': 14,
}
CLASSES = {
  'LossType',
  'ForwardPassMode',
  'ParameterType',
  'ShapeTuple',
  'TrainingCompleteError',
  'Workload',
}
ALIASES = {
  'Tensor',
  'Shape',
  'ParameterContainer',
  'ParameterTypeTree',
  'ParameterShapeTree',
  'ParameterKey',
  'ModelAuxiliaryState',
  'ModelInitState',
  'Hyperparameters',
  'OptimizerState',
  'RandomState',
  'UpdateReturn',
  'Timing',
  'Steps',
  'InitOptimizerFn',
  'UpdateParamsFn',
  'PrepareForEvalFn',
  'DataSelectionFn',
}
WORKLOAD_MEMBERS = {
  'model_fn',
  'loss_fn',
  'init_model_fn',
  'step_hint',
  'param_shapes',
  'model_params_types',
  'is_output_params',
  'loss_type',
  'num_train_examples',
  'num_eval_train_examples',
  'num_validation_examples',
  'num_test_examples',
  'eval_batch_size',
  'train_mean',
  'train_stddev',
  'max_allowed_runtime_sec',
  'eval_period_time_sec',
  'target_metric_name',
  'validation_target_value',
  'test_target_value',
  'has_reached_validation_target',
  'has_reached_test_target',
  'output_activation_fn',
  'metrics_logger',
  '_build_input_queue',
}
HEAVY = ('jax', 'flax', 'optax', 'torch', 'tensorflow', 'pandas', 'scipy', 'psutil', 'sklearn')


@pytest.mark.parametrize(
  ('enumeration', 'values'),
  [
    (spec.LossType, LOSS_TYPES),
    (spec.ForwardPassMode, FORWARD_PASS_MODES),
    (spec.ParameterType, PARAMETER_TYPES),
  ],
  ids=lambda value: getattr(value, '__name__', ''),
)
def test_enumerations_have_the_names_and_values_of_the_interface(enumeration, values):
  assert {name: member.value for name, member in enumeration.__members__.items()} == values


def test_spec_has_exactly_the_names_of_the_interface():
  imported = {'abc', 'enum', 'Any', 'Callable', 'Iterator', 'Mapping'}
  assert {n for n in vars(spec) if n[0] != '_'} - imported == CLASSES | ALIASES


def test_a_workload_has_every_member_of_the_interface_and_no_abstract_one_left():
  assert {n for n in WORKLOAD_MEMBERS if not hasattr(spec.Workload, n)} == set()
  assert spec.Workload.__abstractmethods__ <= WORKLOAD_MEMBERS
  assert Workload.__abstractmethods__ == frozenset()


@pytest.mark.parametrize(
  'name', [n for n in dir(spec.Workload) if callable(getattr(spec.Workload, n)) and n[0] != '_']
)
def test_methods_of_a_workload_take_the_arguments_of_the_interface_in_its_order(name):
  wanted = list(inspect.signature(getattr(spec.Workload, name)).parameters)
  assert list(inspect.signature(getattr(Workload, name)).parameters)[: len(wanted)] == wanted


def test_the_arguments_of_model_fn_and_loss_fn_are_those_submissions_give():
  model = list(inspect.signature(spec.Workload.model_fn).parameters)
  assert model == [
    'self',
    'params',
    'augmented_and_preprocessed_input_batch',
    'model_state',
    'mode',
    'rng',
    'update_batch_norm',
    'dropout_rate',
    'use_running_average_bn',
  ]
  loss = inspect.signature(spec.Workload.loss_fn).parameters
  defaults = {n: p.default for n, p in loss.items() if p.default is not p.empty}
  assert list(loss) == ['self', 'label_batch', 'logits_batch', 'mask_batch', 'label_smoothing']
  assert defaults == {'mask_batch': None, 'label_smoothing': 0.0}


def test_a_shape_tuple_is_compared_by_its_sizes_and_is_no_key():
  shape = spec.ShapeTuple((3, 4))
  assert shape.shape_tuple == (3, 4)
  assert shape == spec.ShapeTuple((3, 4))
  assert shape != spec.ShapeTuple((4, 3))
  assert shape != (3, 4)
  assert repr(shape) == 'ShapeTuple((3, 4))'
  with pytest.raises(TypeError, match='unhashable'):
    hash(shape)


def test_a_shape_tuple_is_a_leaf_of_a_jax_tree():
  tree = {'a': spec.ShapeTuple((3, 4)), 'b': {'c': spec.ShapeTuple((5,))}}
  sizes = jax.tree.map(lambda shape: np.zeros(shape.shape_tuple).size, tree)
  assert sizes == {'a': 12, 'b': {'c': 5}}


def test_ending_training_is_an_exception_of_its_own():
  assert issubclass(spec.TrainingCompleteError, Exception)
  assert not issubclass(spec.TrainingCompleteError, ValueError | RuntimeError)


def run_python(code):
  """What the code printed as JSON, in a process of its own."""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout)


@pytest.mark.parametrize(
  'imports',
  [
    'from algorithmic_efficiency import spec',
    'from algorithmic_efficiency import frameworks',
    'from algorithmic_efficiency.workloads import registry; registry.find_all()',
    'from algorithmic_efficiency.submissions import loader',
  ],
)
def test_importing_brings_no_framework(imports):
  loaded = run_python(f'{imports}\nimport json, sys\nprint(json.dumps(list(sys.modules)))')
  assert set(HEAVY) & set(loaded) == set()


def test_the_package_and_spec_are_imported_in_no_time():
  code = (
    'import json, time\n'
    'start = time.process_time()\n'
    'from algorithmic_efficiency import spec\n'
    'print(json.dumps(time.process_time() - start))'
  )
  assert min(run_python(code) for _ in range(3)) < 0.1


def test_the_version_is_one():
  assert re.fullmatch(r'\d+\.\d+\.\d+', algorithmic_efficiency.__version__)


@pytest.mark.parametrize('name', ['shard_along_batch_dim', 'replicate'])
def test_placing_keeps_the_values_of_a_tree(name):
  tree = {'a': np.arange(6.0).reshape(2, 3), 'b': [np.ones(4, np.int32)]}
  placed = getattr(jax_sharding_utils, name)(tree)
  assert jax.tree.all(jax.tree.map(lambda x: isinstance(x, jax.Array), placed))
  assert jax.tree.all(jax.tree.map(np.array_equal, placed, tree))


def test_the_mesh_has_one_axis_of_all_devices_named_batch():
  replicated = jax_sharding_utils.get_replicate_sharding()
  split = jax_sharding_utils.get_batch_dim_sharding()
  assert dict(replicated.mesh.shape) == dict(split.mesh.shape) == {'batch': jax.device_count()}
  assert replicated.is_fully_replicated
  assert tuple(split.spec) == ('batch',)


def test_pytorch_setup_of_a_single_process(monkeypatch):
  monkeypatch.delenv('LOCAL_RANK', raising=False)
  use_ddp, rank, device, n_gpus = pytorch_utils.pytorch_setup()
  assert (use_ddp, rank, n_gpus) == (False, 0, torch.cuda.device_count())
  assert device.type == ('cuda' if torch.cuda.is_available() else 'cpu')


def test_pytorch_setup_under_torchrun_knows_its_rank(monkeypatch):
  monkeypatch.setitem(os.environ, 'LOCAL_RANK', '3')
  monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
  use_ddp, rank, device, _ = pytorch_utils.pytorch_setup()
  assert (use_ddp, rank, device) == (True, 3, torch.device('cuda:3'))
