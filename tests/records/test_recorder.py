"""A trial's rows: readable after each one, the same in both files, and never half there."""

import contextlib
import csv
import json
import math
import os
import random
import statistics
import subprocess
import time
from itertools import pairwise

import pandas as pd
import pytest

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.records import columns
from algorithmic_efficiency.records.appended_file import AppendedFile
from algorithmic_efficiency.records.recorder import CsvFile, Recorder
from algorithmic_efficiency.records.run_folder import TrialFolder

ROW = {
  'workload': 'digits_jax',
  'framework': 'jax',
  'run_idx': 1,
  'accumulated_submission_time': 1.25,
  'global_step': 10,
  'train/loss': 0.5,
  'validation/loss': 0.1 + 0.2,
  'validation/num_examples': 300,
  'test/loss': 1e-7,
  'goal_reached': False,
  'accumulated_eval_time': 0.5,
  'accumulated_logging_time': 0.0,
  'total_duration': 2.0,
}


@pytest.fixture
def folder(tmp_path):
  return TrialFolder(tmp_path)


@pytest.fixture
def recorder(folder):
  with contextlib.closing(Recorder(folder)) as recorder:
    yield recorder


def rows_of_jsonl(path):
  def refuse(spelling):
    raise AssertionError(f'{spelling} is not strict JSON')

  return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def cells_of_csv(path):
  with path.open(newline='', encoding='utf-8') as file:
    return list(csv.reader(file))


def as_cell(value):
  """What a CSV cell holds of a value of the JSON file; written here a second time."""
  if value is None:
    return ''
  if isinstance(value, bool):
    return str(value).upper()
  return json.dumps(value) if isinstance(value, list | dict) else str(value)


def assert_views_agree(folder):
  """metrics.csv says what metrics.jsonl says, and has every column that it has."""
  rows = rows_of_jsonl(folder.metrics_jsonl)
  header, *lines = cells_of_csv(folder.metrics_csv)
  assert len(lines) == len(rows)
  assert sorted(header) == sorted({name for row in rows for name in row})
  for row, cells in zip(rows, lines, strict=True):
    assert dict(zip(header, cells, strict=True)) == {n: as_cell(row.get(n)) for n in header}


def test_every_row_can_be_read_as_soon_as_it_is_recorded(folder, recorder):
  for step in range(1, 6):
    recorder.evaluation({**ROW, 'global_step': step})
    assert [row['global_step'] for row in rows_of_jsonl(folder.metrics_jsonl)] == list(
      range(1, step + 1)
    )
    assert list(pd.read_csv(folder.metrics_csv)['global_step']) == list(range(1, step + 1))
    assert folder.metrics_csv.read_text().endswith('\n')


def test_both_files_hold_the_same_numbers(folder, recorder):
  generator = random.Random(0)
  rows = []
  for step in range(30):
    row = {**ROW, 'global_step': step, 'goal_reached': step > 20}
    row |= {name: generator.lognormvariate(0, 20) for name in ('train/loss', 'test/loss')}
    rows.append(row)
    recorder.evaluation(row)
  assert_views_agree(folder)
  table = pd.read_csv(folder.metrics_csv)
  truth = pd.DataFrame(rows_of_jsonl(folder.metrics_jsonl))
  pd.testing.assert_frame_equal(table[list(truth)], truth, rtol=1e-14)  # pandas' own rounding
  pd.testing.assert_frame_equal(truth, pd.DataFrame(rows), check_exact=True)  # to the last digit
  assert table['goal_reached'].dtype == bool


def test_columns_come_in_the_order_of_the_list(folder, recorder):
  shuffled = list(ROW)
  random.Random(1).shuffle(shuffled)
  recorder.evaluation({name: ROW[name] for name in shuffled})
  header = tuple(cells_of_csv(folder.metrics_csv)[0])
  assert header == columns.in_order(tuple(shuffled))
  assert header == (
    'workload', 'framework', 'run_idx', 'accumulated_submission_time', 'global_step', 'train/loss',
    'validation/num_examples', 'validation/loss', 'test/loss', 'goal_reached',
    'accumulated_eval_time', 'accumulated_logging_time', 'total_duration',
  )  # fmt: skip


def test_a_new_column_has_empty_cells_in_the_rows_before(folder, recorder):
  recorder.evaluation({**ROW, 'global_step': 1, 'note': 'a,"b"\nc'})
  recorder.evaluation({**ROW, 'global_step': 2})
  recorder.evaluation({**ROW, 'global_step': 3, 'gpu.0.mem.used': 7.0, 'epoch': 0.5})
  recorder.evaluation({**ROW, 'global_step': 4, 'epoch': 0.75})
  assert_views_agree(folder)
  header = cells_of_csv(folder.metrics_csv)[0]
  assert header.index('epoch') == header.index('global_step') + 1
  assert header[-1] == 'gpu.0.mem.used'
  table = pd.read_csv(folder.metrics_csv)
  assert table['epoch'].isna().tolist() == [True, True, False, False]
  assert table['gpu.0.mem.used'].isna().tolist() == [True, True, False, True]
  assert table['note'].tolist()[0] == 'a,"b"\nc'
  assert set(folder.path.iterdir()) == {folder.metrics_csv, folder.metrics_jsonl}  # nothing else


def test_columns_that_come_and_go_stay_consistent(folder, recorder):
  generator = random.Random(3)
  names = ['global_step', 'loss', 'note', 'gpu.0.mem.used', 'hparam.x', 'a b', 'test/loss']
  values = [0, -1.5, 'x', '', 'a,b', 'q"q', 'two\nlines', 'cr\rcr', '\r\n', None, True, (1, 2), 'ü']
  for _ in range(80):
    chosen = generator.sample(names, generator.randint(1, len(names)))
    recorder.evaluation({name: generator.choice(values) for name in chosen})
  assert_views_agree(folder)


@pytest.mark.parametrize(
  ('value', 'spelling'),
  [(math.nan, 'NaN'), (math.inf, 'Infinity'), (-math.inf, '-Infinity')],
)
def test_numbers_that_are_not_finite_are_spelt_alike_in_both_files(
  folder, recorder, value, spelling
):
  recorder.evaluation({**ROW, 'validation/loss': value})
  recorder.evaluation(ROW)
  rows = rows_of_jsonl(folder.metrics_jsonl)  # refuses a bare NaN
  assert rows[0]['validation/loss'] == spelling
  assert rows[1]['validation/loss'] == ROW['validation/loss']
  assert_views_agree(folder)
  read = pd.read_csv(folder.metrics_csv)['validation/loss'][0]
  assert read == value or (math.isnan(read) and math.isnan(value))


def test_numbers_that_are_not_finite_within_a_tuple(folder, recorder):
  recorder.evaluation(
    {**ROW, 'hparam.x': (1.0, math.nan), 'hparam.y': [math.inf, {'a': -math.inf}]}
  )
  row = rows_of_jsonl(folder.metrics_jsonl)[0]
  assert row['hparam.x'] == [1.0, 'NaN']
  assert row['hparam.y'] == ['Infinity', {'a': '-Infinity'}]
  assert_views_agree(folder)


def test_flags_are_spelt_in_capitals(folder, recorder):
  recorder.evaluation({**ROW, 'goal_reached': True})
  recorder.evaluation({**ROW, 'goal_reached': False})
  assert ',TRUE,' in folder.metrics_csv.read_text()
  assert ',FALSE,' in folder.metrics_csv.read_text()
  assert [row['goal_reached'] for row in rows_of_jsonl(folder.metrics_jsonl)] == [True, False]
  assert pd.read_csv(folder.metrics_csv)['goal_reached'].tolist() == [True, False]


TEXTS = [
  'a,b', 'say "hi"', 'two\nlines', '"', ',', '\n', '\r', 'a\rb', 'a\r\nb', ' padded ', '', 'ü€𝄞',
  "it's", 'a;b\tc', '\\n', '#', '=1+1',
]  # fmt: skip


@pytest.mark.parametrize('text', TEXTS, ids=ascii)
def test_any_text_survives_in_both_files(folder, recorder, text):
  recorder.evaluation({**ROW, 'note': text})
  recorder.evaluation({**ROW, 'note': text, 'epoch': 1.0})  # the file is read and written anew
  recorder.evaluation({**ROW, 'note': 'last'})
  assert [row['note'] for row in rows_of_jsonl(folder.metrics_jsonl)] == [text, text, 'last']
  assert_views_agree(folder)
  table = pd.read_csv(folder.metrics_csv, keep_default_na=False)
  assert table['note'].tolist() == [text, text, 'last']


def test_tuples_are_written_as_json(folder, recorder):
  recorder.evaluation({**ROW, 'workload.train_mean': (0.5, 0.25), 'hparam.x': ['a', None, True]})
  row = rows_of_jsonl(folder.metrics_jsonl)[0]
  assert row['workload.train_mean'] == [0.5, 0.25]
  table = pd.read_csv(folder.metrics_csv)
  assert json.loads(table['workload.train_mean'][0]) == [0.5, 0.25]
  assert json.loads(table['hparam.x'][0]) == ['a', None, True]


def test_a_name_that_is_not_utf8_ends_no_run(folder, recorder):
  recorder.evaluation({**ROW, 'note': os.fsdecode(b'caf\xe9')})
  assert len(pd.read_csv(folder.metrics_csv)) == 1
  assert len(rows_of_jsonl(folder.metrics_jsonl)) == 1


def test_row_10000_costs_what_row_100_did(folder, recorder):
  """Medians of 100 rows each, the ends of the file timed in turns to share whatever else runs."""
  late_path = folder.path / 'late'
  late_path.mkdir()
  with contextlib.closing(Recorder(TrialFolder(late_path))) as late:
    for step in range(100):
      recorder.evaluation({**ROW, 'global_step': step})
    lines = ''.join(json.dumps({**ROW, 'global_step': step}) + '\n' for step in range(9_000))
    late.evaluation(ROW)
    # Most of the 10,000 rows are put there by hand: waiting for the disk 10,000 times is slow.
    with (late_path / 'metrics.jsonl').open('a') as file:
      file.write(lines)
    line = folder.metrics_csv.read_text().splitlines()[-1] + '\n'
    with (late_path / 'metrics.csv').open('a') as file:
      file.write(line * 9_000)
    seconds = {recorder: [], late: []}
    for step in range(100):
      for which, found in seconds.items():
        before = time.perf_counter()
        which.evaluation({**ROW, 'global_step': step})
        found.append(time.perf_counter() - before)
  early, at_end = (statistics.median(found) for found in seconds.values())
  assert at_end < 3 * early
  assert len(rows_of_jsonl(late_path / 'metrics.jsonl')) == 9_101


def test_rows_of_known_columns_are_appended_and_not_written_anew(folder, recorder):
  recorder.evaluation(ROW)
  before = folder.metrics_csv.stat().st_ino
  sizes = [folder.metrics_csv.stat().st_size]
  for step in range(100):
    recorder.evaluation({**ROW, 'global_step': 1000 + step})
    sizes.append(folder.metrics_csv.stat().st_size)
  assert folder.metrics_csv.stat().st_ino == before
  assert len({b - a for a, b in pairwise(sizes)}) == 1
  recorder.evaluation({**ROW, 'epoch': 1.0})
  assert folder.metrics_csv.stat().st_ino != before  # a new column: a new file in its place


# AlgoPerf's layout.


@pytest.fixture
def algoperf(folder):
  with contextlib.closing(Recorder(folder, algoperf=True)) as recorder:
    yield recorder


REFERENCE_COLUMNS = [
  'accumulated_eval_time', 'accumulated_logging_time', 'accumulated_submission_time', 'global_step',
  'preemption_count', 'score', 'test/loss', 'total_duration', 'train/loss', 'validation/loss',
  'validation/num_examples',
]  # fmt: skip


def test_algoperf_has_the_evaluations_in_its_own_columns(folder, algoperf):
  for step in (1, 20):
    algoperf.evaluation({**ROW, 'global_step': step, 'accumulated_submission_time': step / 4})
  for path in (folder.eval_measurements_csv, folder.measurements_csv):
    table = pd.read_csv(path)
    assert list(table) == REFERENCE_COLUMNS
    assert table['score'].tolist() == [0.25, 5.0]
    assert table['accumulated_submission_time'].tolist() == [0.25, 5.0]
    assert table['global_step'].tolist() == [1, 20]
    assert table['preemption_count'].tolist() == [0, 0]
    assert table['validation/loss'].tolist() == pytest.approx([ROW['validation/loss']] * 2)
  assert_views_agree(folder)


def test_without_algoperf_its_files_are_not_there(folder, recorder):
  recorder.evaluation(ROW)
  assert not folder.eval_measurements_csv.exists()
  assert not folder.measurements_csv.exists()


def test_a_submission_may_log_scalars(folder, algoperf):
  algoperf.append_scalar_metrics({'loss': 2, 'grad_norm': 0.5}, 1)
  algoperf.evaluation({**ROW, 'global_step': 2})
  algoperf.append_scalar_metrics({'loss': 1.5, 'lr': 0.125}, global_step=3)
  table = pd.read_csv(folder.measurements_csv)
  assert table['global_step'].tolist() == [1, 2, 3]
  assert table['loss'].dropna().tolist() == [2.0, 1.5]
  assert table['grad_norm'].isna().tolist() == [False, True, True]
  assert table['lr'][2] == 0.125
  assert table['score'].isna().tolist() == [True, False, True]
  assert len(pd.read_csv(folder.eval_measurements_csv)) == 1  # evaluations alone


def test_scalars_are_kept_without_algoperf_too_and_not_among_the_rows(folder, recorder):
  recorder.append_scalar_metrics({'loss': 0.5}, 7)
  recorder.evaluation(ROW)
  table = pd.read_csv(folder.measurements_csv)
  assert table.to_dict('records') == [{'global_step': 7, 'loss': 0.5}]
  assert len(pd.read_csv(folder.metrics_csv)) == 1


def test_a_scalar_may_be_anything_that_float_takes(folder, recorder):
  class Scalar:
    def __float__(self):
      return 0.25

  recorder.append_scalar_metrics({'a': Scalar(), 'b': math.nan}, 1)
  assert folder.measurements_csv.read_text() == 'a,b,global_step\n0.25,NaN,1\n'


# Disks that refuse.


@pytest.fixture
def small_disk(tmp_path):
  """A folder on a file system of 64 KiB; skips where none can be mounted."""
  path = tmp_path / 'small'
  path.mkdir()
  if os.geteuid() != 0:
    pytest.skip('only root may mount a small file system')
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(path)]
  try:
    done = subprocess.run(mount, capture_output=True, text=True)
  except FileNotFoundError:
    pytest.skip('there is no mount command')
  if done.returncode:
    pytest.skip(f'mounting is not allowed here: {done.stderr.strip()}')
  try:
    yield path
  finally:
    subprocess.run(['umount', '--lazy', str(path)], check=True)  # a failed test leaves files open


def fill(folder, but):
  """Leaves `but` bytes of pages free."""
  free = os.statvfs(folder)
  (folder / 'filler').write_bytes(b'x' * (free.f_bavail * free.f_frsize - but))


def test_a_line_that_does_not_fit_leaves_no_trace(small_disk):
  file = AppendedFile(small_disk / 'rows')
  file.append('first\n')
  fill(small_disk, but=4096)
  # A page and a half fits in part: the kernel writes that part before it refuses the rest.
  with pytest.raises(MeasurementError, match=r'rows.*cannot be written.*(?i:space)'):
    file.append('x' * 10_000 + '\n')
  assert (small_disk / 'rows').read_text() == 'first\n'
  file.append('second\n', durable=True)  # what fits is taken
  assert (small_disk / 'rows').read_text() == 'first\nsecond\n'
  file.close()


def test_a_full_disk_ends_in_whole_rows(small_disk):
  folder = TrialFolder(small_disk)
  with contextlib.closing(Recorder(folder)) as recorder:
    with pytest.raises(MeasurementError) as caught:
      for step in range(1000):
        recorder.evaluation({**ROW, 'global_step': step})
    message = str(caught.value)
    assert '--resume' in message
    assert '\n' not in message
  rows = rows_of_jsonl(folder.metrics_jsonl)
  table = pd.read_csv(folder.metrics_csv)
  assert folder.metrics_jsonl.read_text().endswith('\n')
  assert folder.metrics_csv.read_text().endswith('\n')
  assert 20 < len(rows) < 1000
  assert len(table) in (len(rows), len(rows) - 1)  # the truth is written first
  assert table['global_step'].tolist() == list(range(len(table)))
  assert [row['global_step'] for row in rows] == list(range(len(rows)))


def test_the_truth_is_written_before_its_view(small_disk):
  folder = TrialFolder(small_disk)
  with contextlib.closing(Recorder(folder)) as recorder:
    recorder.evaluation(ROW)
    fill(small_disk, but=0)
    # The row fits into the last page of metrics.jsonl; a new column needs a new metrics.csv.
    with pytest.raises(MeasurementError, match=r'metrics\.csv'):
      recorder.evaluation({**ROW, 'epoch': 0.5})
  assert [row.get('epoch') for row in rows_of_jsonl(folder.metrics_jsonl)] == [None, 0.5]
  assert len(pd.read_csv(folder.metrics_csv)) == 1


def test_a_new_column_that_does_not_fit_leaves_the_file_as_it_was(small_disk):
  file = CsvFile(small_disk / 'rows.csv', lambda names: names)
  for step in range(500):
    file.append({'global_step': step, 'note': 'x' * 40})
  before = (small_disk / 'rows.csv').read_text()
  fill(small_disk, but=4096)
  with pytest.raises(MeasurementError):
    file.append({'global_step': 500, 'note': 'x', 'new': 1})
  assert (small_disk / 'rows.csv').read_text() == before
  assert {path.name for path in small_disk.iterdir()} == {'filler', 'rows.csv'}
  (small_disk / 'filler').unlink()
  file.append({'global_step': 500, 'note': 'x', 'new': 1})  # goes on as if nothing had been
  table = pd.read_csv(small_disk / 'rows.csv')
  assert table['global_step'].tolist() == list(range(501))
  assert table['new'].dropna().tolist() == [1]
  file.close()


def test_a_folder_that_is_not_there_is_told(tmp_path):
  with pytest.raises(MeasurementError, match=r'metrics\.jsonl.*cannot be written'):
    Recorder(TrialFolder(tmp_path / 'nothing'))
