"""Tests of processors' energy, on a made-up /sys/class/powercap."""

import itertools

import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry.rapl import Rapl

RANGE = 262_143_328_850


def domain(root, folder, name, energy):
  (root / folder).mkdir()
  (root / folder / 'name').write_text(f'{name}\n')
  (root / folder / 'max_energy_range_uj').write_text(f'{RANGE}\n')
  (root / folder / 'energy_uj').write_text(f'{energy}\n')


@pytest.fixture
def root(tmp_path):
  domain(tmp_path, 'intel-rapl:0', 'package-0', 1_000_000)
  domain(tmp_path, 'intel-rapl:0:0', 'core', 600_000)
  domain(tmp_path, 'intel-rapl:0:1', 'dram', 200_000)
  domain(tmp_path, 'intel-rapl:1', 'package-1', 5_000_000)
  domain(tmp_path, 'intel-rapl:2', 'psys', 9_000_000)
  return tmp_path


def test_packages_and_memory_are_devices_and_parts_of_packages_are_not(root):
  rapl = Rapl(root)
  assert rapl.probe()[0]
  assert [device.name for device in rapl.devices()] == [
    'cpu.package.0', 'cpu.dram.0', 'cpu.package.1',
  ]  # fmt: skip
  assert rapl.counters() == {'cpu.package.0': 1.0, 'cpu.dram.0': 0.2, 'cpu.package.1': 5.0}
  assert [name for name in rapl.read() if columns.find(name) is None] == []


def test_a_counter_that_wraps_around_goes_on(root):
  rapl = Rapl(root)
  rapl.probe()
  file = root / 'intel-rapl:0' / 'energy_uj'
  seen = []
  for value in (RANGE - 2_000_000, 1_000_000, RANGE - 1_000_000, 3_000_000):
    file.write_text(str(value))
    seen.append(rapl.counters()['cpu.package.0'])
  steps = [b - a for a, b in itertools.pairwise(seen)]
  assert steps == pytest.approx([3.0, RANGE / 1e6 - 2, 4.0])


def test_files_that_only_root_may_read_are_told(tmp_path):
  domain(tmp_path, 'intel-rapl:0', 'package-0', 1)
  (tmp_path / 'intel-rapl:0' / 'energy_uj').unlink()
  (tmp_path / 'intel-rapl:0' / 'energy_uj').mkdir()  # as unreadable for root as for anybody
  available, reason = Rapl(tmp_path).probe()
  assert not available
  assert 'energy_uj' in reason


def test_virtual_machines_have_none(tmp_path):
  assert Rapl(tmp_path / 'none').probe() == (False, f'there is no {tmp_path / "none"}')


def test_a_package_that_goes_offline_raises_nothing(root):
  rapl = Rapl(root)
  rapl.probe()
  (root / 'intel-rapl:1' / 'energy_uj').unlink()
  assert set(rapl.counters()) == {'cpu.package.0', 'cpu.dram.0'}
