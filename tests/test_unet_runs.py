"""Training unet through the command, on a folder of slices with ellipses in them."""

import subprocess
import sys
from pathlib import Path

import ellipses
import pytest
from conftest import ROOT

# The command as it is, but for a network that is narrow.
NARROW = f"""
import sys
sys.path += [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]
import narrow
narrow.make_unet_narrow()
from algorithmic_efficiency import submission_runner
submission_runner.main()
"""
POINT = '[{"learning_rate": 1e-2, "one_minus_beta_1": 0.1, "epsilon": 1e-8}]'


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory) -> Path:
  """Ten patients of eight slices each, as PNG files: 64 to train, 8 to validate, 8 to test."""
  folder = tmp_path_factory.mktemp('data')
  ellipses.write(folder / 'unet', 10, 8, '.png', size=24)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['jax', 'pytorch'])
def test_it_learns_from_a_folder_of_pairs(command, data_dir, tmp_path, framework):
  (tmp_path / 'point.json').write_text(POINT)
  arguments = command.arguments(
    framework,
    workload='unet',
    data_dir=data_dir,
    tuning_search_space=tmp_path / 'point.json',
    batch_size=16,
    max_global_steps=60,
    device='cpu',
  )
  done = subprocess.run(
    [sys.executable, '-c', NARROW, *arguments[2:]], capture_output=True, text=True, timeout=200
  )
  assert done.returncode == 0, done.stderr + done.stdout
  first, last = command.rows(f'unet_{framework}')
  assert (first['global_step'], last['global_step']) == ('1', '60')
  assert [last[f'{split}/num_examples'] for split in ('train', 'validation', 'test')] == [
    '64',
    '8',
    '8',
  ]
  assert last['dice'] == last['validation/dice']
  # One slice of four is empty, so that an answer of "nothing" anywhere has a Dice of 0.25.
  for split in ('train', 'validation', 'test'):
    assert float(last[f'{split}/dice']) > 0.7, split
    assert float(last[f'{split}/loss']) < float(first[f'{split}/loss'])
  metadata = command.metadata(f'unet_{framework}')
  assert metadata['device'] == 'cpu'
  assert metadata['data_source'] == '80 png pairs of 10 patients'
  assert metadata['workload.num_train_examples'] == 64
  assert metadata['workload.target_metric_name'] == 'dice'
