"""The command that analyses memory traces: its files, its summary, and what is wrong told."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import scripts_in_process
from conftest import ROOT
from made_traces import PAGE, mapping, realistic, touched, window, write

SCRIPT = ROOT / 'scripts' / 'analyse_memory.py'
HEAP = mapping(100, 50, path='[heap]')
TABLES = {
  'windows.csv',
  'summary.json',
  'filters.csv',
  'reuse.csv',
  'miss_ratio.csv',
  'rebinned.csv',
}
PICTURES = {'working_set.png', 'reuse.png', 'miss_ratio.png', 'heat_map.png', 'rebinned.png'}


def small(path, windows=6, **more):
  """Pages 100 to 104 in each window, and one that goes on."""
  header = {key: more.pop(key) for key in ('granularity', 'unit_bytes') if key in more}
  pages = [np.array([100, 101, 102, 103, 104, 110 + j]) for j in range(windows)]
  end = more.pop('end', True)
  return write(
    path, ([(7, window(j, j), touched([HEAP], p, **more))] for j, p in enumerate(pages)), end,
    **header,
  )  # fmt: skip


def run(tmp_path, *arguments):
  return scripts_in_process.run(SCRIPT, *arguments, f'--output_dir={tmp_path / "out"}')


def rows(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


@pytest.mark.slow  # matplotlib is slow to import
def test_writes_tables_and_pictures(tmp_path):
  pytest.importorskip('matplotlib')
  trace = realistic(tmp_path / 'training.jsonl', 48)
  done = run(tmp_path, trace, '--rebin=1,2,4', '--rebin_steps=6', '--steady=8')
  assert done.returncode == 0, done.stderr
  out = tmp_path / 'out'
  assert {path.name for path in out.iterdir()} == TABLES | PICTURES
  for name in PICTURES:
    assert (out / name).read_bytes().startswith(b'\x89PNG')
  told = json.loads((out / 'summary.json').read_text())
  windows = rows(out / 'windows.csv')
  assert len(windows) == told['windows'] == 48
  sizes = [int(row['touched_bytes']) for row in windows[8:]]
  assert told['steady_working_set_bytes']['mean'] == pytest.approx(np.mean(sizes))
  assert told['trace']['command'] == 'python train.py'
  assert [row['joined'] for row in rows(out / 'rebinned.csv')] == [
    '1 windows', '2 windows', '4 windows', '6 steps',
  ]  # fmt: skip
  misses = rows(out / 'miss_ratio.csv')
  assert float(misses[-1]['lower']) == float(misses[-1]['upper'])
  assert 'training: 48 windows of 0.2 s, 4.8% of the time paused' in done.stdout
  assert 'drop executable: ' in done.stdout


def test_tells_reuse_of_a_known_trace(tmp_path):
  done = run(tmp_path, small(tmp_path / 'a.jsonl'), '--no_pictures')
  assert done.returncode == 0, done.stderr
  table = rows(tmp_path / 'out' / 'reuse.csv')
  # Five pages are touched in each window: nothing need lie between, at most 7 pages do.
  assert [(int(row['distance_bytes']) // PAGE, float(row['lower']), float(row['upper']))
          for row in table] == [(1, 0, 1), (7, 1, 1)]  # fmt: skip
  reuse = json.loads((tmp_path / 'out' / 'summary.json').read_text())['reuse']
  assert (reuse['cold'], reuse['reuses'], reuse['touches']) == (11, 25, 36)
  assert reuse['memory_for_bytes']['90%'] == [PAGE, 7 * PAGE]
  assert 'note' not in done.stdout


def test_several_traces_have_folders(tmp_path):
  one = small(tmp_path / 'a.jsonl')
  done = run(tmp_path, f'one={one}', one, '--no_pictures', '--keep=heap', '--rate=0.5')
  assert done.returncode == 0, done.stderr
  assert {path.name for path in (tmp_path / 'out').iterdir()} == {'one', 'a'}
  assert 'estimated from 0.5 of the units' in done.stdout
  done = run(tmp_path, one, one)
  assert done.returncode == 2
  assert 'NAME=FILE' in done.stderr


@pytest.mark.parametrize(
  ('more', 'words'),
  [
    ({'end': False}, 'cut off'),
    ({'huge': 2 << 20}, '2.0 MiB are in huge pages: a single touch marks 512'),
    ({'unplaced': 1 << 20}, '1.0 MiB a window were touched at places that are not known'),
    ({'granularity': 'region'}, 'regions are found by sampling'),
    ({'units': None, 'granularity': 'mapping'}, 'no reuse distances, no longer windows'),
  ],
)
def test_what_is_missing_is_told_in_a_line(tmp_path, more, words):
  done = run(tmp_path, small(tmp_path / 'a.jsonl', **more), '--no_pictures')
  assert done.returncode == 0, done.stderr
  (line,) = (line for line in done.stdout.splitlines() if words in line)
  assert line.startswith('  note: ')


def test_a_trace_that_is_cut_is_read_as_far_as_it_goes(tmp_path):
  path = small(tmp_path / 'a.jsonl')
  whole = path.read_bytes()
  lines = whole.splitlines(keepends=True)
  path.write_bytes(b''.join(lines[:-2]) + lines[-2][:50])
  done = run(tmp_path, path, '--no_pictures')
  assert done.returncode == 0, done.stderr
  assert len(rows(tmp_path / 'out' / 'windows.csv')) == 5
  assert 'read up to window 4' in done.stdout


def damaged(path, old, new, at=-2):
  lines = small(path).read_text().splitlines(keepends=True)
  assert old in lines[at]
  lines[at] = lines[at].replace(old, new)
  path.write_text(''.join(lines))
  return path


@pytest.mark.parametrize(
  ('content', 'words'),
  [
    (None, 'cannot be read (No such file'),
    (b'', 'is no memory trace'),
    (b'\x89PNG\r\n\xff\xfe', 'is no memory trace'),
    (b'{"kind": "header", "format": 99}\n', 'format 99'),
    (b'{"kind": "header"}\n', 'is no memory trace'),
    (b'{"kind": "header", "format": "x"}\n', 'is no memory trace'),
  ],
)
def test_what_is_no_trace_is_told(tmp_path, content, words):
  path = tmp_path / 'a.jsonl'
  if content is not None:
    path.write_bytes(content)
  told_in_one_line(run(tmp_path, path), 2, words)


@pytest.mark.parametrize(
  ('old', 'new'),
  [
    ('"units": "eAF', '"units": "eAA'),
    ('"pid": 7', '"pip": 7'),
    ('"mappings": "', '"mappings": "A'),
  ],
)
def test_damage_is_told_with_its_place(tmp_path, old, new):
  told_in_one_line(
    run(tmp_path, damaged(tmp_path / 'a.jsonl', old, new)), 2, 'damaged after window 4'
  )


def test_units_that_do_not_ascend_are_damage(tmp_path):
  path = small(tmp_path / 'a.jsonl', units=np.array([[5, 3], [6, 1]]))
  told_in_one_line(run(tmp_path, path), 2, 'damaged in window 0')


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--drop=exe'], "'exe' names no mappings"),
    (['--keep=lib'], "'lib' is no kind"),
    (['--path=('], 'no regular expression'),
    (['--rebin=1,x'], '--rebin=1,x is no list of whole numbers'),
    (['--rebin=0'], 'numbers from 1 on'),
    (['--rebin_steps=-1'], 'numbers from 1 on'),
    (['--steady=-1'], '--steady=-1 is below 0'),
    (['--rate=0'], 'above 0 and at most 1'),
    (['--rate=2'], 'above 0 and at most 1'),
  ],
)
def test_a_wrong_command_is_told(tmp_path, flags, words):
  told_in_one_line(run(tmp_path, small(tmp_path / 'a.jsonl'), *flags), 2, words)


def test_what_a_trace_cannot_tell_is_refused_if_asked(tmp_path):
  path = small(tmp_path / 'a.jsonl', units=None, granularity='mapping', unit_bytes=None)
  told_in_one_line(run(tmp_path, path, '--rebin=1,5'), 2, 'cannot be joined')


def test_no_size_of_units(tmp_path):
  path = small(tmp_path / 'a.jsonl', unit_bytes=None)
  told_in_one_line(run(tmp_path, path), 2, 'does not tell the size of its units')


def test_no_samples_are_a_failure(tmp_path):
  told_in_one_line(run(tmp_path, write(tmp_path / 'a.jsonl', [])), 1, 'has no windows')


def test_one_without_samples_holds_up_no_other(tmp_path):
  paths = write(tmp_path / 'none.jsonl', []), small(tmp_path / 'a.jsonl')
  done = run(tmp_path, *paths, '--no_pictures')
  told_in_one_line(done, 1, 'has no windows')
  assert {path.name for path in (tmp_path / 'out').iterdir()} == {'a'}


def test_a_folder_that_cannot_be_made(tmp_path):
  (tmp_path / 'out').write_text('')
  told_in_one_line(run(tmp_path, small(tmp_path / 'a.jsonl')), 2, '--output_dir')


def told_in_one_line(done, code, words):
  assert (done.returncode, done.stderr.count('\n')) == (code, 1), done.stderr
  assert done.stderr.startswith('analyse_memory: error: ')
  assert words in done.stderr


def test_help_takes_no_time_for_what_it_does_not_need():
  code = """
import sys
sys.argv = ['analyse_memory', '--help']
sys.path.insert(0, 'scripts')
try:
  import analyse_memory
  analyse_memory.main()
finally:
  print(sorted({'numpy', 'matplotlib', 'jax', 'torch'} & set(sys.modules)))
"""
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0
  assert done.stdout.endswith('[]\n')
