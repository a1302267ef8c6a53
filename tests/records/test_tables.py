"""Checks that tables are joined as pandas would join them, and that broken ones are told of."""

import csv
import io
import itertools
import json
import logging
import math
import os
import random
import time
from pathlib import Path

import pandas
import pytest

from algorithmic_efficiency import logging_utils
from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.records import tables


def write_table(folder: Path, name: str, content: str | bytes) -> Path:
  path = folder / name / 'metrics.csv'
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content.encode() if isinstance(content, str) else content)
  return path


def join_to_bytes(folder: Path) -> bytes:
  return tables.concatenate_csvs(folder).read_bytes()


def join_to_cells(folder: Path) -> list[list[str]]:
  return list(csv.reader(io.StringIO(join_to_bytes(folder).decode(), newline='')))


def read_with_pandas(*paths: Path) -> pandas.DataFrame:
  """Every cell as it is written, so that nothing is hidden by how numbers are read."""
  frames = [pandas.read_csv(path, dtype=str, keep_default_na=False) for path in paths]
  return pandas.concat(frames, ignore_index=True).fillna('')


# What random tables are made of: plain cells, and with these the ones that need quotes.
PLAIN_CELLS = ['0.25', '-1e-7', '', 'TRUE', 'FALSE', '12', 'ü', ' a b ', 'nan', "it's"]
QUOTED_CELLS = ['a,b', 'say "hi"', 'two\nlines', '"', 'x\r\ny', ',', '\n']


def write_random_table(generator: random.Random, folder: Path, name: str) -> Path:
  names = ['workload', 'loss', 'step', 'a b', 'gpu.0.power', 'note']
  width = generator.randint(2, len(names))
  header = names[:width] if generator.random() < 0.5 else generator.sample(names, width)
  quoted = generator.random() < 0.4
  cells = PLAIN_CELLS + QUOTED_CELLS if quoted else PLAIN_CELLS
  newline = generator.choice(['\n', '\r\n'])
  text = io.StringIO(newline='')
  writer = csv.writer(
    text,
    lineterminator=newline,
    quoting=csv.QUOTE_ALL if quoted and generator.random() < 0.3 else csv.QUOTE_MINIMAL,
  )
  writer.writerow(header)
  # A row of empty cells only would be an empty line to nobody: every table has two columns.
  writer.writerows(
    [generator.choice(cells) for _ in header] for _ in range(generator.randint(0, 9))
  )
  content = text.getvalue().encode()
  if generator.random() < 0.3:
    content = b'\xef\xbb\xbf' + content
  if generator.random() < 0.3:
    content = content.removesuffix(newline.encode())
  return write_table(folder, name, content)


@pytest.mark.parametrize('chunk_bytes', [1, 50, 1 << 20])
@pytest.mark.parametrize('seed', range(20))
def test_joins_mixed_tables_as_pandas_does(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, chunk_bytes: int
) -> None:
  monkeypatch.setattr(tables, '_CHUNK_BYTES', chunk_bytes)
  generator = random.Random(seed)
  count = generator.randint(1, 8)
  paths = [write_random_table(generator, tmp_path, f'run_{i}') for i in range(1, count + 1)]
  joined = read_with_pandas(tables.concatenate_csvs(tmp_path))
  expected = read_with_pandas(*paths)
  sources = [
    path.relative_to(tmp_path).as_posix()
    for path in paths
    for _ in range(len(read_with_pandas(path)))
  ]
  assert list(joined['source']) == sources
  assert joined.columns[-1] == 'source'
  pandas.testing.assert_frame_equal(joined.drop(columns='source'), expected)


def test_numbers_and_truth_values_read_back_as_pandas_reads_them(tmp_path: Path) -> None:
  one = write_table(tmp_path, 'run_1', 'run_idx,loss,goal_reached\n1,0.1,FALSE\n1,1e-300,TRUE\n')
  two = write_table(tmp_path, 'run_2', 'loss,run_idx,mem.total\n2.5,2,64\n,2,\n')
  expected = pandas.concat([pandas.read_csv(one), pandas.read_csv(two)], ignore_index=True)
  joined = pandas.read_csv(logging_utils.concatenate_csvs(str(tmp_path)))
  pandas.testing.assert_frame_equal(joined.drop(columns='source'), expected, check_exact=True)


def test_the_joined_file_byte_for_byte(tmp_path: Path) -> None:
  write_table(tmp_path, 'w_jax/run_1', 'a,b\n1,2\n3,4\n')
  write_table(tmp_path, 'w_jax/run_2', 'a,b,c\n5,6,7\n')
  write_table(tmp_path, 'w_jax/run_10', 'd,a\n8,9\n')
  assert tables.concatenate_csvs(tmp_path) == tmp_path / 'all_metrics.csv'
  assert (tmp_path / 'all_metrics.csv').read_bytes() == (
    b'a,b,c,d,source\n'
    b'1,2,,,w_jax/run_1/metrics.csv\n'
    b'3,4,,,w_jax/run_1/metrics.csv\n'
    b'5,6,7,,w_jax/run_2/metrics.csv\n'
    b'9,,,8,w_jax/run_10/metrics.csv\n'
  )


def test_files_come_in_natural_order_with_equal_numbers_settled(tmp_path: Path) -> None:
  names = ['3', 'a2/run_8', 'a2/run_09', 'a2/run_9', 'a2/run_010', 'a2/run_10', 'a10/run_2', 'x']
  for name in random.Random(1).sample(names, len(names)):
    write_table(tmp_path, name, 'a,b\n1,2\n')
  write_table(tmp_path, '.', 'a,b\n1,2\n')
  sources = [row[-1] for row in join_to_cells(tmp_path)[1:]]
  assert sources == [
    *(f'{name}/metrics.csv' for name in names[:-1]),
    'metrics.csv',
    'x/metrics.csv',
  ]


def test_joining_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
  for name in ('run_1', 'run_2'):
    write_table(tmp_path, name, 'a,b\n1,"2,3"\n')
  first = join_to_bytes(tmp_path)
  # The joined files of folders below are not read either.
  (tmp_path / 'run_1' / 'all_metrics.csv').write_bytes(first)
  assert join_to_bytes(tmp_path) == first
  assert sorted(path.name for path in tmp_path.iterdir()) == ['all_metrics.csv', 'run_1', 'run_2']


def test_a_reader_of_the_old_joined_file_keeps_it_whole(tmp_path: Path) -> None:
  write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  before = join_to_bytes(tmp_path)
  with (tmp_path / 'all_metrics.csv').open('rb') as reader:
    write_table(tmp_path, 'run_2', 'a,b\n3,4\n')
    assert join_to_bytes(tmp_path) != before
    assert reader.read() == before


def test_a_header_that_changes_meanwhile_is_told(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  path = write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  # The log tells of the headers after they are read and before the rows are.
  monkeypatch.setattr(tables, 'PROGRESS_SECONDS', 0.0)
  caplog.set_level(logging.INFO)
  monkeypatch.setattr(caplog.handler, 'emit', lambda _: path.write_text('b,a\n2,1\n'))
  with pytest.raises(UsageError, match='changed while'):
    tables.concatenate_csvs(tmp_path)


def test_a_failed_join_keeps_the_joined_file_of_before(tmp_path: Path) -> None:
  write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  before = join_to_bytes(tmp_path)
  write_table(tmp_path, 'run_2', 'a,b\n1\n2,3\n')
  with pytest.raises(UsageError):
    tables.concatenate_csvs(tmp_path)
  assert (tmp_path / 'all_metrics.csv').read_bytes() == before
  assert sorted(path.name for path in tmp_path.iterdir()) == ['all_metrics.csv', 'run_1', 'run_2']


@pytest.mark.parametrize(
  ('header', 'expected'),
  [
    ('source,a', 'source_file'),
    ('source,source_file', 'source_file_2'),
    ('source_file,source_file_2,source', 'source_file_3'),
  ],
)
def test_a_column_called_source_is_kept(tmp_path: Path, header: str, expected: str) -> None:
  values = ','.join('xyz'[: header.count(',') + 1])
  write_table(tmp_path, 'run_1', f'{header}\n{values}\n')
  assert join_to_bytes(tmp_path).decode() == (f'{header},{expected}\n{values},run_1/metrics.csv\n')


@pytest.mark.parametrize('header', ['a,b', 'b,a', 'a,"b"'])
@pytest.mark.parametrize(
  'body',
  ['1,2\n3,4\n', '1,2\n3,4', '1,2\r\n3,4\r\n', '1,2\r\n3,4', '\n1,2\n\n3,4\n\n', '"1",2\n3,"4"'],
)
@pytest.mark.parametrize('mark', ['', '\ufeff'])
def test_line_ends_marks_blank_lines_and_quotes_leave_no_trace(
  tmp_path: Path, header: str, body: str, mark: str
) -> None:
  write_table(tmp_path, 'run_0', 'a,b\n')
  newline = '\r\n' if '\r\n' in body else '\n'
  write_table(tmp_path, 'run_1', mark + header + newline + body)
  rows = [['2', '1'], ['4', '3']] if header == 'b,a' else [['1', '2'], ['3', '4']]
  assert join_to_cells(tmp_path) == [
    ['a', 'b', 'source'],
    *([*row, 'run_1/metrics.csv'] for row in rows),
  ]
  assert b'\r' not in join_to_bytes(tmp_path)


# The ways of a row through the code: copied as bytes, put in another order, and with quotes.
TORN_TABLES = {
  'copied': ('a,b,c\n1,2,3\n', '4,5'),
  'copied, no comma': ('a,b,c\n1,2,3\n', '4'),
  'ordered': ('c,b,a\n1,2,3\n', '4,5'),
  'quoted': ('a,b,c\n"1",2,3\n', '4,"5"'),
  'in a quote': ('a,b,c\n1,2,3\n', '4,"5,6'),
  'in a quoted line': ('a,b,c\n1,2,3\n', '4,5,"6\n7'),
}


@pytest.mark.parametrize('way', TORN_TABLES)
def test_a_torn_last_row_is_left_out_with_one_warning(
  tmp_path: Path, caplog: pytest.LogCaptureFixture, way: str
) -> None:
  whole, torn = TORN_TABLES[way]
  write_table(tmp_path, 'run_1', 'a,b,c\n0,0,0\n')
  path = write_table(tmp_path, 'run_2', whole)
  before = join_to_cells(tmp_path)
  assert not caplog.records
  path.write_text(whole + torn)
  assert join_to_cells(tmp_path) == before
  assert [record.levelno for record in caplog.records] == [logging.WARNING]
  assert 'line 3' in caplog.text
  assert str(path) in caplog.text


@pytest.mark.parametrize(
  ('content', 'line', 'fault'),
  [
    ('a,b,c\n1,2,3\n4,5\n6,7,8\n', 3, '2 fields'),
    ('a,b,c\n1,2,3\n4,5\n', 3, '2 fields'),
    ('a,b,c\n1,2,3\n\n\n4\n6,7,8\n', 5, '1 field '),
    ('a,b,c\n1,2,3,4\n5,6\n', 2, '4 fields'),
    ('a,b,c\n1,2,3\n4,5,6,7', 3, '4 fields'),
    ('c,b,a\r\n1,2,3\r\n4,5,6,7\r\n', 3, '4 fields'),
    ('a,b,c\n1,"2\n2",3\n4,5\n6,7,8\n', 4, '2 fields'),
    ('a,b,c\n1,"2",3\n4,"5",6,7', 3, '4 fields'),
    ('a,"b\nb",c\n1,2,3\n4,5,6,7\n', 4, '4 fields'),
    ('a,b,c\n1,2,3\n4,"5,6\n7,8,9\n', 3, 'not valid CSV'),
    ('a,b,c\n1,2,3\n4,"5"6,7\n8,9,10\n', 3, 'not valid CSV'),
    ('a,"b\n1,2,3\n', 2, 'not valid CSV'),
  ],
)
@pytest.mark.parametrize('chunk_bytes', [1, 1 << 20])
def test_a_broken_row_is_named_by_file_and_line(
  tmp_path: Path,
  monkeypatch: pytest.MonkeyPatch,
  content: str,
  line: int,
  fault: str,
  chunk_bytes: int,
) -> None:
  monkeypatch.setattr(tables, '_CHUNK_BYTES', chunk_bytes)
  path = write_table(tmp_path, 'run_2', content)
  with pytest.raises(UsageError) as caught:
    tables.concatenate_csvs(tmp_path)
  assert f'Line {line} of {str(path)!r}' in str(caught.value)
  assert fault in str(caught.value)


def test_empty_files_add_nothing_and_a_header_alone_adds_its_columns(tmp_path: Path) -> None:
  write_table(tmp_path, 'run_1', '')
  assert join_to_bytes(tmp_path) == b'source\n'
  for index, content in enumerate(['', '\n\r\n', '\ufeff', 'a,b\n', 'c,a', 'b,a\n1,2\n'], start=1):
    write_table(tmp_path, f'run_{index}', content)
  assert join_to_bytes(tmp_path) == b'a,b,c,source\n2,1,,run_6/metrics.csv\n'


def test_a_table_of_one_column_keeps_its_empty_cells_and_loses_its_empty_lines(
  tmp_path: Path,
) -> None:
  write_table(tmp_path, 'run_1', 'a\n1\n\n""\n2')
  assert [row[0] for row in join_to_cells(tmp_path)] == ['a', '1', '', '2']
  write_table(tmp_path, 'run_1', 'a\n1\n\n2\n')
  assert [row[0] for row in join_to_cells(tmp_path)] == ['a', '1', '2']


@pytest.mark.parametrize('name', ['a,b', 'say "hi"', 'two\nlines', 'ünï', "it's; fine"])
@pytest.mark.parametrize('content', ['x,y\n1,2\n', 'y,x\n2,1\n', 'x,y\n"1",2\n'])
def test_source_paths_are_quoted_where_they_must_be(
  tmp_path: Path, name: str, content: str
) -> None:
  write_table(tmp_path, '0', 'x,y\n')
  write_table(tmp_path, name, content)
  assert join_to_cells(tmp_path)[1:] == [['1', '2', f'{name}/metrics.csv']]


@pytest.mark.parametrize('header', ['a,b', 'b,a'])
@pytest.mark.parametrize(
  ('row', 'cells'),
  [
    ('5" disk,6" disk', ['5" disk', '6" disk']),
    ('5",6"', ['5"', '6"']),
    ('"5""",""""', ['5"', '"']),
    ('"",""', ['', '']),
    ('"5,6",7', ['5,6', '7']),
    ('"5""\n6"",\n",7', ['5"\n6",\n', '7']),
    ('"5\r\n6","\r"', ['5\r\n6', '\r']),
  ],
)
def test_quotes_mean_what_the_csv_format_says(
  tmp_path: Path, header: str, row: str, cells: list[str]
) -> None:
  write_table(tmp_path, '0', 'a,b\n')
  write_table(tmp_path, '1', f'{header}\n1,2\n{row}\n3,4\n')
  joined = [line[:2] if header == 'a,b' else line[1::-1] for line in join_to_cells(tmp_path)[1:]]
  assert joined == [['1', '2'], cells, ['3', '4']]


def test_bytes_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
  write_table(tmp_path, '1', b'a\xff,b\n\xfe,2\n')
  write_table(tmp_path, '2', b'a\xff,b\n"\xfe,",2\n')
  assert join_to_bytes(tmp_path) == (
    b'a\xff,b,source\n\xfe,2,1/metrics.csv\n"\xfe,",2,2/metrics.csv\n'
  )


@pytest.mark.parametrize('header', ['a,b,a', 'a,b,"a"', ',x,'])
def test_a_column_name_that_stands_twice_is_refused(tmp_path: Path, header: str) -> None:
  path = write_table(tmp_path, 'run_1', f'{header}\n1,2,3\n')
  with pytest.raises(UsageError, match='more than one column') as caught:
    tables.concatenate_csvs(tmp_path)
  assert repr(str(path)) in str(caught.value)
  assert repr(header[:1].strip(',')) in str(caught.value)


def test_a_folder_without_tables_says_what_was_looked_for(tmp_path: Path) -> None:
  (tmp_path / 'my_metrics.csv').write_text('a\n1\n')
  (tmp_path / 'all_metrics.csv').write_text('a\n1\n')
  with pytest.raises(UsageError, match=r"No file called 'metrics\.csv'") as caught:
    tables.concatenate_csvs(tmp_path)
  assert repr(str(tmp_path)) in str(caught.value)
  assert '--log_dir' in str(caught.value)


def test_a_folder_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
  path = write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  with pytest.raises(UsageError, match='does not exist'):
    tables.concatenate_csvs(tmp_path / 'nowhere')
  with pytest.raises(UsageError, match='is not a folder'):
    tables.concatenate_csvs(path)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UsageError, match="as '', which does not exist"):
    tables.concatenate_csvs('')
  assert not (tmp_path / 'all_metrics.csv').exists()


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
  logs, elsewhere = tmp_path / 'logs', tmp_path / 'elsewhere'
  write_table(logs, 'run_1/deep', 'a,b\n1,2\n')
  write_table(elsewhere, 'run_3', 'a,b\n3,4\n')
  write_table(tmp_path, 'beside', 'a,b\n5,6\n')
  links = {
    'run_1/loop': logs,
    'run_2': elsewhere,
    'self': logs / 'self',
    'to_parent': tmp_path,
  }
  # Wherever the links stand among the entries of the folder, the folder's own name wins.
  links |= {f'latest_{index}': logs / 'run_1' for index in range(20)}
  for name, target in links.items():
    (logs / name).symlink_to(target)
  (elsewhere / 'back').symlink_to(logs)
  assert [row[-1] for row in join_to_cells(logs)[1:]] == [
    'run_1/deep/metrics.csv',
    'run_2/run_3/metrics.csv',
  ]


def test_a_folder_given_by_a_link_is_joined(tmp_path: Path) -> None:
  write_table(tmp_path, 'logs/run_1', 'a,b\n1,2\n')
  (tmp_path / 'link').symlink_to(tmp_path / 'logs')
  assert join_to_cells(tmp_path / 'link')[1:] == [['1', '2', 'run_1/metrics.csv']]


def test_a_table_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
  path = tmp_path / 'metrics.csv'
  path.symlink_to(tmp_path / 'nowhere')
  with pytest.raises(UsageError, match='cannot be read') as caught:
    tables.concatenate_csvs(tmp_path)
  assert repr(str(path)) in str(caught.value)
  path.unlink()
  os.mkfifo(path)
  with pytest.raises(UsageError, match='not a regular file'):
    tables.concatenate_csvs(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
@pytest.mark.parametrize('name', ['run_1', 'run_1/metrics.csv'])
def test_what_may_not_be_read_is_told(tmp_path: Path, name: str) -> None:
  write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  (tmp_path / name).chmod(0)
  try:
    with pytest.raises(UsageError, match='cannot be read'):
      tables.concatenate_csvs(tmp_path)
  finally:
    (tmp_path / name).chmod(0o700)


def test_a_joined_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
  write_table(tmp_path, 'run_1', 'a,b\n1,2\n')
  (tmp_path / 'all_metrics.csv').mkdir()
  with pytest.raises(MeasurementError, match='cannot be written'):
    tables.concatenate_csvs(tmp_path)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['all_metrics.csv', 'run_1']


def test_long_work_tells_how_far_it_is(
  tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
  for index in range(1200):
    write_table(tmp_path, f'run_{index}', 'a,b\n1,2\n')
  caplog.set_level(logging.INFO)
  tables.concatenate_csvs(tmp_path)
  assert not caplog.messages
  # Each look at the clock is 10 ms after the last one: 12 s for the headers, 12 s for the rows.
  ticks = itertools.count()
  monkeypatch.setattr(time, 'monotonic', lambda: next(ticks) * 0.01)
  tables.concatenate_csvs(tmp_path)
  joined = [message for message in caplog.messages if message.startswith('joined')]
  assert joined[:2] == ['joined 200 of 1,200 files', 'joined 400 of 1,200 files']
  assert len(joined) == 6
  assert len(caplog.messages) == 12


def test_300_tables_join_in_seconds(tmp_path: Path) -> None:
  header = ','.join(f'c{i}' for i in range(60))
  body = (','.join(['0.1234567'] * 60) + '\n') * 100
  for index in range(300):
    write_table(tmp_path, f'run_{index}', f'{header}\n{body}')
  start = time.monotonic()
  path = tables.concatenate_csvs(tmp_path)
  assert time.monotonic() - start < 5
  assert path.read_bytes().count(b'\n') == 300 * 100 + 1


def test_jsonl_rows_come_back_as_written(tmp_path: Path) -> None:
  rows: list[dict[str, object]] = [
    {'loss': 0.5, 'goal_reached': False, 'workload': 'NaN of sorts', 'epoch': None, 'n': 2**60},
    {'loss': 1e-300, 'note': 'two\nlines', 'note2': '\u2028'},
  ]
  path = tmp_path / 'metrics.jsonl'
  path.write_text('\n'.join(json.dumps(row, ensure_ascii=False) for row in rows) + '\n\n')
  assert tables.read_jsonl(path) == rows
  path.write_text('')
  assert tables.read_jsonl(path) == []


def test_jsonl_floats_that_are_not_finite_come_back(tmp_path: Path) -> None:
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    '{"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": "infinity", "e": ["NaN"]}\n'
  )
  (row,) = tables.read_jsonl(path)
  assert isinstance(row['a'], float)
  assert math.isnan(row['a'])
  assert (row['b'], row['c']) == (math.inf, -math.inf)
  assert (row['d'], row['e']) == ('infinity', ['NaN'])


def test_a_jsonl_torn_anywhere_keeps_the_rows_before(
  tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
  path = tmp_path / 'metrics.jsonl'
  last = json.dumps({'loss': 2, 'note': 'ü€'}, ensure_ascii=False).encode()
  for length in range(1, len(last)):
    path.write_bytes(b'{"loss": 1}\n' + last[:length])
    caplog.clear()
    assert tables.read_jsonl(path) == [{'loss': 1}]
    assert len(caplog.records) == 1
    assert str(path) in caplog.text
  path.write_bytes(b'{"loss": 1}\n' + last)
  assert tables.read_jsonl(path) == [{'loss': 1}, {'loss': 2, 'note': 'ü€'}]


@pytest.mark.parametrize(
  ('content', 'line', 'fault'),
  [
    ('{"a": 1}\n{"a": \n{"a": 3}\n', 2, 'not valid JSON'),
    ('{"a": 1}\n\n{"a": \n', 3, 'not valid JSON'),
    ('[1]\n{"a": 1}\n', 1, 'not an object'),
    ('{"a": 1}\n12', 2, 'not an object'),
  ],
)
def test_a_broken_jsonl_line_is_named(tmp_path: Path, content: str, line: int, fault: str) -> None:
  path = tmp_path / 'metrics.jsonl'
  path.write_text(content)
  with pytest.raises(UsageError, match=fault) as caught:
    tables.read_jsonl(path)
  assert f'Line {line} of {str(path)!r}' in str(caught.value)


def test_a_jsonl_that_is_not_there_is_told(tmp_path: Path) -> None:
  with pytest.raises(UsageError, match='cannot be read'):
    tables.read_jsonl(tmp_path / 'metrics.jsonl')
