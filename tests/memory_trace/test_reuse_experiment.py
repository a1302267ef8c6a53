"""The experiment on the speed of reuse distances, small."""

import subprocess
import sys

import pytest
from conftest import ROOT

FOLDER = ROOT / 'experiments' / 'reuse_distance_speed'


@pytest.mark.slow
def test_is_measured():
  """It compares with the pure-Python version on the way."""
  command = [sys.executable, str(FOLDER / 'measure_reuse.py'), '--smoke']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  assert "'rate': 0.01" in done.stdout


@pytest.mark.slow
def test_is_drawn(tmp_path):
  pytest.importorskip('matplotlib')
  command = [sys.executable, str(FOLDER / 'plot_reuse.py'), f'--folder={tmp_path}']
  subprocess.run(command, check=True)
  assert (tmp_path / 'plot_reuse.png').read_bytes().startswith(b'\x89PNG')
