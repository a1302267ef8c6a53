"""Tests of reading the host: against /proc, and with a psutil that fails in the ways it can."""

import collections
import logging
import time
from pathlib import Path

import psutil
import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry import host, sample

CpuTimes = collections.namedtuple('CpuTimes', 'user nice system idle iowait guest')
CPU = 'cpu.util.avg_percent_since_last'


def reader(name):
  return {part.NAME: part for part in host.Host.parts()}[name]


def proc(name):
  path = Path('/proc') / name
  if not path.exists():
    pytest.skip(f'there is no {path} here')
  return path.read_text()


def proc_times():
  """(all, idle) seconds of all processors since boot, guest time not counted twice."""
  ticks = [int(word) for word in proc('stat').split('\n', 1)[0].split()[1:9]]
  return sum(ticks), ticks[3] + ticks[4]


def _no_such_folder(path):
  raise FileNotFoundError(path)


def test_memory_is_in_bytes_and_agrees_with_the_kernel():
  columns_read = reader('memory').read()
  kibibytes = dict(line.split(':', 1) for line in proc('meminfo').splitlines())
  total = int(kibibytes['MemTotal'].split()[0]) * 1024
  available = int(kibibytes['MemAvailable'].split()[0]) * 1024
  assert columns_read['mem.total'] == total
  assert columns_read['mem.available'] == pytest.approx(available, abs=0.1 * total)
  assert 0 < columns_read['mem.used'] < total
  share = 100 * (1 - columns_read['mem.available'] / total)
  assert columns_read['mem.percent_used'] == pytest.approx(share, abs=0.1)


def test_network_bytes_are_the_sum_over_interfaces():
  def sums():
    lines = [line.split(':', 1)[1].split() for line in proc('net/dev').splitlines()[2:]]
    return sum(int(words[0]) for words in lines), sum(int(words[8]) for words in lines)

  before, read, after = sums(), reader('network').read(), sums()
  assert before[0] <= read['net.bytes_recv_since_boot'] <= after[0]
  assert before[1] <= read['net.bytes_sent_since_boot'] <= after[1]


def test_every_column_is_documented():
  read = sample.Telemetry([*host.Host.parts()]).read()
  assert {'mem.total', CPU} <= set(read)
  assert [name for name in read if columns.find(name) is None] == []
  assert all(isinstance(value, int | float) for value in read.values())


def test_the_clock_is_in_megahertz(monkeypatch):
  frequency = collections.namedtuple('scpufreq', 'current min max')(2599.998, 0.0, 0.0)
  monkeypatch.setattr(psutil, 'cpu_freq', lambda: frequency)
  assert reader('cpu clock').read() == {'cpu.freq.current': 2599.998}


def test_disk_bytes_are_those_of_psutil():
  def sums():
    disks = psutil.disk_io_counters(nowrap=False)
    if disks is None:
      pytest.skip('this machine has no disk statistics')
    return disks.read_bytes, disks.write_bytes

  before, read, after = sums(), reader('disks').read(), sums()
  assert before[0] <= read['mem.read_bytes_since_boot'] <= after[0]
  assert before[1] <= read['mem.write_bytes_since_boot'] <= after[1]


def test_disks_are_read_by_psutil_where_proc_has_none(monkeypatch):
  disks = collections.namedtuple('sdiskio', 'read_bytes write_bytes')(1234, 567)
  monkeypatch.setattr(psutil, 'disk_io_counters', lambda **_: disks)
  monkeypatch.setattr(host.os, 'listdir', _no_such_folder)
  expected = {'mem.read_bytes_since_boot': 1234, 'mem.write_bytes_since_boot': 567}
  assert reader('disks').read() == expected


def test_a_chips_temperature_is_that_of_its_hottest_sensor(monkeypatch):
  sensor = collections.namedtuple('shwtemp', 'label current high critical')
  chips = {
    'coretemp': [sensor('Core 0', 41.0, 100.0, 100.0), sensor('Core 1', 47.5, 100.0, 100.0)],
    'nvme': [sensor('', 33.0, None, None)],
    'empty': [],
  }
  monkeypatch.setattr(psutil, 'sensors_temperatures', lambda: chips, raising=False)
  assert reader('temperatures').read() == {'temp.coretemp.current': 47.5, 'temp.nvme.current': 33.0}


FUNCTIONS = {
  'cpu clock': 'cpu_freq',
  'temperatures': 'sensors_temperatures',
  'memory': 'virtual_memory',
  'disks': 'disk_io_counters',
  'network': 'net_io_counters',
}
ERRORS = [
  FileNotFoundError('gone'),
  NotImplementedError(),
  AttributeError(),
  psutil.AccessDenied(1),
]


def raising(error):
  def fail(*_, **__):
    raise error

  return fail


@pytest.mark.parametrize('error', ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize('name', FUNCTIONS)
def test_a_reader_that_raises_leaves_its_columns_out_and_no_others(name, error, monkeypatch):
  parts = [reader(name), reader('cpu utilisation')]
  monkeypatch.setattr(psutil, FUNCTIONS[name], raising(error), raising=False)
  monkeypatch.setattr(host.os, 'listdir', _no_such_folder)  # disks are psutil's only then
  available, reason = parts[0].probe()
  assert (available, reason[:7]) == (False, 'psutil:')
  assert set(sample.Telemetry(parts).read()) == {CPU}


@pytest.mark.parametrize('name', ['cpu clock', 'disks', 'network'])
def test_a_reader_that_gets_nothing_leaves_its_columns_out(name, monkeypatch):
  parts = [reader(name), reader('cpu utilisation')]
  monkeypatch.setattr(psutil, FUNCTIONS[name], lambda **_: None)
  monkeypatch.setattr(host.os, 'listdir', _no_such_folder)
  assert parts[0].probe() == (False, 'psutil reports nothing')
  assert set(sample.Telemetry(parts).read()) == {CPU}


def test_a_sensor_that_vanishes_leaves_only_its_rows_without_it(monkeypatch):
  telemetry = sample.Telemetry([reader('memory'), reader('cpu utilisation')])
  assert set(telemetry.read()) > {CPU}
  with monkeypatch.context() as patch:
    patch.setattr(psutil, 'virtual_memory', raising(OSError('gone')))
    assert set(telemetry.read()) == {CPU}
  assert 'mem.total' in telemetry.read()


class Slow:
  """A source that takes the times it is given, one a reading, on a clock of its own."""

  NAME = 'slow sensor'

  def __init__(self, monkeypatch, seconds):
    self._now = 100.0
    self._seconds = iter(seconds)
    monkeypatch.setattr(time, 'perf_counter', lambda: self._now)

  def probe(self):
    return True, ''

  def read(self):
    self._now += next(self._seconds)
    return {'slow': 1}


def test_a_source_is_dropped_after_two_slow_readings_with_one_warning(monkeypatch, caplog):
  slow = sample.BUDGET_SEC * 1.1
  telemetry = sample.Telemetry([Slow(monkeypatch, [slow, slow]), reader('memory')])
  with caplog.at_level(logging.WARNING):
    rows = [telemetry.read() for _ in range(4)]
  assert ['slow' in row for row in rows] == [True, True, False, False]
  assert all('mem.total' in row for row in rows)
  assert [record.levelname for record in caplog.records] == ['WARNING']
  assert 'slow sensor' in caplog.text


def test_a_source_that_is_slow_now_and_then_is_kept(monkeypatch, caplog):
  slow, quick = sample.BUDGET_SEC * 1.1, sample.BUDGET_SEC * 0.9
  telemetry = sample.Telemetry([Slow(monkeypatch, [slow, quick] * 4)])
  assert all('slow' in telemetry.read() for _ in range(8))
  assert caplog.records == []


def scripted(monkeypatch, *times):
  """A CPU reader whose psutil gives these times, the first as its baseline."""
  given = iter([CpuTimes(*each) for each in times])
  monkeypatch.setattr(psutil, 'cpu_times', lambda: next(given))
  return host.CpuUtilisation()


@pytest.mark.parametrize(
  ('after', 'percent'),
  [
    ((13, 1, 2, 24, 0, 0), 60.0),  # 3 + 1 + 2 busy and 4 idle
    ((10, 0, 0, 30, 10, 0), 0.0),  # waiting for a disk is idle
    ((20, 0, 0, 30, 0, 10), 50.0),  # guest time is within user time
    ((10, 0, 0, 20, 0, 0), 0.0),  # no time has passed
    ((8, 0, 0, 30, 0, 0), 0.0),  # a counter that went back, as some virtual machines' do
  ],
)
def test_utilisation_is_the_busy_share_of_the_time_since_the_last_reading(
  after, percent, monkeypatch
):
  start = (10, 0, 0, 20, 0, 0)
  read = scripted(monkeypatch, start, tuple(map(float, after)))
  assert read() == {CPU: percent}


def test_each_reading_starts_anew(monkeypatch):
  read = scripted(monkeypatch, *[(10 * i, 0, 0, 10 * i**2, 0, 0) for i in range(4)])
  assert [read()[CPU] for _ in range(3)] == [50.0, 25.0, pytest.approx(100 / 6, abs=0.01)]


def burn(seconds):
  end = time.perf_counter() + seconds
  while time.perf_counter() < end:
    pass


def test_utilisation_is_that_of_the_kernel_whoever_else_asks_psutil():
  read = host.CpuUtilisation()
  started, own, before = time.perf_counter(), time.process_time(), proc_times()
  for _ in range(4):
    burn(0.1)
    psutil.cpu_percent()
    time.sleep(0.05)
  measured = read()[CPU]
  after, own, wall = proc_times(), time.process_time() - own, time.perf_counter() - started
  total, idle = after[0] - before[0], after[1] - before[1]
  assert measured == pytest.approx(100 * (1 - idle / total), abs=6)
  assert 50 * own / (wall * psutil.cpu_count()) < measured <= 100
