"""Tests of reading Gaudis: habana-pyhlml's real marshalling, and a library that is made here."""

import ctypes
import warnings

import pytest

pytest.importorskip('pyhlml', reason='habana-pyhlml is not installed')
with warnings.catch_warnings():
  warnings.simplefilter('ignore', DeprecationWarning)
  from pyhlml import hlml_lib

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry.habana import Habana
from algorithmic_efficiency.telemetry.sample import Telemetry

MIB = 1024 * 1024
NOT_SUPPORTED = 3


class Library:
  """libhlml as ctypes would give it: two cards, whose module ids are not their indices."""

  modules = (6, 3)
  model = b'HL-225'

  def __init__(self):
    self.lacks = set()
    self.fails = {}

  def __getattr__(self, name):
    short = name.removeprefix('hlml_').removeprefix('device_get_')
    if not name.startswith('hlml_') or name in self.lacks or not hasattr(type(self), f'_{short}'):
      raise AttributeError(name)
    return lambda *arguments: self.fails.get(name, 0) or getattr(self, f'_{short}')(*arguments) or 0

  def _init(self):
    return 0

  def _count(self, count):
    count._obj.value = 2

  def _handle_by_index(self, index, handle):
    handle._obj.value = index + 1

  def _module_id(self, handle, module):
    module._obj.value = self.modules[handle.value - 1]

  def _name(self, handle, buffer, size):
    ctypes.memmove(buffer, self.model + b'\0', len(self.model) + 1)

  def _uuid(self, handle, buffer, size):
    ctypes.memmove(buffer, b'01P4-HL\0', 8)

  def _utilization_rates(self, handle, rates):
    rates._obj.aip = 40 * handle.value

  def _memory_info(self, handle, memory):
    memory._obj.total, memory._obj.used, memory._obj.free = (n * MIB for n in (1000, 250, 750))

  def _temperature(self, handle, sensor, celsius):
    celsius._obj.value = 30 + handle.value

  def _clock_info(self, handle, kind, *rest):
    rest[-1]._obj.value = 1650

  def _power_usage(self, handle, milliwatts):
    milliwatts._obj.value = 100_500

  def _total_energy_consumption(self, handle, millijoules):
    millijoules._obj.value = 7_000_000 * handle.value


@pytest.fixture
def library(monkeypatch, tmp_path):
  made = Library()
  monkeypatch.setattr(hlml_lib.ctypes, 'CDLL', lambda path: made)
  (tmp_path / 'libhlml.so').touch()
  made.path = tmp_path / 'libhlml.so'
  return made


def habana(library, environ=None):
  return Habana(environ=environ or {}, library=library.path)


def test_columns_bear_module_ids_and_have_their_units(library):
  source = habana(library)
  telemetry = Telemetry([source])
  assert telemetry.absent == {}
  row = telemetry.read()
  assert row['hpu.count'] == 2
  assert {name: row[f'hpu.3.{name}'] for name in (
    'compute.util', 'mem.util', 'mem.total', 'mem.used', 'mem.free', 'temp.current', 'clock.soc',
    'power.watts', 'energy.joules_since_load',
  )} == {
    'compute.util': 0.8, 'mem.util': 0.25, 'mem.total': 1000, 'mem.used': 250, 'mem.free': 750,
    'temp.current': 32.0, 'clock.soc': 1650, 'power.watts': 100.5,
    'energy.joules_since_load': 14_000.0,
  }  # fmt: skip
  assert telemetry.counters() == {'hpu.6': 7000.0, 'hpu.3': 14_000.0}
  assert [name for name in row if columns.find(name) is None] == []


def test_the_jobs_modules_are_known(library):
  source = habana(library, {'HABANA_VISIBLE_MODULES': '3'})
  source.probe()
  assert {d.name: d.in_job for d in source.devices()} == {'hpu.6': False, 'hpu.3': True}
  assert source.devices()[0].uuid == '01P4-HL'


@pytest.mark.parametrize(('model', 'derived'), [(b'HL-205', True), (b'HL-225', False)])
def test_utilisation_of_gaudi_1_is_told_to_come_from_the_power(library, model, derived):
  library.model = model
  source = habana(library)
  source.probe()
  told = [d.describe().get('compute_util_source') for d in source.devices()]
  assert told == ['derived from power' if derived else None] * 2


def test_what_a_card_or_a_version_does_not_know_leaves_only_its_column_out(library):
  source = habana(library)
  source.probe()
  whole = source.read()
  library.fails['hlml_device_get_power_usage'] = NOT_SUPPORTED
  row = source.read()
  assert set(whole) - set(row) == {'hpu.6.power.watts', 'hpu.3.power.watts'}


def test_without_the_library_nothing_is_printed(tmp_path, capsys):
  source = Habana(library=tmp_path / 'libhlml.so')
  assert source.probe() == (False, f'there is no {tmp_path / "libhlml.so"}')
  (tmp_path / 'libhlml.so').touch()  # no library either
  assert not source.probe()[0]
  assert capsys.readouterr().out == ''
