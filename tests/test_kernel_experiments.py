"""The experiments that trace or measure layers; tens of seconds each, so only by `-m slow`."""

import csv
import importlib.util
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

GRID = ROOT / 'experiments' / 'conv_kernel_grid'
WORKLOADS = ROOT / 'experiments' / 'kernel_time_by_workload'


def run(*arguments):
  command = [sys.executable, *map(str, arguments)]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


def rows_of(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def test_the_grid_is_measured_goes_on_and_is_drawn(tmp_path):
  traces, table = tmp_path / 'traces', tmp_path / 'results.csv'
  command = [GRID / 'measure_grid.py', '--smoke', f'--traces={traces}', f'--output={table}']
  assert '8 trials measured' in run(*command)
  rows = rows_of(table)
  assert {(r['framework'], r['batch_size'], r['filters']) for r in rows} == {
    (f, b, n) for f in ('jax', 'pytorch') for b in ('1', '8') for n in ('1', '4')
  }
  for row in rows:
    parts = [float(row[f'{name}_us']) for name in ('forward', 'backward', 'unnamed')]
    assert parts[0] > 0 and sum(parts) <= 1.001 * float(row['total_us'])
    assert float(row['step_us']) > 0
  # As if the process had been killed in this trial: what is half there is measured again.
  (traces / 'pytorch' / 'b8s1k3f4' / 'repeat_1' / 'trial.json').unlink()
  assert '1 trials measured' in run(*command)
  assert len(rows_of(table)) == 8
  run(GRID / 'plot_grid.py', f'--table={table}', f'--folder={tmp_path}')
  for name in ('distribution', 'batches', 'filters', 'strides'):
    assert (tmp_path / f'plot_{name}.png').read_bytes().startswith(b'\x89PNG')


def test_both_networks_of_the_grid_pad_alike():
  """Of every stride and kernel size the same convolution, by the same weights."""
  code = """
import numpy as np, torch, grid, one_network_jax, one_network_pytorch
for stride in (1, 2, 3):
  for size in (1, 3):
    setting = grid.Setting(2, stride, size, 4)
    images = np.random.default_rng(0).random((2, 28, 28), dtype=np.float32)
    model = one_network_jax.Net(setting)
    params = one_network_jax._initial(model, 0)
    theirs = one_network_pytorch.Net(setting)
    conv = [m for m in theirs.modules() if isinstance(m, torch.nn.Conv2d)][0]
    own = params['params']
    with torch.no_grad():
      conv.weight[:] = torch.tensor(own['Conv_0']['kernel'].transpose(3, 2, 0, 1))
      conv.bias.zero_()
      kernel = own['Dense_0']['kernel'].reshape(setting.output_size, setting.output_size, 4)
      theirs.dense.weight[:] = torch.tensor(kernel.transpose(2, 0, 1).reshape(1, -1))
      theirs.dense.bias.zero_()
      found = theirs(torch.from_numpy(images[:, None])).numpy()
    np.testing.assert_allclose(found, model.apply(params, images[..., None]), rtol=1e-4, atol=1e-4)
"""
  subprocess.run([sys.executable, '-c', code], check=True, cwd=GRID)


def test_kernels_of_a_workload_are_measured_and_drawn(tmp_path):
  table = tmp_path / 'results.csv'
  run(WORKLOADS / 'measure_kernels.py', '--smoke', f'--output={table}')
  rows = rows_of(table)
  for framework in ('jax', 'pytorch'):
    own = [row for row in rows if row['framework'] == framework]
    assert {row['workload'] for row in own} == {'digits'}
    assert {'forward', 'backward'} <= {row['phase'] for row in own}
    # On one core one thing runs at a time, so that all there is makes up the step.
    assert sum(float(row['share_pct']) for row in own) == pytest.approx(100, abs=5)
  run(WORKLOADS / 'plot_kernels.py', f'--table={table}', f'--figure={tmp_path}/kernels.png')
  assert (tmp_path / 'kernels.png').read_bytes().startswith(b'\x89PNG')


def test_networks_are_measured_by_layers_and_predicted_from_others(tmp_path):
  if importlib.util.find_spec('torchvision') is None:
    pytest.skip('torchvision is not installed')
  script = ROOT / 'experiments' / 'layer_power_cnn' / 'measure_cnn.py'
  run(script, '--smoke', f'--output_dir={tmp_path}')
  rows = {row['network']: row for row in rows_of(tmp_path / 'predictions.csv')}
  assert set(rows) == {'lenet', 'resnet18'}
  for row in rows.values():
    assert float(row['runtime']) > 0
    assert float(row['sum_alone']) > 0
  # LeNet's few layers fit no predictor; ResNet's do, for convolutions and activations at least.
  assert float(rows['lenet']['predicted_family_out']) > 0
