"""Tests of the layers in which flax and PyTorch differ, against closed forms and each other.

Statistics over several devices or processes are compared with those of the unsplit batch; the
devices and processes are made on the CPU, in processes of their own.
"""

import os
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from algorithmic_efficiency.frameworks import layers_jax, layers_pytorch, on_jax, on_pytorch
from algorithmic_efficiency.spec import ParameterType

RNG = np.random.default_rng(17)
IMAGES = (3 + 2 * RNG.standard_normal((8, 5, 4, 6))).astype(np.float32)  # channels last
COTANGENT = RNG.standard_normal(IMAGES.shape, dtype=np.float32)
SCALE, BIAS = RNG.standard_normal((2, 6), dtype=np.float32)
MEAN, VARIANCE = RNG.standard_normal(6, dtype=np.float32), RNG.uniform(1, 2, 6).astype(np.float32)
EPSILON, MOMENTUM = 1e-5, 0.9
ONES = jnp.ones((200, 300))
KEY = jax.random.key(4)


# Dropout.


@pytest.mark.parametrize('rate', [0, 0.0, np.float32(0)])
def test_a_rate_of_zero_needs_no_key_and_changes_nothing(rate):
  assert layers_jax.dropout(ONES, rate, None) is ONES
  x = torch.ones(3)
  assert layers_pytorch.dropout(x, float(rate), training=True) is x


@pytest.mark.parametrize('rate', [0.1, 0.75])
def test_dropout_zeros_its_share_and_scales_the_rest(rate):
  torch.manual_seed(0)
  compiled = jax.jit(layers_jax.dropout)
  for out in (
    layers_jax.dropout(ONES, rate, KEY),
    compiled(ONES, rate, KEY),
    layers_pytorch.dropout(torch.ones(200, 300), rate, training=True),
  ):
    out = np.asarray(out)
    # The standard deviation of the share is at most 0.5 / sqrt(60,000) = 0.002.
    assert np.mean(out == 0) == pytest.approx(rate, abs=0.01)
    assert out[out != 0] == pytest.approx(1 / (1 - rate), rel=1e-6)


def test_a_traced_rate_may_be_zero_or_one():
  compiled = jax.jit(jax.value_and_grad(lambda x, rate: layers_jax.dropout(x, rate, KEY).sum()))
  value, gradient = compiled(ONES, 0.0)
  assert (value, gradient.min(), gradient.max()) == (ONES.size, 1, 1)
  value, gradient = compiled(ONES, 1.0)
  assert value == 0
  assert not gradient.any()
  assert not layers_jax.dropout(ONES * jnp.inf, 1.0, KEY).any()
  assert not layers_pytorch.dropout(torch.ones(9), 1.0, training=True).any()


def test_one_compilation_serves_all_traced_rates_and_a_traced_rate_is_the_same_as_a_number():
  traces = []

  @jax.jit
  def compiled(rate):
    traces.append(rate)
    return layers_jax.dropout(ONES, rate, KEY)

  for rate in (0.25, 0.5):
    assert np.array_equal(compiled(rate), layers_jax.dropout(ONES, rate, KEY))
  assert len(traces) == 1


@pytest.mark.parametrize('rate', [-0.1, 1.5])
def test_a_rate_that_is_no_share_is_refused(rate):
  with pytest.raises(ValueError, match='dropout'):
    layers_jax.dropout(ONES, rate, KEY)
  with pytest.raises(ValueError, match='dropout'):
    layers_pytorch.dropout(torch.ones(3), rate, training=True)


def test_the_layer_of_flax_asks_for_a_key_only_where_it_drops():
  layer = layers_jax.Dropout()
  assert np.array_equal(layer.apply({}, ONES, 0.5, train=False), ONES)
  assert np.array_equal(layer.apply({}, ONES, 0.0, train=True), ONES)
  one, same, other = (
    layer.apply({}, ONES, 0.5, train=True, rngs={'dropout': jax.random.key(seed)})
    for seed in (1, 1, 2)
  )
  assert np.array_equal(one, same)
  assert not np.array_equal(one, other)
  assert np.mean(one == 0) == pytest.approx(0.5, abs=0.01)


def test_pytorch_drops_nothing_outside_training():
  x = torch.ones(3)
  assert layers_pytorch.dropout(x, 0.5, training=False) is x


# Batch norm.


class Net(nn.Module):
  """A batch norm as models use it."""

  @nn.compact
  def __call__(self, x, use_running_average=False):
    return layers_jax.batch_norm(momentum=MOMENTUM, epsilon=EPSILON)(x, use_running_average)


def variables():
  return {
    'params': {'BatchNorm_0': {'scale': SCALE, 'bias': BIAS}},
    'batch_stats': {'BatchNorm_0': {'mean': MEAN, 'var': VARIANCE}},
  }


def in_pytorch(**settings):
  norm = layers_pytorch.BatchNorm2d(6, **{'eps': EPSILON, 'momentum': 1 - MOMENTUM, **settings})
  with torch.no_grad():
    norm.weight.copy_(torch.from_numpy(SCALE))
    norm.bias.copy_(torch.from_numpy(BIAS))
    if norm.running_mean is not None:
      norm.running_mean.copy_(torch.from_numpy(MEAN))
      norm.running_var.copy_(torch.from_numpy(VARIANCE))
  return norm


def channels_first(images):
  return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


def channels_last(tensor):
  return tensor.detach().permute(0, 2, 3, 1).numpy()


def closed_form(images, mean, variance):
  scale = SCALE / np.sqrt(np.float64(variance) + EPSILON)
  return (np.float64(images) - mean) * scale + BIAS


def batch_statistics(images=IMAGES):
  flat = np.float64(images).reshape(-1, images.shape[-1])
  return flat.mean(0), flat.var(0)


def run_jax(images=IMAGES):
  """Output, new mean and variance, and the gradients of x, scale and bias."""

  def forward(params, x):
    out, new = Net().apply({**variables(), 'params': params}, x, mutable=['batch_stats'])
    return jnp.sum(out * COTANGENT[: len(x)]), (out, new)

  both = jax.value_and_grad(forward, argnums=(0, 1), has_aux=True)
  (_, (out, new)), (params, x) = jax.jit(both)(variables()['params'], images)
  stats, params = new['batch_stats']['BatchNorm_0'], params['BatchNorm_0']
  return [np.asarray(a) for a in (out, stats['mean'], stats['var'], x, *map(params.get, LEAVES))]


LEAVES = ('scale', 'bias')


def run_pytorch(norm, images=IMAGES):
  """The same in PyTorch."""
  x = channels_first(images).requires_grad_()
  out = norm(x)
  (out * channels_first(COTANGENT[: len(images)])).sum().backward()
  return [
    channels_last(out),
    norm.running_mean.numpy().copy(),
    norm.running_var.numpy().copy(),
    channels_last(x.grad),
    norm.weight.grad.numpy(),
    norm.bias.grad.numpy(),
  ]


def assert_close(ours, theirs, tolerance=2e-5):
  assert len(ours) == len(theirs)
  for one, other in zip(ours, theirs, strict=True):
    assert np.shape(one) == np.shape(other)
    assert np.asarray(one) == pytest.approx(np.asarray(other), rel=tolerance, abs=tolerance)


def test_training_normalises_by_the_batch_and_averages_its_statistics():
  mean, variance = batch_statistics()
  expected = [
    closed_form(IMAGES, mean, variance),
    MOMENTUM * MEAN + (1 - MOMENTUM) * mean,
    MOMENTUM * VARIANCE + (1 - MOMENTUM) * variance,
  ]
  assert_close(run_jax()[:3], expected)
  assert_close(run_pytorch(in_pytorch())[:3], expected)


def test_gradients_agree():
  expected = run_jax()
  # One number by differences: the loss around the first weight.
  step, losses = 0.05, []
  for sign in (1, -1):
    moved = IMAGES.copy()
    moved[0, 0, 0, 0] += sign * step
    losses.append((closed_form(moved, *batch_statistics(moved)) * COTANGENT).sum())
  assert expected[3][0, 0, 0, 0] == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-3)
  assert_close(run_pytorch(in_pytorch()), expected)


def test_evaluation_normalises_by_the_running_statistics_and_keeps_them():
  expected = closed_form(IMAGES, MEAN, VARIANCE)
  out, new = Net().apply(variables(), IMAGES, True, mutable=['batch_stats'])
  norm = in_pytorch().eval()
  assert_close([out, channels_last(norm(channels_first(IMAGES)))], [expected] * 2)
  assert np.array_equal(new['batch_stats']['BatchNorm_0']['var'], VARIANCE)
  assert np.array_equal(norm.running_var.numpy(), VARIANCE)
  assert norm.num_batches_tracked == 0


def test_parameters_are_named_so_that_their_types_are_told():
  made = Net().init(KEY, IMAGES)
  assert jax.tree.structure(made) == jax.tree.structure(variables())
  scale, bias = ParameterType.BATCH_NORM_SCALE, ParameterType.BATCH_NORM_BIAS
  assert on_jax.param_types(made['params'])['BatchNorm_0'] == {'scale': scale, 'bias': bias}
  assert on_pytorch.param_types(in_pytorch()) == {'weight': scale, 'bias': bias}


def test_without_momentum_the_running_statistics_are_the_plain_average():
  norm = layers_pytorch.BatchNorm2d(6, momentum=None)
  parts = [IMAGES[:2], IMAGES[2:5] * 2, IMAGES[5:] - 1]
  for part in parts:
    norm(channels_first(part))
  means, variances = zip(*map(batch_statistics, parts), strict=True)
  assert norm.num_batches_tracked == 3
  assert_close(
    [norm.running_mean.numpy(), norm.running_var.numpy()],
    [np.mean(means, 0), np.mean(variances, 0)],
  )


def test_statistics_that_are_not_tracked_stay():
  norm = in_pytorch()
  norm.track_running_stats = False  # as the bench does for a pass that is not to update them
  out = norm(channels_first(IMAGES))
  assert_close([channels_last(out)], [closed_form(IMAGES, *batch_statistics())])
  assert np.array_equal(norm.running_mean.numpy(), MEAN)
  assert np.array_equal(norm.running_var.numpy(), VARIANCE)
  assert norm.num_batches_tracked == 0
  assert_close(
    [channels_last(norm.eval()(channels_first(IMAGES)))], [closed_form(IMAGES, MEAN, VARIANCE)]
  )


def test_without_buffers_the_batch_decides_in_both_modes():
  norm = in_pytorch(track_running_stats=False)
  expected = closed_form(IMAGES, *batch_statistics())
  for mode in (True, False):
    assert_close([channels_last(norm.train(mode)(channels_first(IMAGES)))], [expected])


def test_two_passes_may_come_before_one_backward():
  norm = in_pytorch()
  x = channels_first(IMAGES).requires_grad_()
  (norm(x).square().sum() + norm(2 * x).square().sum()).backward()
  assert x.grad.isfinite().all()
  assert norm.num_batches_tracked == 2


def test_a_single_number_has_no_statistics_and_other_shapes_are_refused():
  with pytest.raises(ValueError, match='more than 1 value per channel'):
    in_pytorch()(torch.ones(1, 6, 1, 1))
  with pytest.raises(ValueError, match='expected 4D input'):
    in_pytorch()(torch.ones(4, 6))


def test_it_compiles_in_one_piece():
  norm, compiled = in_pytorch(), in_pytorch()
  # The back end that writes no code of its own: it needs no compiler, and no seconds.
  layers = torch.nn.Sequential(compiled, torch.nn.ReLU())
  net = torch.compile(layers, fullgraph=True, backend='aot_eager')
  for _ in range(2):
    expected = torch.relu(norm(channels_first(IMAGES)))
    assert_close([net(channels_first(IMAGES)).detach()], [expected.detach()])
  assert_close([compiled.running_var], [norm.running_var])
  assert compiled.num_batches_tracked == 2


# Batch norm over several devices or processes.


def run_script(folder, script, **environment):
  """Runs Python code with the arrays of this module; returns what it put into result.npz."""
  arrays = folder / 'arrays.npz'
  np.savez(
    arrays,
    images=IMAGES,
    cotangent=COTANGENT,
    scale=SCALE,
    bias=BIAS,
    mean=MEAN,
    variance=VARIANCE,
  )
  path = folder / 'script.py'
  path.write_text(textwrap.dedent(script))
  command = [sys.executable, str(path), str(arrays), str(folder / 'result.npz')]
  done = subprocess.run(
    command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
  )
  assert done.returncode == 0, done.stderr
  return dict(np.load(folder / 'result.npz'))


ON_FOUR_DEVICES = """
  import sys
  import flax.linen as nn, jax, jax.numpy as jnp, numpy as np
  from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
  from algorithmic_efficiency.frameworks import layers_jax

  a = dict(np.load(sys.argv[1]))
  assert jax.device_count() == 4

  class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
      return layers_jax.batch_norm(momentum=0.9, epsilon=1e-5)(x, False)

  params = {'BatchNorm_0': {'scale': a['scale'], 'bias': a['bias']}}
  stats = {'batch_stats': {'BatchNorm_0': {'mean': a['mean'], 'var': a['variance']}}}

  def run(x, cotangent):
    def forward(x):
      out, new = Net().apply({'params': params, **stats}, x, mutable=['batch_stats'])
      return jnp.sum(out * cotangent), (out, new['batch_stats']['BatchNorm_0'])
    (_, (out, new)), gradient = jax.value_and_grad(forward, has_aux=True)(x)
    return out, new['mean'], new['var'], gradient

  def parts(x):
    return x.reshape(4, 2, *x.shape[1:])

  results = {}
  results['pmap'] = jax.pmap(run, axis_name='batch')(parts(a['images']), parts(a['cotangent']))
  results['alone'] = jax.pmap(run)(parts(a['images']), parts(a['cotangent']))
  mesh = Mesh(np.array(jax.devices()), ('batch',))
  split = P('batch')
  mapped = jax.shard_map(run, mesh=mesh, in_specs=split, out_specs=(split, P(), P(), split))
  results['shard_map'] = jax.jit(mapped)(a['images'], a['cotangent'])
  placed = jax.device_put((a['images'], a['cotangent']), NamedSharding(mesh, split))
  results['jit'] = jax.jit(run)(*placed)
  results['eager'] = run(a['images'], a['cotangent'])
  names = ('out', 'mean', 'var', 'gradient')
  np.savez(sys.argv[2], **{
    f'{way} {name}': np.asarray(value)
    for way, values in results.items() for name, value in zip(names, values)
  })
"""


@pytest.fixture(scope='module')
def on_four_devices(tmp_path_factory):
  flags = '--xla_force_host_platform_device_count=4'
  folder = tmp_path_factory.mktemp('devices')
  found = run_script(folder, ON_FOUR_DEVICES, XLA_FLAGS=flags, JAX_PLATFORMS='cpu')

  def of(way):
    return [found[f'{way} {name}'] for name in ('out', 'mean', 'var', 'gradient')]

  return of


@pytest.mark.parametrize('way', ['pmap', 'shard_map', 'jit', 'eager'])
def test_jax_shares_statistics_over_devices(on_four_devices, way):
  out, mean, var, gradient = on_four_devices(way)
  if way == 'pmap':  # every device has them
    assert all(np.array_equal(x, mean[0]) for x in mean)
    out, mean, var, gradient = out.reshape(IMAGES.shape), mean[0], var[0], gradient
    gradient = gradient.reshape(IMAGES.shape)
  assert_close([out, mean, var, gradient], run_jax()[:4])


def test_an_axis_of_another_name_is_not_the_batch(on_four_devices):
  out, mean, *_ = on_four_devices('alone')
  for number in range(4):
    part = slice(2 * number, 2 * number + 2)
    expected = closed_form(IMAGES[part], *batch_statistics(IMAGES[part]))
    assert_close([out[number]], [expected])
  assert not np.allclose(mean[0], mean[1])


IN_TWO_PROCESSES = """
  import sys
  import numpy as np, torch
  from torch import distributed
  from torch.nn.parallel import DistributedDataParallel
  from algorithmic_efficiency.frameworks import layers_pytorch

  def first(images):
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)

  def last(tensor):
    return tensor.detach().permute(0, 2, 3, 1).contiguous().numpy()

  def work(rank, arrays, result):
    torch.set_num_threads(1)
    distributed.init_process_group(
      'gloo', init_method=f'file://{result}.meeting', rank=rank, world_size=2)
    a = dict(np.load(arrays))
    norm = layers_pytorch.BatchNorm2d(6, eps=1e-5, momentum=0.1)
    with torch.no_grad():
      for tensor, name in ((norm.weight, 'scale'), (norm.bias, 'bias'),
                           (norm.running_mean, 'mean'), (norm.running_var, 'variance')):
        tensor.copy_(torch.from_numpy(a[name]))
    part = slice(0, 3) if rank == 0 else slice(3, 8)  # unequal shares count as they are
    x = first(a['images'][part]).requires_grad_()
    wrapped = DistributedDataParallel(norm)
    out = wrapped(x)
    # The mean over processes that DDP takes of gradients becomes the sum.
    (2 * (out * first(a['cotangent'][part])).sum()).backward()
    norm.eval()
    evaluated = norm(first(a['images'][part]))
    found = {
      'out': last(out), 'mean': norm.running_mean.numpy(), 'var': norm.running_var.numpy(),
      'x': last(x.grad) / 2, 'scale': norm.weight.grad.numpy(), 'bias': norm.bias.grad.numpy(),
      'evaluated': last(evaluated), 'tracked': norm.num_batches_tracked.numpy(),
    }
    gathered = [None, None]
    distributed.all_gather_object(gathered, found)
    if rank == 0:
      np.savez(result, **{f'{n} {k}': v for n, g in enumerate(gathered) for k, v in g.items()})
    distributed.destroy_process_group()

  if __name__ == '__main__':
    # Forked, as torch is imported by then; a start of its own would take each seconds.
    torch.multiprocessing.start_processes(work, sys.argv[1:], nprocs=2, start_method='fork')
"""


@pytest.mark.slow
def test_pytorch_shares_statistics_over_processes(tmp_path):
  found = run_script(tmp_path, IN_TWO_PROCESSES)

  def joined(name):
    return np.concatenate([found[f'0 {name}'], found[f'1 {name}']])

  for name in ('mean', 'var', 'scale', 'bias', 'tracked'):
    assert np.array_equal(found[f'0 {name}'], found[f'1 {name}']), name
  ours = [joined('out'), *(found[f'0 {n}'] for n in ('mean', 'var'))]
  ours += [joined('x'), found['0 scale'], found['0 bias']]
  assert_close(ours, run_pytorch(in_pytorch()))
  assert found['0 tracked'] == 1
  # An evaluation takes the running statistics, and no part in a collective.
  expected = closed_form(IMAGES, found['0 mean'], found['0 var'])
  assert_close([joined('evaluated')], [expected])
