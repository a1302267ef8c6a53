"""Tests of training logs between Begin CSV and End CSV: ranks, false starts, blocks without end."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from algorithmic_efficiency.device_logs import runtime_log

HEADER = 'type,epoch,time,loss,dsc'
OLD = 'type,card,epoch,time,loss,dsc'


def read(*lines):
  reader = runtime_log.Reader()
  reader.read(f'{line}\n' for line in lines)
  return reader


def command(*words):
  return f'Command: {["unet.py", *words]!r}'


def epochs(count, seconds=10.0, ranks=1, first=30.0):
  lines = []
  for epoch in range(1, count + 1):
    time = first if epoch == 1 else seconds
    lines += [f'train,{epoch},{time + rank},0.{epoch}5,' for rank in range(ranks)]
    lines += [f'eval,{epoch},1.5,0.9, 0.{epoch}']
  return lines


ENDING = ['total_train_time,3,50.0,,', 'total_eval_time,3,4.5,,']


def test_one_run():
  reader = read(
    command('--hpu'), 'Begin CSV', HEADER, 'loaders_init,,8.5,,', *epochs(3), *ENDING, 'End CSV'
  )
  (block,) = runtime_log.choose(reader.blocks, 'last')
  assert runtime_log.summary(block) == {
    'command': ['unet.py', '--hpu'], 'complete': True, 'num_ranks': 1, 'epochs': 3,
    'loaders_sec': 8.5, 'first_epoch_sec': 30.0, 'epoch_mean_sec': 10.0, 'epoch_min_sec': 10.0,
    'epoch_max_sec': 10.0, 'evaluation_mean_sec': 1.5, 'total_train_sec': 50.0,
    'total_evaluation_sec': 4.5, 'best_dice': 0.3, 'last_loss': 0.35,
  }  # fmt: skip
  assert runtime_log.phases(block)[:3] == [
    ('loaders_init', None, 8.5), ('train', 1, 30.0), ('eval', 1, 1.5),
  ]  # fmt: skip
  assert reader.diagnosis.refused == {}


def test_interleaved_ranks_are_one_run_and_the_slowest_counts():
  ranks = command('--world-size', '2')
  reader = read(
    ranks, 'Begin CSV', HEADER, 'loaders_init,,8.5,,', ranks, 'Begin CSV', 'loaders_init,,9.5,,',
    HEADER, *epochs(2, ranks=2), *ENDING, 'End CSV',
  )  # fmt: skip
  (block,) = reader.blocks
  summary = runtime_log.summary(block)
  assert (summary['num_ranks'], summary['epoch_mean_sec'], summary['loaders_sec']) == (2, 11.0, 9.5)
  assert [row.occurrence for row in block.rows if row.kind == 'train'] == [0, 1, 0, 1]


def test_false_starts_are_no_runs():
  reader = read(
    command(), 'Begin CSV', HEADER, command(), 'Begin CSV', HEADER, *epochs(2), 'End CSV'
  )
  (block,) = runtime_log.choose(reader.blocks, 'all')
  assert (block.begins, runtime_log.summary(block)['epochs']) == (2, 2)


def test_a_block_without_an_end_is_not_the_last_complete_one():
  first = [command('--a'), 'Begin CSV', HEADER, *epochs(3), *ENDING, 'End CSV']
  second = [command('--b'), 'Begin CSV', HEADER, *epochs(2)]
  reader = read(*first, *second)
  assert [b.command for b in runtime_log.choose(reader.blocks, 'last')] == [['unet.py', '--a']]
  found = runtime_log.choose(reader.blocks, 'all')
  assert [b.complete for b in found] == [True, False]
  assert any('has no end' in note for note in reader.diagnosis.notes)
  (only,) = runtime_log.choose(read(*second).blocks, 'last')
  assert not only.complete


def test_two_versions_of_the_columns_in_one_file():
  reader = read(
    command(), 'Begin CSV', OLD, HEADER, 'loaders_init,0,,8.5,,', 'train,0,1,30.0,0.5,',
    'train,1,31.0,0.5,', 'eval,0,1,1.5,0.9, nan', 'End CSV',
  )  # fmt: skip
  rows = reader.blocks[0].rows
  assert [(r.kind, r.card, r.epoch, r.seconds) for r in rows] == [
    ('loaders_init', '0', None, 8.5), ('train', '0', 1, 30.0), ('train', '', 1, 31.0),
    ('eval', '0', 1, 1.5),
  ]  # fmt: skip
  assert rows[-1].dice is None
  assert reader.diagnosis.refused == {}


def test_sentences_and_damaged_rows_are_told():
  reader = read(
    'train,1,1.0,0.5,', command(), 'Begin CSV', HEADER, *epochs(1), 'a warning of a library',
    'train,2,', 'train,x,1.0,0.5,', 'Best validation mean DSC: 0.187', '', 'End CSV',
  )  # fmt: skip
  assert reader.diagnosis.refused == {
    'a row before any beginning': 1,
    'no row of the table': 1,
    'a row that is cut short or damaged': 2,
  }
  assert reader.blocks[0].best_dice == 0.187
  told = sum(reader.diagnosis.passed.values()) + sum(reader.diagnosis.refused.values())
  assert told + len(reader.blocks[0].rows) == reader.diagnosis.num_lines


def test_lines_that_mpirun_has_tagged():
  lines = [command(), 'Begin CSV', HEADER, *epochs(2), 'End CSV']
  (block,) = read(*(f'[1,0]<stdout>:{line}' for line in lines)).blocks
  assert (block.complete, runtime_log.summary(block)['epochs']) == (True, 2)


def test_means_over_runs():
  means = runtime_log.over_runs(
    [{'a_sec': 1.0, 'b_sec': None}, {'a_sec': 3.0, 'b_sec': 5.0, 'n': 1}]
  )
  assert means == {'runs': 2, 'a_sec': 2.0, 'b_sec': 5.0}


def test_a_table_alone_is_a_block():
  (block,) = runtime_log.choose(read(HEADER, *epochs(2), *ENDING).blocks, 'last')
  assert runtime_log.summary(block)['epochs'] == 2


def test_the_command(tmp_path):
  log = tmp_path / 'run.txt'
  log.write_text('\n'.join([command(), 'Begin CSV', HEADER, *epochs(3), *ENDING, 'End CSV', '']))

  def run(*arguments):
    script = ROOT / 'scripts' / 'import_run_log.py'
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)

  done = run(log, f'--output_dir={tmp_path}/out')
  assert done.returncode == 0, done.stderr
  content = json.loads((tmp_path / 'out/summary.json').read_text())
  (summary,) = content['runs']
  assert content['mean_over_runs']['epoch_mean_sec'] == 10.0
  assert (summary['log'], summary['epochs']) == ('run.txt', 3)
  assert len((tmp_path / 'out/run_1.csv').read_text().splitlines()) == 1 + 6 + 2
  assert run(tmp_path / 'none.txt').returncode == 2
  log.write_text('nothing\n')
  assert run(log, f'--output_dir={tmp_path}/out').returncode == 1


SAMPLES = ROOT.parent / 'shared' / 'samples' / 'runtime_logs'
REAL = {  # name: ranks, epochs, first epoch, all as the study's own tables have them
  'logs_habana02_large_batch_128-duped-128-1.txt': (1, 50, 155.8),
  'unsorted-logs_habana-worker-2-duped.txt': (2, 5, 156.0),
  'unsorted-logs_habana-worker-4-duped.txt': (4, 5, 102.2),
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason='the real logs are not here')
@pytest.mark.parametrize('name', REAL)
def test_real_logs(name):
  reader = runtime_log.Reader()
  with (SAMPLES / name).open() as file:
    reader.read(file)
  (block,) = runtime_log.choose(reader.blocks, 'last')
  summary = runtime_log.summary(block)
  assert (summary['num_ranks'], summary['epochs']) == REAL[name][:2]
  assert summary['first_epoch_sec'] == pytest.approx(REAL[name][2], abs=0.05)
  assert reader.diagnosis.refused == {}
