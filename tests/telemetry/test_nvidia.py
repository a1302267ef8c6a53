"""Tests of reading NVIDIA GPUs: pynvml's real marshalling, and a driver that is made here."""

import contextlib
import ctypes
import logging
import pathlib
import sys

import pynvml
import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry import sample
from algorithmic_efficiency.telemetry.nvidia import Nvidia

GIB = 1024**3
NAMES = {'compute.util', 'mem.util', 'mem.total', 'mem.used', 'mem.free', 'temp.current'}
NAMES |= {'power.watts'}

FIRST = {
  'total': 80 * GIB,
  'used': 20 * GIB,
  'free': 60 * GIB,
  'gpu': 97,
  'memory': 41,
  'celsius': 65,
  'milliwatts': 627_400,
}
SECOND = {
  'total': 40 * GIB,
  'used': 30 * GIB,
  'free': 10 * GIB,
  'gpu': 3,
  'memory': 1,
  'celsius': 35,
  'milliwatts': 72_600,
}


class FakeDriver:
  """libnvidia-ml as ctypes would give it: functions that fill what they are handed a reference to.

  Attributes:
    gpus: what each GPU reports; a handle is its number plus one, since a null pointer is no handle.
    fails: (function, number of the GPU) to the error code it returns; None for every GPU.
    lacks: functions this version of the driver does not have.
    lost: GPUs that are counted but give no handle.
  """

  def __init__(self, *gpus):
    self.gpus = gpus
    self.fails = {}
    self.lacks = set()
    self.lost = set()

  def __getattr__(self, name):
    functions = {
      'nvmlInitWithFlags': self._init,
      'nvmlDeviceGetCount_v2': self._count,
      'nvmlDeviceGetHandleByIndex_v2': self._handle,
      'nvmlSystemGetDriverVersion': self._driver,
      'nvmlDeviceGetName': self._name,
      'nvmlDeviceGetMemoryInfo': self._memory,
      'nvmlDeviceGetUtilizationRates': self._rates,
      'nvmlDeviceGetTemperature': self._temperature,
      'nvmlDeviceGetPowerUsage': self._power,
    }
    if name not in functions or name in self.lacks:
      raise AttributeError(name)

    def call(*arguments):
      gpu = None
      if arguments and isinstance(arguments[0], ctypes._Pointer):
        gpu = self._number(arguments[0])
      code = self.fails.get((name, gpu), self.fails.get((name, None), 0))
      return code or functions[name](*arguments)

    return call

  @staticmethod
  def _number(handle):
    return ctypes.cast(handle, ctypes.c_void_p).value - 1

  def _init(self, flags):
    return 0

  def _count(self, count):
    count._obj.value = len(self.gpus)
    return 0

  def _handle(self, index, handle):
    if index.value in self.lost:
      return pynvml.NVML_ERROR_GPU_IS_LOST
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1
    return 0

  def _driver(self, buffer, size):
    buffer.value = b'595.12'
    return 0

  def _name(self, handle, buffer, size):
    buffer.value = f'NVIDIA Made-up {self._number(handle)}'.encode()
    return 0

  def _memory(self, handle, memory):
    for field in ('total', 'used', 'free'):
      setattr(memory._obj, field, self.gpus[self._number(handle)][field])
    return 0

  def _rates(self, handle, rates):
    for field in ('gpu', 'memory'):
      setattr(rates._obj, field, self.gpus[self._number(handle)][field])
    return 0

  def _temperature(self, handle, sensor, celsius):
    assert sensor.value == pynvml.NVML_TEMPERATURE_GPU
    celsius._obj.value = self.gpus[self._number(handle)]['celsius']
    return 0

  def _power(self, handle, milliwatts):
    milliwatts._obj.value = self.gpus[self._number(handle)]['milliwatts']
    return 0


@contextlib.contextmanager
def driven_by(driver, monkeypatch):
  """pynvml with this driver in place of the machine's, which may have one or not."""
  with monkeypatch.context() as patch:
    patch.setattr(pynvml, 'nvmlLib', driver)
    patch.setattr(pynvml, '_nvmlGetFunctionPointer_cache', {})
    yield driver


@pytest.fixture
def two_gpus(monkeypatch):
  with driven_by(FakeDriver(FIRST, SECOND), monkeypatch) as driver:
    yield driver


def test_columns_have_their_units_and_their_means(two_gpus):
  row = sample.Telemetry([Nvidia()]).read()
  assert row == pytest.approx(
    {
      'gpu.count': 2,
      'gpu.0.compute.util': 0.97,
      'gpu.0.mem.util': 0.25,
      'gpu.0.mem.total': 81_920,
      'gpu.0.mem.used': 20_480,
      'gpu.0.mem.free': 61_440,
      'gpu.0.temp.current': 65,
      'gpu.0.power.watts': 627.4,
      'gpu.1.compute.util': 0.03,
      'gpu.1.mem.util': 0.75,
      'gpu.1.mem.total': 40_960,
      'gpu.1.mem.used': 30_720,
      'gpu.1.mem.free': 10_240,
      'gpu.1.temp.current': 35,
      'gpu.1.power.watts': 72.6,
      'gpu.avg.compute.util': 0.5,
      'gpu.avg.mem.util': 0.5,
      'gpu.avg.mem.total': 61_440,
      'gpu.avg.mem.used': 25_600,
      'gpu.avg.mem.free': 35_840,
      'gpu.avg.temp.current': 50,
      'gpu.avg.power.watts': 350,
    }
  )
  assert [name for name in row if columns.find(name) is None] == []


def test_the_metadata_names_model_count_and_driver(two_gpus):
  assert sample.Telemetry([Nvidia()]).describe() == {
    'gpu_model_name': 'NVIDIA Made-up 0',
    'gpu_count': 2,
    'gpu_driver': '595.12',
  }


@pytest.mark.parametrize(
  ('function', 'lost'),
  [
    ('nvmlDeviceGetUtilizationRates', {'compute.util'}),
    ('nvmlDeviceGetTemperature', {'temp.current'}),
    ('nvmlDeviceGetPowerUsage', {'power.watts'}),
    ('nvmlDeviceGetMemoryInfo', {'mem.util', 'mem.total', 'mem.used', 'mem.free'}),
  ],
)
@pytest.mark.parametrize('gpu', [None, 1])
def test_a_query_that_is_not_supported_leaves_only_its_columns_out(two_gpus, function, lost, gpu):
  telemetry = sample.Telemetry([Nvidia()])
  whole = telemetry.read()
  two_gpus.fails[function, gpu] = pynvml.NVML_ERROR_NOT_SUPPORTED
  row = telemetry.read()
  if gpu is None:
    gone = {f'gpu.{place}.{name}' for place in ('0', '1', 'avg') for name in lost}
    assert row == {name: value for name, value in whole.items() if name not in gone}
    return
  assert set(whole) - set(row) == {f'gpu.1.{name}' for name in lost}
  for name in lost:  # the mean is over the GPUs that answer
    assert row[f'gpu.avg.{name}'] == row[f'gpu.0.{name}'] == whole[f'gpu.0.{name}']


def test_an_old_driver_without_a_function_leaves_only_its_column_out(two_gpus):
  two_gpus.lacks = {'nvmlDeviceGetPowerUsage'}
  row = sample.Telemetry([Nvidia()]).read()
  seen = {name.split('.', 2)[2] for name in row if name != 'gpu.count'}
  assert seen == NAMES - {'power.watts'}


def test_a_gpu_that_was_lost_before_leaves_the_other_under_its_own_number(two_gpus):
  two_gpus.lost = {0}
  telemetry = sample.Telemetry([Nvidia()])
  row = telemetry.read()
  assert row['gpu.count'] == 2
  assert {name.split('.')[1] for name in row if name != 'gpu.count'} == {'1', 'avg'}
  assert row['gpu.avg.power.watts'] == row['gpu.1.power.watts'] == 72.6
  assert telemetry.describe()['gpu_model_name'] == 'NVIDIA Made-up 1'
  two_gpus.lost = {0, 1}
  assert sample.Telemetry([Nvidia()]).read() == {}


def test_a_gpu_that_is_lost_while_training_leaves_the_other(two_gpus):
  telemetry = sample.Telemetry([Nvidia()])
  before = telemetry.read()
  for query in ('MemoryInfo', 'UtilizationRates', 'Temperature', 'PowerUsage'):
    two_gpus.fails[f'nvmlDeviceGet{query}', 0] = pynvml.NVML_ERROR_GPU_IS_LOST
  row = telemetry.read()
  assert {name: row[name] for name in row if name.startswith('gpu.1.')} == {
    name: before[name] for name in before if name.startswith('gpu.1.')
  }
  assert not any(name.startswith('gpu.0.') for name in row)
  assert row['gpu.avg.power.watts'] == row['gpu.1.power.watts']


def test_all_gpus_lost_leave_a_count_and_raise_nothing(two_gpus):
  telemetry = sample.Telemetry([Nvidia()])
  for query in ('MemoryInfo', 'UtilizationRates', 'Temperature', 'PowerUsage', 'Name'):
    two_gpus.fails[f'nvmlDeviceGet{query}', None] = pynvml.NVML_ERROR_GPU_IS_LOST
  assert telemetry.read() == {'gpu.count': 2}
  assert telemetry.describe() == {'gpu_count': 2, 'gpu_driver': '595.12'}


@pytest.mark.parametrize(
  ('function', 'code'),
  [
    ('nvmlInitWithFlags', pynvml.NVML_ERROR_DRIVER_NOT_LOADED),
    ('nvmlInitWithFlags', pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH),
    ('nvmlDeviceGetCount_v2', pynvml.NVML_ERROR_UNKNOWN),
  ],
)
def test_a_driver_that_does_not_answer_gives_no_columns(two_gpus, function, code):
  two_gpus.fails[function, None] = code
  available, reason = Nvidia().probe()
  assert not available
  assert reason.startswith('NVML: ')
  telemetry = sample.Telemetry([Nvidia()])
  assert (telemetry.read(), telemetry.describe()) == ({}, {})


def test_a_machine_without_the_driver_has_no_columns(monkeypatch):
  def no_library(name):
    raise OSError(f'{name}: cannot open shared object file')

  with driven_by(None, monkeypatch):
    monkeypatch.setattr(pynvml, 'CDLL', no_library)
    telemetry = sample.Telemetry([Nvidia()])
    assert (telemetry.read(), telemetry.describe()) == ({}, {})


def test_a_driver_without_a_gpu_gives_no_columns(monkeypatch):
  with driven_by(FakeDriver(), monkeypatch):
    assert Nvidia().probe() == (False, 'NVML sees no GPU')
    assert sample.Telemetry([Nvidia()]).read() == {}


@pytest.mark.parametrize('has_driver', [False, True])
def test_without_the_package_only_a_machine_with_a_gpu_is_warned(has_driver, monkeypatch, caplog):
  monkeypatch.setitem(sys.modules, 'pynvml', None)
  monkeypatch.setattr(pathlib.Path, 'exists', lambda _: has_driver)
  with caplog.at_level(logging.WARNING):
    telemetry = sample.Telemetry([Nvidia()])
  assert (telemetry.read(), telemetry.describe()) == ({}, {})
  assert ['pip install' in record.message for record in caplog.records] == [True] * has_driver
