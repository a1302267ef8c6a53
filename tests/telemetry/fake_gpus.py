# ruff: noqa: N802 - the functions bear the names of the library
"""GPUs that are made here: pynvml's real marshalling around a driver whose power is a formula.

Power swings as BASE + SWING sin(2 pi t / PERIOD_SEC) watts over the monotonic clock, so the energy
between two moments is known in closed form. `site/sitecustomize.py` puts the driver into every
Python process that finds it on its path and FAKE_GPUS in its environment.
"""

import ctypes
import json
import math
import os
import time
from pathlib import Path

import pynvml

BASE, SWING, PERIOD_SEC = 200.0, 100.0, 3.0
MIB = 1024 * 1024


def watts(at):
  return BASE + SWING * math.sin(2 * math.pi * at / PERIOD_SEC)


def joules(at):
  return BASE * at - SWING * PERIOD_SEC / (2 * math.pi) * math.cos(2 * math.pi * at / PERIOD_SEC)


class Driver:
  """libnvidia-ml as ctypes would give it.

  Args:
    count: of GPUs.
    counts_energy: as Volta and later do.
    scale: of the counter's joules, for one that is wrong.
    latency_sec: of every call about a GPU.
  """

  def __init__(self, count=1, counts_energy=True, scale=1.0, latency_sec=0.0):
    self.count, self.scale, self.latency_sec = count, scale, latency_sec
    self.counts_energy = counts_energy
    self.calls = 0

  def __getattr__(self, name):
    if not name.startswith('nvml') or not hasattr(type(self), f'do_{name[4:]}'):
      raise AttributeError(name)

    def call(*arguments):
      self.calls += 1
      if self.latency_sec and name.startswith('nvmlDevice'):
        time.sleep(self.latency_sec)
      return getattr(self, f'do_{name[4:]}')(*arguments) or 0

    return call

  def do_InitWithFlags(self, flags):
    return 0

  def do_DeviceGetCount_v2(self, count):
    count._obj.value = self.count

  def do_DeviceGetHandleByIndex_v2(self, index, handle):
    ctypes.cast(handle, ctypes.POINTER(ctypes.c_void_p))[0] = index.value + 1

  def do_SystemGetDriverVersion(self, buffer, size):
    buffer.value = b'595.12'

  def do_DeviceGetName(self, handle, buffer, size):
    buffer.value = b'NVIDIA Made-up'

  def do_DeviceGetUUID(self, handle, buffer, size):
    number = ctypes.cast(handle, ctypes.c_void_p).value - 1
    buffer.value = f'GPU-{number}0000000-aaaa'.encode()

  def do_DeviceGetMemoryInfo(self, handle, memory):
    memory._obj.total, memory._obj.used, memory._obj.free = (n * MIB for n in (1000, 250, 750))

  def do_DeviceGetUtilizationRates(self, handle, rates):
    rates._obj.gpu, rates._obj.memory = 50, 20

  def do_DeviceGetTemperature(self, handle, sensor, celsius):
    celsius._obj.value = 60

  def do_DeviceGetPowerUsage(self, handle, milliwatts):
    milliwatts._obj.value = round(1000 * watts(time.monotonic()))

  def do_DeviceGetTotalEnergyConsumption(self, handle, millijoules):
    if not self.counts_energy:
      return pynvml.NVML_ERROR_NOT_SUPPORTED
    millijoules._obj.value = round(1000 * self.scale * joules(time.monotonic()))
    return 0

  def do_DeviceGetClockInfo(self, handle, kind, megahertz):
    megahertz._obj.value = {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619}[kind.value]

  def do_DeviceGetCurrentClocksEventReasons(self, handle, reasons):
    reasons._obj.value = 4

  def do_DeviceGetViolationStatus(self, handle, policy, status):
    power = policy.value == pynvml.NVML_PERF_POLICY_POWER
    status._obj.violationTime = int((7 if power else 2) * 1e9)

  def do_DeviceGetMigMode(self, handle, current, pending):
    current._obj.value = pending._obj.value = 0

  def do_DeviceGetFieldValues(self, handle, count, values):
    for value in values._obj:
      average = value.fieldId == pynvml.NVML_FI_DEV_POWER_AVERAGE
      value.nvmlReturn = 0
      value.value.uiVal = 210_000 if average else round(1000 * watts(time.monotonic()))


def install():
  """Puts the driver that FAKE_GPUS describes, as JSON, in place of the machine's."""
  pynvml.nvmlLib = Driver(**json.loads(os.environ['FAKE_GPUS']))
  pynvml._nvmlGetFunctionPointer_cache.clear()


def environment(**description):
  """The variables that give a process such GPUs."""
  here = Path(__file__).resolve().parent
  path = os.pathsep.join([str(here / 'site'), str(here), os.environ.get('PYTHONPATH', '')])
  return {**os.environ, 'FAKE_GPUS': json.dumps(description), 'PYTHONPATH': path}
