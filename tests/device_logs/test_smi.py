"""Tests of logs made by hand with nvidia-smi and hl-smi: every dialect, every kind of dirt."""

import datetime
import gzip
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from conftest import ROOT

from algorithmic_efficiency.device_logs import cells, opening
from algorithmic_efficiency.device_logs.reading import Reader
from algorithmic_efficiency.device_logs.sessions import arrange
from algorithmic_efficiency.records import columns

SAMPLES = ROOT.parent / 'shared' / 'samples' / 'smi'


def read(text, fields='', **options):
  """(diagnosis, sessions, devices) of a log; every line must have ended somewhere."""
  reader = Reader(fields)
  reader.read(textwrap.dedent(text).lstrip('\n').splitlines(keepends=True))
  assert_no_line_is_lost(reader)
  return reader.diagnosis, *arrange(reader.readings, reader.diagnosis, **options)


def assert_no_line_is_lost(reader):
  diagnosis = reader.diagnosis
  in_documents = diagnosis.passed['within an XML document']
  told = sum(diagnosis.passed.values()) + sum(diagnosis.refused.values())
  rows = len([r for r in reader.readings if not in_documents or 'model' not in r.identity])
  assert told + rows == diagnosis.num_lines
  for reason in diagnosis.refused:
    assert any(reason in why or 'damaged' in why for _, why, _ in diagnosis.examples)


def utc(*parts):
  return datetime.datetime(*parts, tzinfo=datetime.UTC).timestamp()


def values(session):
  return [(s.time, s.device, s.values) for s in session.samples]


def test_nvidia_smi_polled_with_a_header_each_time():
  diagnosis, sessions, devices = read("""
    name, pci.bus_id, timestamp, utilization.gpu [%], power.draw [W]
    NVIDIA Made-up 40GB, 00000000:0F:00.0, 2022/08/03 08:06:44.893, 0 %, 52.83 W
    name, pci.bus_id, timestamp, utilization.gpu [%], power.draw [W]
    NVIDIA Made-up 40GB, 00000000:0F:00.0, 2022/08/03 08:06:45.919, 87 %, 252.83 W
  """)
  assert values(sessions[0]) == [
    (utc(2022, 8, 3, 8, 6, 44, 893000), 'gpu.0', {'compute.util': 0, 'power.watts': 52.83}),
    (utc(2022, 8, 3, 8, 6, 45, 919000), 'gpu.0', {'compute.util': 0.87, 'power.watts': 252.83}),
  ]
  assert devices == {'gpu.0': {'model': 'NVIDIA Made-up 40GB', 'bus': '00000000:0F:00.0'}}
  assert diagnosis.passed == {'header': 2}


@pytest.mark.parametrize('absent', [
  '[N/A]', 'N/A', '[Not Supported]', '[Unknown Error]', '[GPU requires reset]', '',
  '[Insufficient Permissions]', '[Requested functionality has been deprecated]', 'nan',
])  # fmt: skip
def test_what_is_absent_has_no_value(absent):
  _, (session,), _ = read(f"""
    index, timestamp, utilization.gpu [%], power.draw [W]
    0, 2024/01/02 00:00:00.000, {absent}, 60.00 W
  """)
  assert [s.values for s in session.samples] == [{'power.watts': 60.0}]


def test_errors_in_the_middle_cost_only_their_lines():
  diagnosis, sessions, _ = read("""
    NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure.
    index, timestamp, power.draw [W]
    0, 2024/01/02 00:00:00.000, 60.00 W
    Unable to determine the device handle for GPU0000:02:00.0: Unknown Error
    1, [Unknown Error], [Unknown Error]
    2, 2024/01/02 00:00:00.010, 61.00 W
    Failed to initialize NVML: Driver/library version mismatch
    NVML library version: 580.173
    2, 2024/01/02 00:00:01.0
    2, yesterday, 61.00 W
    2, 2024/01/02 00:00:01.010, many W
    what is this
    0, 2024/01/02 00:00:0""")
  assert [s.device for s in sessions[0].samples] == ['gpu.0', 'gpu.2']
  assert diagnosis.refused == {
    'an error of the tool': 4,
    'no cell has a value': 1,
    '2 cells where the header has 3': 2,
    'its time cannot be read': 1,
    'power.draw is no number': 1,
    'not understood': 1,
  }
  assert diagnosis.examples[-1][1].endswith('; the file ends in the middle of it')


def test_a_log_without_headers_needs_its_fields():
  text = '0, 2024/01/02 00:00:00, 60.0\n1, 2024/01/02 00:00:00, 61.0\n'
  diagnosis, sessions, _ = read(text)
  assert (sessions, diagnosis.refused) == ([], {'cells before any header (--fields names them)': 2})
  _, (session,), _ = read(text, fields='index,timestamp,power.draw')
  assert [s.values for s in session.samples] == [{'power.watts': 60.0}, {'power.watts': 61.0}]


def test_units_are_those_of_the_columns():
  _, (session,), _ = read("""
    index, memory.used [MiB], clocks.sm [MHz], power.draw.average [W], clocks.mem, strange.thing
    3, 512 MiB, 1980 MHz, 12.5, 2619, P0
  """)
  assert session.samples[0].values == {
    'mem.used': 512, 'clock.sm': 1980, 'power.average_watts': 12.5, 'clock.mem': 2619,
    'smi.strange.thing': 'P0',
  }  # fmt: skip
  names = [f'gpu.3.{n}' for n in session.samples[0].values if not n.startswith('smi.')]
  assert [name for name in names if columns.find(name) is None] == []


HL = """
  timestamp, module_id, utilization.aip [%], power.draw [W], memory.used [MiB]
  Tue Oct 18 20:58:48 UTC 202, 7, 13 %, 98 W, 512 MiB
  Tue Oct 18 20:58:49 UTC 202, 0, 14 %, 101 W, 512 MiB
  timestamp, module_id, utilization.aip [%], power.draw [W], memory.used [MiB]
  Tue Oct 18 20:58:52 UTC 202, 0, 14 %, 102 W, 512 MiB
  Tue Oct 18 20:58:52 UTC 202, 7, 13 %, 99 W, 512 MiB
"""


def test_hl_smi_of_the_years_that_were_cut_short():
  diagnosis, (session,), _ = read(HL)
  assert session.samples[0].time == utc(2022, 10, 18, 20, 58, 48)
  assert session.devices == ['hpu.0', 'hpu.7']
  assert diagnosis.notes == ['4 years cut to three digits were repaired by the weekday']


@pytest.mark.parametrize(
  ('start', 'year'), [(None, 2021), ('2026-12-30', 2027), ('2021-01-01', 2021)]
)
def test_a_weekday_that_fits_two_years_needs_a_start_date(start, year):
  date = start and datetime.date.fromisoformat(start)
  diagnosis, sessions, _ = read("""
    timestamp, module_id, power.draw [W]
    Fri Jan  1 00:00:10 UTC 202, 1, 98 W
    Fri Jan  1 00:00:20 UTC 202, 1, 98 W
  """, start_date=date)  # fmt: skip
  assert sessions[0].samples[0].time == utc(year, 1, 1, 0, 0, 10)
  assert any('2021, 2027' in note for note in diagnosis.notes) == (start is None)


def test_a_year_that_is_whole_tells_its_neighbours():
  _, sessions, _ = read("""
    timestamp, module_id, power.draw [W]
    Fri Jan  1 00:00:10 UTC 202, 1, 98 W
    Fri Jan  1 00:00:20 UTC 2027, 1, 98 W
  """)
  assert [len(s.samples) for s in sessions] == [2]
  assert sessions[0].samples[0].time == utc(2027, 1, 1, 0, 0, 10)


def test_over_new_years_eve():
  _, sessions, _ = read("""
    timestamp, module_id, power.draw [W]
    Sat Dec 31 23:59:58 UTC 202, 1, 98 W
    Sun Jan  1 00:00:01 UTC 202, 1, 98 W
  """)
  assert len(sessions) == 1
  assert sessions[0].samples[1].time == utc(2023, 1, 1, 0, 0, 1)


@pytest.mark.parametrize(('zone', 'hours'), [('UTC', 0), ('EDT', -4), ('CET', 1), ('XYZ', 0)])
def test_time_zones(zone, hours):
  diagnosis, (session,), _ = read(f"""
    timestamp, index, power.draw [W], temperature.aip [C]
    Mon Jan  2 15:04:05 {zone} 2006, 3, 98 W, 36 C
  """)
  assert session.samples[0].time == utc(2006, 1, 2, 15, 4, 5) - 3600 * hours
  assert session.samples[0].device == 'hpu.3'
  assert diagnosis.notes == (['the time zone XYZ is not known and taken for UTC'] * (zone == 'XYZ'))


def test_modules_and_indices_are_told_apart_and_mapped():
  diagnosis, (session,), devices = read("""
    index, module_id
    3, 6
    1, 4
    timestamp, module_id, power.draw [W]
    Mon Jan  2 15:04:05 UTC 2006, 6, 98 W
  """)
  assert diagnosis.passed['names a device, no reading'] == 2
  assert session.devices == ['hpu.6']
  assert devices['hpu.6']['module'] == '6'


def poll(second, watts, day=1, devices=(0, 1)):
  return ''.join(
    f'{i}, 2024/01/{day:02} 00:{second // 60:02}:{second % 60:02}.000, {watts} W\n' for i in devices
  )


def test_sessions_are_split_at_gaps_and_where_time_goes_back():
  text = 'index, timestamp, power.draw [W]\n'
  text += ''.join(poll(s, 60) for s in range(0, 20, 2))
  text += ''.join(poll(s, 70) for s in range(1000, 1020, 2))
  text += ''.join(poll(s, 80, devices=(0,)) for s in range(400, 420, 2))
  _, sessions, _ = read(text)
  assert [len(s.samples) for s in sessions] == [20, 20, 10]
  assert [s.devices for s in sessions] == [['gpu.0', 'gpu.1']] * 2 + [['gpu.0']]
  assert [s.period_sec for s in sessions] == [2, 2, 2]


def test_a_device_that_is_missing_from_polls_is_told():
  text = (
    'index, timestamp, power.draw [W]\n' + poll(0, 60) + poll(1, 60, devices=(1,)) + poll(2, 60)
  )
  _, (session,), _ = read(text)
  assert session.missing() == {'gpu.0': 1}


def test_rows_written_twice_are_one():
  text = 'index, timestamp, power.draw [W]\n' + 2 * poll(0, 60) + 2 * poll(1, 61)
  diagnosis, (session,), _ = read(text)
  assert len(session.samples) == 4
  assert diagnosis.passed['the same row once more'] == 4


def test_dmon_with_and_without_its_newer_columns_and_times():
  _, (session,), _ = read("""
    # gpu   pwr gtemp mtemp    sm   mem   enc   dec  mclk  pclk
    # Idx     W     C     C     %     %     %     %   MHz   MHz
        0    43    35     -     0     0     0     0  2505  1075
        1    42    31     -    97     9     0     0  2505  1075
        0   143    35     -     -     -     0     0  2505  1075
  """, period_sec=0.5)  # fmt: skip
  assert [(s.time, s.device, s.values['power.watts']) for s in session.samples] == [
    (0, 'gpu.0', 43), (0, 'gpu.1', 42), (0.5, 'gpu.0', 143),
  ]  # fmt: skip
  assert session.samples[1].values['compute.util'] == 0.97
  assert 'compute.util' not in session.samples[2].values
  _, (session,), _ = read("""
    #Date       Time        gpu    pwr  gtemp     sm    mem    enc    dec    jpg    ofa
    #YYYYMMDD   HH:MM:SS    Idx      W      C      %      %      %      %      %      %
     20240102   10:20:30      0    630     53    100      8      0      0      0      0
  """)
  assert session.samples[0].time == utc(2024, 1, 2, 10, 20, 30)


def test_pmon_has_a_row_a_process():
  diagnosis, (session,), _ = read("""
    # gpu         pid   type     sm    mem    enc    dec    command
    # Idx           #    C/G      %      %      %      %    name
        0       21180     C     45     15      -      -    python train
        0       21181   C+G      -      -      -      -    helper
        1          -     -      -      -      -      -    -
  """)
  assert [(s.process, s.values) for s in session.samples] == [
    ({'pid': '21180', 'type': 'C', 'command': 'python train'},
     {'compute.util': 0.45, 'mem.controller.util': 0.15}),
    ({'pid': '21181', 'type': 'C+G', 'command': 'helper'}, {}),
  ]  # fmt: skip
  assert diagnosis.passed['nothing ran'] == 1


DOCUMENT = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v12.dtd">
<nvidia_smi_log>
<timestamp>Fri Aug  4 11:44:{second} 2023</timestamp>
<gpu id="00000000:01:00.0">
<product_name>NVIDIA Made-up</product_name>
<uuid>GPU-1</uuid>
<fb_memory_usage><total>1000 MiB</total><used>250 MiB</used></fb_memory_usage>
<utilization><gpu_util>50 %</gpu_util><memory_util>N/A</memory_util></utilization>
{power}
</gpu>
</nvidia_smi_log>
"""
POWERS = {
  'version 11': '<power_readings><power_draw>67.03 W</power_draw></power_readings>',
  'version 12': '<gpu_power_readings><power_draw>67.03 W</power_draw></gpu_power_readings>',
  'version 13': '<gpu_power_readings><average_power_draw>67.03 W</average_power_draw>'
  '<instant_power_draw>70 W</instant_power_draw></gpu_power_readings>',
}


@pytest.mark.parametrize('version', POWERS)
def test_concatenated_xml_of_every_version(version):
  documents = [DOCUMENT.format(second=s, power=POWERS[version]) for s in (30, 31)]
  damaged = documents[0].replace('</uuid>', '')
  text = documents[0] + damaged + documents[1] + documents[0][:200]
  reader = Reader()
  reader.read(text.splitlines(keepends=True))
  (session,), _ = arrange(reader.readings, reader.diagnosis)
  assert [s.time for s in session.samples] == [utc(2023, 8, 4, 11, 44, s) for s in (30, 31)]
  assert session.samples[0].values['power.watts'] == 67.03
  assert session.samples[0].values['compute.util'] == 0.5
  assert 'mem.controller.util' not in session.samples[0].values
  told = sum(reader.diagnosis.passed.values()) + sum(reader.diagnosis.refused.values())
  assert told == reader.diagnosis.num_lines
  assert set(reader.diagnosis.refused) == {
    'an XML document that is damaged', 'an XML document without an end',
  }  # fmt: skip


def test_tables_for_people_are_never_read():
  diagnosis, sessions, _ = read("""
    +-----------------------------------------------------------------------------+
    | NVIDIA-SMI 535.54     Driver Version: 535.54       CUDA Version: 12.2        |
    |===============================+======================+======================|
    |   1  Tesla V100-PCIE...  On   | 00008ED0:00:00.0 Off |                    0 |
    | N/A   29C    P0   ERR! / 250W |    593MiB / 16160MiB |      0%      Default |
  """)
  assert (sessions, diagnosis.refused) == ([], {})


def test_one_device_under_several_names_is_one():
  _, sessions, devices = read("""
    index, uuid, timestamp, power.draw [W]
    1, GPU-b, 2024/01/02 00:00:00.000, 60 W
    uuid, timestamp, power.draw [W]
    GPU-b, 2024/01/02 00:00:01.000, 61 W
    GPU-a, 2024/01/02 00:00:01.000, 62 W
  """)
  assert [s.device for s in sessions[0].samples][:2] != ['gpu.0', 'gpu.1']
  assert devices['gpu.1']['uuid'] == 'GPU-b'


@pytest.mark.parametrize(('cell', 'expected'), [
  ('1.5 kW', 1500), ('250 mW', 0.25), ('512Mib', 512), ('2 GiB', 2048), ('15 %', 15), ('P0', None),
  ('1e3', 1000), ('-3 C', -3), ('', None), ('0x10', None),
])  # fmt: skip
def test_numbers(cell, expected):
  assert cells.number(cell) == expected


@pytest.mark.parametrize('text', [
  'Tue Oct 33 20:58:48 UTC 202', 'Xxx Oct 18 20:58:48 UTC 2022', '2024/13/01 00:00:00',
  'Mon Feb 30 00:00:00 UTC 2023', '12', '',
])  # fmt: skip
def test_what_is_no_time(text):
  assert cells.stamp(text) is None


@pytest.mark.parametrize(('encoding', 'name'), [
  ('utf-16', 'a.txt'), ('utf-8-sig', 'a.txt'), ('utf-8', 'a.txt.gz'),
])  # fmt: skip
def test_logs_of_powershell_and_gzip(tmp_path, encoding, name):
  data = ('index, timestamp, power.draw [W]\r\n' + poll(0, 60)).encode(encoding)
  (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith('gz') else data)
  reader = Reader()
  with opening.text_of(tmp_path / name) as file:
    reader.read(file)
  assert len(reader.readings) == 2
  assert reader.diagnosis.refused == {}


def test_dmon_with_commas():
  _, (session,), _ = read("""
    # gpu, pwr, gtemp, sm
    # Idx, W, C, %
    0, 630, 53, 100
  """)
  assert session.samples[0].values['power.watts'] == 630


# The command.


def command(*arguments, code=0):
  done = subprocess.run(
    [sys.executable, ROOT / 'scripts' / 'import_smi.py', *map(str, arguments)],
    capture_output=True, text=True, timeout=60,
  )  # fmt: skip
  assert done.returncode == code, done.stderr + done.stdout
  return done


def test_the_command_writes_the_samplers_table_and_a_diagnosis(tmp_path):
  (tmp_path / 'hl.txt').write_text(textwrap.dedent(HL) + 'garbage\n')
  done = command(tmp_path / 'hl.txt')
  folder = tmp_path / 'hl_imported'
  begin, *lines, end = [
    json.loads(line) for line in (folder / 'session_1/telemetry.jsonl').read_text().splitlines()
  ]
  assert (begin['kind'], end['kind'], end['samples']) == ('begin', 'end', 4)
  assert [d['name'] for d in begin['devices']] == ['hpu.0', 'hpu.7']
  assert [line['monotonic_sec'] for line in lines] == [0, 1, 4]
  assert lines[2]['hpu.7.power.watts'] == 99
  table = (folder / 'session_1/samples.csv').read_text().splitlines()
  assert table[0] == 'time,monotonic_sec,device,compute.util,power.watts,mem.used'
  assert len(table) == 5
  diagnosis = json.loads((folder / 'diagnosis.json').read_text())
  assert diagnosis['refused'] == {'not understood': 1}
  assert diagnosis['examples'] == [[8, 'not understood', 'garbage']]
  assert 'hpu.0 hpu.7' in done.stdout


def test_the_command_tells_what_is_wrong_in_a_line(tmp_path):
  (tmp_path / 'empty.txt').write_text('nothing here\n')
  command(tmp_path / 'empty.txt', code=1)
  for arguments in (['none.txt'], [tmp_path / 'empty.txt', '--fields=a']):
    assert command(*arguments, code=2).stderr.splitlines()[-1].startswith('import_smi')


@pytest.mark.skipif(not SAMPLES.is_dir(), reason='the real logs are not here')
@pytest.mark.parametrize('name', [p.name for p in sorted(SAMPLES.glob('*'))] or ['none'])
def test_no_line_of_a_real_log_is_lost(name):
  reader = Reader()
  with (SAMPLES / name).open(encoding='utf-8', errors='replace') as file:
    reader.read(file)
  assert reader.readings
  if Path(name).suffix != '.xml':
    rows = {r.line for r in reader.readings}
    told = sum(reader.diagnosis.passed.values()) + sum(reader.diagnosis.refused.values())
    assert told + len(rows) == reader.diagnosis.num_lines
