"""The one list of columns: who a name belongs to, their order, and the table made of it."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.columns import METADATA, METRICS, SOURCE


@pytest.mark.parametrize(
  ('name', 'column'),
  [
    ('workload', 'workload'),
    ('loss', 'loss'),
    ('train/loss', 'train/<metric>'),
    ('test/bleu', 'test/<metric>'),
    ('validation/num_examples', 'validation/num_examples'),  # exact before a pattern
    ('hparam.learning_rate', 'hparam.<name>'),
    ('hparam.a.b', 'hparam.<name>'),
    ('workload.train_mean', 'workload.<property>'),
    ('temp.coretemp.current', 'temp.<chip>.current'),
    ('gpu.0.mem.used', 'gpu.<i>.mem.used'),
    ('gpu.11.compute.util', 'gpu.<i>.compute.util'),
    ('gpu.avg.temp.current', 'gpu.<i>.temp.current'),
    ('gpu.count', 'gpu.count'),
  ],
)
def test_find(name, column):
  assert columns.find(name).name == column


@pytest.mark.parametrize(
  'name',
  [
    '', 'note', 'Loss', 'loss ', 'xloss', 'lossy', 'train/', 'hparam.', 'train', 'gpu..mem.used',
    'gpu.0.mem.usedx', 'memxtotal', 'cpu', '<key>', 'git_branch',
  ],
)  # fmt: skip
def test_a_name_that_is_nobodys(name):
  assert columns.find(name) is None


def test_an_exact_name_comes_before_a_pattern_wherever_it_is_listed():
  for among in (METRICS, METRICS[::-1]):
    assert columns.find('train/num_examples', among).name == 'train/num_examples'
    assert columns.find('train/loss', among).name == 'train/<metric>'


def test_every_column_finds_itself():
  for column in METRICS:
    if column is not columns.EXTRA:
      assert columns.find(column.name) is column
      assert columns.find(column.name.replace('<', '').replace('>', '')) is column


def test_extra_metadata_may_not_take_a_name_of_either_file():
  for column in (*METRICS, *METADATA, SOURCE):
    if column is not columns.EXTRA:
      assert columns.is_taken(column.name)
  for name in ('gpu.7.power.watts', 'hparam.x', 'workload.x', 'validation/x', 'source'):
    assert columns.is_taken(name)
  for name in ('note', 'host', 'gpu', 'x.y', 'Workload', 'trial', '<key>'):
    assert not columns.is_taken(name)


def test_names_are_listed_once():
  for listed in (METRICS, METADATA):
    names = [column.name for column in listed]
    assert len(set(names)) == len(names)
    assert all(column.meaning and '\n' not in column.meaning for column in listed)
    assert not any('|' in f'{column.name}{column.unit}{column.meaning}' for column in listed)


CONTRACT_ORDER = (
  'workload', 'framework', 'run_idx', 'accumulated_submission_time', 'global_step', 'epoch',
  'accuracy', 'loss', 'train/loss', 'validation/loss', 'test/loss', 'batch_size',
  'hparam.learning_rate', 'workload.target_value', 'steps_per_epoch', 'global_start_time',
  'goal_reached', 'note', 'cpu.util.avg_percent_since_last', 'cpu.freq.current',
  'temp.coretemp.current', 'mem.total', 'mem.available', 'mem.used', 'mem.percent_used',
  'mem.read_bytes_since_boot', 'mem.write_bytes_since_boot', 'net.bytes_sent_since_boot',
  'net.bytes_recv_since_boot', 'gpu.count', 'gpu.0.compute.util', 'gpu.0.mem.util',
  'gpu.0.mem.total', 'gpu.0.mem.used', 'gpu.0.mem.free', 'gpu.0.temp.current',
)  # fmt: skip


def test_columns_of_the_contract_come_in_its_order():
  generator = random.Random(0)
  for _ in range(20):
    names = generator.sample(CONTRACT_ORDER, generator.randint(1, len(CONTRACT_ORDER)))
    expected = tuple(name for name in CONTRACT_ORDER if name in names)
    assert columns.in_order(tuple(names)) == expected


def test_names_of_one_pattern_keep_their_order():
  assert columns.in_order(('b', 'hparam.z', 'a', 'hparam.a', 'loss')) == (
    'loss', 'hparam.z', 'hparam.a', 'b', 'a',
  )  # fmt: skip


@pytest.mark.parametrize(
  ('value', 'may'),
  [
    (1, True), (1.5, True), ('x', True), (False, True), ((1, 2.5), True), ([[1], 'a'], True),
    ((), True), (None, False), ({}, False), ((1, None), False), (object(), False),
    (print, False), (b'x', False),
  ],
)  # fmt: skip
def test_what_may_stand_in_a_record(value, may):
  assert columns.primitive(value) is may
  if may:
    json.dumps(value)


def test_the_table_lists_every_column_with_its_unit():
  lines = columns.table().splitlines()
  for column in (*METRICS, *METADATA):
    assert f'| `{column.name}` | {column.unit} | {column.meaning} |' in lines


def test_columns_md_is_up_to_date():
  path = Path(columns.__file__).with_name('COLUMNS.md')
  command = [sys.executable, '-m', columns.__name__]
  printed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
  assert path.read_text(encoding='utf-8') == columns.table(), f'run {" ".join(command)} > {path}'
  assert printed.decode() == columns.table()
