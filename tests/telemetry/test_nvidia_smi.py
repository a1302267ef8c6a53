"""Tests of the way by GPUtil, with an nvidia-smi that is made here."""

import os
import stat
import sys

import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry.nvidia_smi import NvidiaSmi
from algorithmic_efficiency.telemetry.sample import Telemetry

# As GPUtil asks: index, uuid, load, memory total, used, free, driver, name, serial, two displays,
# temperature.
LINES = """0, GPU-aaaa, 97, 81920, 20480, 61440, 595.12, NVIDIA Made-up, 1, Disabled, Disabled, 65
1, GPU-bbbb, [N/A], 40960, 30720, 10240, 595.12, NVIDIA Made-up, 2, Disabled, Disabled, 35
"""


@pytest.fixture(autouse=True)
def gputil(monkeypatch):
  """GPUtil, which may bring setuptools in for its distutils, and that folders of its own."""
  monkeypatch.setattr(sys, 'path', list(sys.path))
  pytest.importorskip('GPUtil', reason='gputil is not installed, or needs Python 3.11')


@pytest.fixture
def smi(tmp_path, monkeypatch):
  """Writes the program that is found as nvidia-smi."""

  def write(text, code=0):
    (tmp_path / 'out.txt').write_text(text)
    program = tmp_path / 'nvidia-smi'
    program.write_text(f'#!/bin/sh\ncat {tmp_path}/out.txt\nexit {code}\n')
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv('PATH', f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')

  return write


def test_columns_are_those_of_nvml(smi):
  smi(LINES)
  telemetry = Telemetry([NvidiaSmi()])
  row = telemetry.read()
  assert row['gpu.count'] == 2
  expected = {'compute.util': 0.97, 'mem.util': 0.25, 'mem.used': 20_480, 'temp.current': 65}
  assert {name: row[f'gpu.0.{name}'] for name in expected} == expected
  assert 'gpu.1.compute.util' not in row  # [N/A] is no number
  assert row['gpu.avg.temp.current'] == 50
  assert [name for name in row if columns.find(name) is None] == []
  facts = {'gpu_model_name': 'NVIDIA Made-up', 'gpu_count': 2, 'gpu_driver': '595.12'}
  assert telemetry.describe() == facts
  assert telemetry.counters() == {}


def test_the_jobs_gpus(smi):
  smi(LINES)
  source = NvidiaSmi(environ={'CUDA_VISIBLE_DEVICES': 'GPU-bbbb'})
  assert {d.name: d.in_job for d in source.devices()} == {'gpu.0': False, 'gpu.1': True}


@pytest.mark.parametrize('text', [
  "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
  'Unable to determine the device handle for GPU 0000:0B:00.0: Unknown Error\n',
  'No devices were found\n',
  '',
])  # fmt: skip
def test_text_of_an_error_gives_no_columns_and_prints_nothing(smi, text, capsys):
  smi(LINES)
  source = NvidiaSmi()
  assert source.probe()[0]
  smi(text, code=9)
  assert source.read() == {}
  assert source.devices() == []
  assert NvidiaSmi().probe() == (False, 'nvidia-smi lists no GPU')
  assert capsys.readouterr().out == ''


def test_without_the_program(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert NvidiaSmi().probe() == (False, 'nvidia-smi is not on PATH')
