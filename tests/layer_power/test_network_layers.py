"""The zoo's networks and the layers of any network: counts against published and other counters."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power.columns import CONFIGURATION, STUDY_FEATURES
from algorithmic_efficiency.layer_power.layers import Layer, study_row
from algorithmic_efficiency.layer_power.zoo import NETWORKS, family

torch = pytest.importorskip('torch')
layers_pytorch = importlib.import_module('algorithmic_efficiency.layer_power.layers_pytorch')
networks_pytorch = importlib.import_module('algorithmic_efficiency.layer_power.networks_pytorch')

ROOT = Path(__file__).resolve().parents[2]
SLOW = [pytest.param(n, marks=() if n in ('lenet', 'resnet18', 'mobilenet_v3_small') else
                     pytest.mark.slow) for n in NETWORKS]  # fmt: skip


def build(name, device='meta'):
  if name != 'lenet':
    pytest.importorskip('PIL', reason='torchvision needs it')
    try:
      return networks_pytorch.build(name, device)
    except UsageError as error:
      pytest.skip(str(error))
  return networks_pytorch.build(name, device)


def traced(network, *shape):
  return layers_pytorch.trace(network, torch.zeros(shape, device='meta'))


@pytest.mark.parametrize('name', SLOW)
def test_parameters_and_macs_are_the_published_ones(name):
  known, network = NETWORKS[name], build(name)
  assert sum(p.numel() for p in network.parameters()) == known.parameters
  inputs = torch.zeros(1, *known.input_shape, device='meta')
  macs = layers_pytorch.trace(network, inputs).macs
  assert macs / 1e9 == pytest.approx(known.gmacs, abs=0.006)
  counting = importlib.import_module('torch.utils.flop_counter').FlopCounterMode(display=False)
  with counting as counter, torch.no_grad():
    network(inputs)
  assert macs == counter.get_total_flops() / 2


def test_layers_of_lenet_as_one_counts_them_by_hand():
  found = traced(build('lenet'), 2, 1, 32, 32).layers
  kinds = [placed.layer.op for placed in found]
  assert kinds == [
    'conv2d', 'tanh', 'avg_pool2d', 'conv2d', 'tanh', 'avg_pool2d', 'linear', 'tanh', 'linear',
    'tanh', 'linear',
  ]  # fmt: skip
  conv, pool, dense = found[3].layer, found[5].layer, found[6].layer
  assert study_row(conv) == dict(
    zip(STUDY_FEATURES['conv'], (2, 6, 14, 14, 16, 10, 10, 5, 5, 0, 0, 1, 1), strict=True)
  )
  assert conv.macs == 2 * 16 * 10 * 10 * 6 * 25
  assert conv.bytes_moved == 4 * (2 * 6 * 14 * 14 + 2 * 16 * 100 + 16 * 6 * 25)
  assert study_row(pool) == dict(
    zip(STUDY_FEATURES['pooling'], (2, 16, 10, 10, 16, 5, 5, 2, 2, 2, 2), strict=True)
  )
  assert study_row(dense) == {'batch_size': 2, 'input_size': 400, 'output_size': 120}
  assert [placed.name for placed in found][:3] == ['0', '1', '2']


class Functions(torch.nn.Module):
  """Calls functions, one module twice, and attention."""

  def __init__(self):
    super().__init__()
    self.conv = torch.nn.Conv2d(4, 4, 3, padding=1, groups=2)

  def forward(self, x):
    x = torch.nn.functional.relu(self.conv(self.conv(x)))
    x = torch.nn.functional.max_pool2d(x, 2, 1, 1)
    x = x.flatten(2).unflatten(1, (2, 2)).transpose(2, 3)
    return torch.nn.functional.scaled_dot_product_attention(x, x, x)


def test_functions_repeated_modules_groups_and_attention():
  found = traced(Functions(), 3, 4, 8, 8)
  assert [placed.name for placed in found.layers][:2] == ['conv', 'conv#2']
  assert [placed.layer.op for placed in found.layers][:4] == [
    'conv2d', 'conv2d', 'relu', 'max_pool2d',
  ]  # fmt: skip
  conv, attention = found.layers[0].layer, found.layers[-1].layer
  assert (conv.groups, conv.padding_0, conv.macs) == (2, 2, 3 * 4 * 64 * 2 * 9)
  assert attention.layer_type == 'attention'
  assert attention.macs == 2 * 3 * 2 * 81 * 81 * 2  # 9 x 9 places, heads of width 2
  assert found.distinct()[conv] == 2
  assert sum(found.others.values()) > 0


def test_a_row_is_a_layer_again():
  for placed in traced(Functions(), 3, 4, 8, 8).layers:
    assert Layer.of_row({k: str(v) for k, v in placed.layer.row().items()}) == placed.layer
  with pytest.raises(UsageError, match='no column'):
    Layer.of_row({'layer_type': 'conv'})
  row = {column.name: 1 for column in CONFIGURATION}
  with pytest.raises(UsageError, match="kernel_0 is 'x'"):
    Layer.of_row({**row, 'kernel_0': 'x'})


class Dynamic(torch.nn.Module):
  """Its shapes depend on values."""

  def forward(self, x):
    return x[x > 0].sum()


def test_what_cannot_be_traced_says_so():
  with pytest.raises(UsageError, match=r'Dynamic cannot be traced .* trace it on the CPU'):
    traced(Dynamic(), 2, 3)
  with pytest.raises(UsageError, match='there is no network'):
    networks_pytorch.build('resnet19')
  with pytest.raises(UsageError, match='cannot be imported'):
    networks_pytorch.build('nowhere:net')
  with pytest.raises(UsageError, match=r'not a torch\.nn\.Module'):
    networks_pytorch.build('builtins:dict')


def test_families():
  assert family('resnet50') == 'resnet'
  assert family('mine:net') == 'mine:net'


def test_random_weights_are_the_seeds_and_leave_the_generator_alone():
  state = torch.random.get_rng_state()
  first, same, other = (networks_pytorch.build('lenet', seed=s) for s in (1, 1, 2))
  assert torch.equal(state, torch.random.get_rng_state())
  assert torch.equal(first[0].weight, same[0].weight)
  assert not torch.equal(first[0].weight, other[0].weight)


def test_flax_modules(tmp_path, monkeypatch):
  pytest.importorskip('flax')
  (tmp_path / 'my_flax_net.py').write_text(
    'import flax.linen as nn\n'
    'class Net(nn.Module):\n'
    '  @nn.compact\n'
    '  def __call__(self, x):\n'
    '    x = nn.relu(nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3), strides=2)(x)))\n'
    '    x = nn.max_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)\n'
    '    return nn.Dense(10)(x)\n'
    'def make(): return Net()\n'
  )
  monkeypatch.syspath_prepend(str(tmp_path))
  from algorithmic_efficiency.layer_power import running_jax

  runner = running_jax.Runner('cpu')
  found = runner.trace('my_flax_net:make', (4, 3, 32, 32))
  by_type = {placed.layer.layer_type: placed.layer for placed in found.layers}
  assert set(by_type) == {'conv', 'normalisation', 'activation', 'pooling', 'dense'}
  assert by_type['conv'].macs == 4 * 8 * 16 * 16 * 3 * 9
  assert (by_type['pooling'].kernel_0, by_type['pooling'].output_size_1) == (2, 8)
  assert by_type['dense'].macs == 4 * 512 * 10
  for layer in by_type.values():
    call = runner.alone(layer)
    assert call is not None
    call()
    runner.wait()
  network = runner.whole('my_flax_net:make', (4, 3, 32, 32))
  seconds = network.in_network(3)
  assert set(seconds) == {f'Net/{name}_0' for name in ('Conv', 'BatchNorm', 'Dense')}
  assert all(len(times) == 3 and min(times) > 0 for times in seconds.values())
  # What is timed is the layer that the table has under this name, so the two are joined.
  assert set(seconds) <= {placed.name for placed in found.layers if placed.alone}


@pytest.mark.slow
def test_neither_framework_imports_the_other():
  for module, stranger in (('running_jax', 'torch'), ('running_pytorch', 'jax')):
    code = (
      f'import sys, algorithmic_efficiency.layer_power.{module}\n'
      f'assert {stranger!r} not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
