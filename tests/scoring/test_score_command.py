"""scripts/score.py on folders of logs as people have them: layouts, gaps, strays, torn files."""

import json
import shutil
from pathlib import Path

import pytest
from made_logs import algoperf, own, read_csv, write_table
from scripts_in_process import run

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'score.py'
INF = float('inf')


def score(root, *flags, expect=0):
  """The written tables' folder, and the lines of warning."""
  done = run(SCRIPT, root, f'--output_dir={root.with_name("scores")}', '--samples=50', *flags)
  assert done.returncode == expect, done.stderr
  return root.with_name('scores'), done


def times(folder):
  return {row.pop('submission'): row for row in read_csv(folder / 'time_to_targets.csv')}


@pytest.fixture
def digits(tmp_path):
  """Three studies of two trials, by two submissions, in this bench's layout."""
  root = tmp_path / 'logs'
  for study in (1, 2, 3):
    for number in (1, 2):
      for submission, slow in (('adamw', 2.0), ('sgd', 5.0)):
        seconds = [1.0, slow * number + study]
        own(root, f'{submission}/study_{study}/digits_jax/run_{number}', seconds, [0.5, 0.98],
            joules=[5.0, 10.0 * seconds[1]], hparams={'learning_rate': 0.1 * number})  # fmt: skip
  return root


def test_own_logs_are_scored_with_steps_energy_and_what_it_cost(digits):
  folder, done = score(digits, '--workloads=digits')
  assert not [line for line in done.stderr.splitlines() if 'studies with' not in line]
  assert times(folder) == {'adamw': {'digits': '4.0'}, 'sgd': {'digits': '7.0'}}
  rows = {row['submission']: row for row in read_csv(folder / 'targets.csv')}
  assert (rows['adamw']['median_steps'], rows['adamw']['median_joules']) == ('40.0', '40.0')
  assert rows['sgd']['ratio'] == '1.75'
  standings = read_csv(folder / 'scores.csv')
  assert [row['submission'] for row in standings] == ['adamw', 'sgd']
  assert float(standings[0]['score']) == pytest.approx(1.0)
  total = sum(2.0 * number + study + 1 for number in (1, 2) for study in (1, 2, 3))
  assert float(standings[0]['hours']) == pytest.approx(total / 3600)
  assert float(standings[0]['device_hours']) == pytest.approx(2 * total / 3600)
  assert float(standings[1]['time_ratio']) == pytest.approx(1.75)
  chosen = [row for row in read_csv(folder / 'trials.csv') if row['chosen'] == 'True']
  assert {row['trial'] for row in chosen} == {'1'}
  effect = read_csv(folder / 'hyperparameters.csv')[0]
  assert effect['hyperparameter'] == 'learning_rate'
  assert float(effect['rank_correlation_with_time']) > 0.5
  assert json.loads((folder / 'scoring.json').read_text())['workloads'] == ['digits']


def test_the_same_folder_gives_the_same_files(digits):
  folder, _ = score(digits)
  first = {path.name: path.read_bytes() for path in folder.iterdir()}
  folder, _ = score(digits)
  assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_runs_without_studies_bear_their_submissions_name(tmp_path):
  own(tmp_path / 'logs', 'digits_jax/run_1', [1, 2], [0.1, 0.98])
  folder, done = score(tmp_path / 'logs')
  assert times(folder) == {'adamw': {'digits': '2.0'}}
  assert 'no intervals' in done.stdout
  own(tmp_path / 'more', 'mine/digits_pytorch/run_1', [1, 3], [0.1, 0.98])
  folder, _ = score(tmp_path / 'more')
  assert times(folder) == {'mine': {'digits': '3.0'}}


def test_one_submission_in_two_frameworks_is_two(tmp_path):
  for framework, seconds in (('jax', 2.0), ('pytorch', 3.0)):
    own(tmp_path / 'logs', f'a/study_1/digits_{framework}/run_1', [1, seconds], [0.1, 0.98])
  folder, done = score(tmp_path / 'logs')
  assert times(folder) == {'a_jax': {'digits': '2.0'}, 'a_pytorch': {'digits': '3.0'}}
  assert 'submissions in two frameworks are scored apart: 1 (a)' in done.stderr


def test_a_submission_named_for_its_framework_is_not_another_of_that_name(tmp_path):
  for framework, seconds in (('_jax', 2.0), ('_pytorch', 3.0), ('', 4.0)):
    algoperf(tmp_path / 'logs', f'a/study_1/digits{framework}/trial_1', [1, seconds], [0.1, 0.98])
  algoperf(tmp_path / 'logs', 'a_jax/study_1/digits_jax/trial_1', [1, 5.0], [0.1, 0.98])
  folder, _ = score(tmp_path / 'logs')
  assert {name: float(row['digits']) for name, row in times(folder).items()} == {
    'a_jax': 5.0, 'a_jax (of a)': 2.0, 'a_pytorch': 3.0, 'a_unnamed': 4.0
  }  # fmt: skip


def test_a_column_that_one_trial_lacks_is_not_another_trials(tmp_path):
  root = tmp_path / 'logs'
  algoperf(root, 'a/study_1/ogbg_jax/trial_1', [5, 9], [0.1, 0.3], 'mean_average_precision')
  algoperf(root, 'a/study_1/ogbg_jax/trial_2', [1, 2], [0.1, 0.3], 'loss')
  algoperf(root, 'a/study_2/ogbg_jax/trial_1', [1, 2], [0.1, 0.3], 'loss')
  folder, done = score(root, '--edition=0.5')
  rows = {(row['study'], row['trial']): row for row in read_csv(folder / 'trials.csv')}
  assert rows['1', '1']['time_sec'] == '9.0'
  assert rows['1', '2']['time_sec'] == rows['2', '1']['time_sec'] == 'inf'
  assert rows['1', '2']['best_value'] == ''
  assert "tables without their workload's metric reach no target: 2" in done.stderr


@pytest.mark.parametrize(
  ('damage', 'reached', 'said'),
  [
    (lambda text: text[:-12], '3.0', 'tables whose last line is torn lack that line: 1'),
    (lambda text: text[: text.index('4,4,4') + 7], '3.0', 'last line is torn'),
    (lambda text: text.rstrip('\n'), '3.0', ''),
    (lambda text: text.replace('3,3,3,6,0.98', '3,3,3,6'), '4.0', 'too many or too few cells'),
    (lambda text: text.replace('0.98,100\n4', 'x,100\n4'), '4.0', 'no number count as empty: 1'),
    (lambda text: text.replace('0.98,100\n4', ',100\n4'), '4.0', ''),
    (lambda text: text.replace('\n', '\r\n'), '3.0', ''),
    (lambda text: text.replace('0.98,100\n4', '"0.98",100\n4'), '3.0', ''),
  ],
  ids=['torn', 'torn in the middle', 'no last line feed', 'short line', 'no number', 'empty',
       'carriage returns', 'quotes'],
)  # fmt: skip
def test_tables_in_disorder_give_what_they_have(tmp_path, damage, reached, said):
  root = tmp_path / 'logs'
  path = algoperf(root, 'a/study_1/digits_jax/trial_1', [1, 2, 3, 4], [0.1, 0.2, 0.98, 0.99])
  path.write_text(damage(path.read_text()), newline='')
  folder, done = score(root)
  assert times(folder)['a']['digits'] == reached
  warnings = [line for line in done.stderr.splitlines() if 'another number' not in line]
  assert len(warnings) == bool(said)
  assert said in ''.join(warnings)


def test_tables_and_hyperparameters_that_cannot_be_read_end_nothing(tmp_path):
  root = tmp_path / 'logs'
  for number in (1, 2, 3, 4, 5):
    path = algoperf(root, f'a/study_1/digits_jax/trial_{number}', [1, 2], [0.1, 0.98])
    huge = f'{{"x": 1{"0" * 400 if number == 1 else ""}, "y": NaN, "z": {number}}}'
    path.with_name('hparams.json').write_text(huge)
    if number == 2:
      path.unlink()
      path.mkdir()
    elif number == 3:
      path.write_bytes(b'\0' * 200_000)  # as a disk may leave it after a power cut
    elif number == 4:
      path.write_text('score,validation/accuracy,b,c,total_duration\n1,0.98,1,2,3,4,5\n2,0.98,2\n')
  folder, done = score(root, '--edition=0.5')
  assert 'trials whose table cannot be read are left out: 2' in done.stderr
  assert 'lines with too many or too few cells are left out: 2' in done.stderr
  rows = {row['trial']: row['time_sec'] for row in read_csv(folder / 'trials.csv')}
  assert rows == {'1': '2.0', '4': 'inf', '5': '2.0'}


def test_strays_are_left_out_with_a_line_each(tmp_path):
  root = tmp_path / 'logs'
  for study in (1, 2):
    algoperf(root, f'a/study_{study}/digits_jax/trial_1', [1, 2], [0.1, 0.98])
  (root / 'a/study_1/notes').mkdir()
  (root / 'a/study_1/cifar_jax').mkdir()
  (root / 'a/study_1/digits_jax/trial_2').mkdir()
  (root / 'a/study_3/digits_jax/trial_1').mkdir(parents=True)
  (root / 'a/study_3/digits_jax/trial_1/eval_measurements.csv').write_text('global_step,sc')
  algoperf(root, 'a/study_2/nonsense_jax/trial_1', [1], [1])
  shutil.copytree(root / 'a/study_2/digits_jax/trial_1', root / 'a/study_2/digits_jax/trial_1_old')
  (root / 'a/study_1/digits_jax_01-02-2026-03-04-05.log').touch()
  folder, done = score(root, '--tuning_ruleset=self')
  said = {line.split(': ')[2]: line.split(': ')[3] for line in done.stderr.splitlines()}
  assert said == {
    'folders in a study that hold no trial are left out':
      '2 (a/study_1/cifar_jax, a/study_1/notes)',
    'folders named like a trial, with more to the name, count as trials':
      '1 (a/study_2/digits_jax/trial_1_old)',
    'folders of no known workload are left out': '1 (nonsense_jax)',
    'trials without a table of evaluations are left out': '1 (a/study_1/digits_jax/trial_2)',
    'tables whose last line is torn lack that line': '1 (a/study_3/digits_jax/trial_1)',
    'trials without an evaluation reach no target': '1 (a/study_3/digits_jax/trial_1)',
    'studies with another number of trials than 1': '1 (a digits study_2)',
  }  # fmt: skip
  assert len(read_csv(folder / 'warnings.csv')) == len(said)
  rows = read_csv(folder / 'trials.csv')
  assert [row['time_sec'] for row in rows] == ['2.0', '2.0', '2.0', 'inf']
  assert [row['num_evaluations'] for row in rows] == ['2', '2', '2', '0']
  score(root, '--tuning_ruleset=self', '--strict', expect=1)


def test_strays_around_studies_are_neither_submissions_nor_mixed_into_studies(tmp_path):
  root = tmp_path / 'logs'
  for study in (0, 1):
    algoperf(root, f'a/study_{study}/digits_jax/trial_1', [1, 2], [0.1, 0.98])
  algoperf(root, 'a/study_0/digits_jax/digits_jax/trial_1', [0.1, 0.2], [0.1, 0.98])  # cp -r, twice
  algoperf(root, 'a/old/study_0/digits_jax/trial_1', [0.1, 0.2], [0.1, 0.98])
  algoperf(root, 'a/study_1_rerun/digits_jax/trial_1', [1, 6], [0.1, 0.98])
  algoperf(root, 'a/study_3-2024-01-02-03-04-05/digits_jax/trial_1', [1, 8], [0.1, 0.98])
  (root / 'a/1²').mkdir()
  folder, done = score(root, '--tuning_ruleset=self', '--edition=0.5')
  assert times(folder) == {'a': {'digits': '4.0'}}
  rows = {row['study']: row['time_sec'] for row in read_csv(folder / 'trials.csv')}
  assert rows == {'0': '2.0', '1': '2.0', '2': '6.0', '3': '8.0'}
  assert 'folders beside studies are left out: 2 (a/1², a/old)' in done.stderr
  assert 'with more to the name, are studies of their own: 2 (a/study_1_rerun,' in done.stderr


def test_a_time_in_a_submissions_folder_is_no_part_of_its_name(tmp_path):
  root = tmp_path / 'logs'
  algoperf(root, 'a/study_1/digits_jax/trial_1', [1, 2], [0.1, 0.98])
  algoperf(root, 'a-2026-01-02-03-04-05/study_2/digits_jax/trial_1', [1, 4], [0.1, 0.98])
  algoperf(root, 'a-2026-01-02-03-04-06/study_1/digits_jax/trial_1', [1, 6], [0.1, 0.98])
  folder, done = score(root)
  assert times(folder) == {'a': {'digits': '3.0'}}  # the better of study 1's two, and study 2's
  assert 'trials that are there twice both count: 1' in done.stderr


def test_submissions_of_one_name_in_two_folders_are_two(tmp_path):
  root = tmp_path / 'logs'
  for team, seconds in (('x', 2.0), ('y', 3.0)):
    algoperf(root, f'{team}/a/study_1/digits_jax/trial_1', [1, seconds], [0.1, 0.98])
    algoperf(root, f'{team}/b/study_{int(seconds)}/digits_jax/trial_1', [1, 4], [0.1, 0.98])
  folder, done = score(root)
  assert times(folder) == {
    'x/a': {'digits': '2.0'}, 'y/a': {'digits': '3.0'}, 'b': {'digits': '4.0'},
  }  # fmt: skip
  assert 'submissions of one name in several folders are named with these: 1 (a)' in done.stderr


def test_metrics_jsonl_serves_where_the_csv_is_gone(tmp_path):
  path = own(tmp_path / 'logs', 'a/study_1/digits_jax/run_1', [1], [0.1])
  rows = [
    {'global_step': 10, 'accumulated_submission_time': 1.0, 'validation/accuracy': 'NaN'},
    {'global_step': 20, 'accumulated_submission_time': 2.5, 'validation/accuracy': 0.98},
  ]
  text = ''.join(json.dumps(row) + '\n' for row in rows) + '{"global_step": 3'
  path.with_name('metrics.jsonl').write_text(text)
  path.unlink()
  folder, done = score(tmp_path / 'logs')
  assert times(folder) == {'a': {'digits': '2.5'}}
  assert 'last line is torn' in done.stderr


def test_a_held_out_workload_that_is_missed_costs_its_base(tmp_path):
  root = tmp_path / 'logs'
  for submission, variant in (('a', 0.8), ('b', 0.1)):
    algoperf(root, f'{submission}/study_1/fastmri_jax/trial_1', [1, 2], [0.1, 0.8], 'ssim')
    algoperf(root, f'{submission}/study_1/fastmri_tanh_jax/trial_1', [1, 2], [0.1, variant], 'ssim')
  folder, _ = score(root, '--edition=0.5')
  scores = {row['submission']: float(row['score']) for row in read_csv(folder / 'scores.csv')}
  assert scores == pytest.approx({'a': 1 / 8, 'b': 0.0})
  folder, done = score(root, '--edition=0.6', '--workloads=fastmri')  # which holds nothing out
  scores = {row['submission']: float(row['score']) for row in read_csv(folder / 'scores.csv')}
  assert scores == pytest.approx({'a': 1.0, 'b': 1.0})
  assert 'held out' not in done.stdout


def test_a_workload_is_scored_once_and_either_itself_or_held_out(tmp_path):
  root = tmp_path / 'logs'
  for study in (1, 2):
    algoperf(root, f'a/study_{study}/fastmri_jax/trial_1', [1, 2], [0.1, 0.8], 'ssim')
    algoperf(root, f'a/study_{study}/fastmri_tanh_jax/trial_1', [1, 3], [0.1, 0.1], 'ssim')
  for names in ('fastmri,fastmri_tanh,fastmri', 'found'):
    folder, done = score(root, '--edition=0.5', f'--workloads={names}')
    assert float(read_csv(folder / 'scores.csv')[0]['score']) == pytest.approx(0.5)
    assert 'held out' not in done.stdout
    rows = read_csv(folder / 'targets.csv')
    assert [row['workload'] for row in rows] == ['fastmri', 'fastmri_tanh']


def test_a_ratio_without_a_known_budget_has_no_interval(tmp_path):
  for study in (1, 2, 3):  # 0.5 has no budget for this workload, and one study never reaches it
    values = [30.0, 20.0 if study > 1 else 25.0]
    algoperf(tmp_path / 'logs', f'a/study_{study}/finewebedu_lm_jax/trial_1', [1, 2], values, 'ppl')
  folder, done = score(tmp_path / 'logs', '--edition=0.5')
  row = read_csv(folder / 'scores.csv')[0]
  assert (row['time_ratio'], row['time_ratio_low']) == ('1.0', '')
  assert 'nan' not in done.stdout


def test_names_choose_submissions_and_the_reference(digits):
  folder, done = score(digits, '--exclude=adamw')
  assert list(times(folder)) == ['sgd']
  folder, done = score(digits, '--reference=sgd')
  rows = {row['submission']: row for row in read_csv(folder / 'scores.csv')}
  assert float(rows['adamw']['time_ratio']) == pytest.approx(4 / 7)
  assert 'over those of sgd' in done.stdout


@pytest.mark.parametrize(
  ('flags', 'said'),
  [
    (['--edition=0.7'], "No edition is called '0.7'"),
    (['--workloads=digit'], "No workload is called 'digit'; did you mean 'digits'?"),
    (['--reference=adam'], "No submission is called 'adam'; did you mean 'adamw'?"),
    (['--include=nobody'], "No submission is called 'nobody'"),
    (['--include=sgd', '--exclude=sgd'], 'of a submission that is wanted'),
    (['--include=sgd,nobody'], "No submission is called 'nobody'"),
    (['--exclude=adamv'], "No submission is called 'adamv'; did you mean 'adamw'?"),
    (['--samples=-1'], '--samples is -1; give 0 or more'),
    (['--mode=fast'], 'invalid choice'),
  ],
)
def test_a_wrong_command_is_one_line(digits, flags, said):
  done = run(SCRIPT, digits, *flags)
  assert done.returncode == 2
  assert said in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr


def test_a_folder_that_is_none_or_has_no_trial_is_told(tmp_path):
  assert 'is no folder' in run(SCRIPT, tmp_path / 'none').stderr
  done = run(SCRIPT, tmp_path)
  assert done.returncode == 2
  assert 'There is no trial in' in done.stderr


@pytest.mark.slow
def test_many_trials_are_read_by_several_processes_and_the_same(tmp_path):
  from algorithmic_efficiency.scoring import editions, logs

  columns = ['score', 'validation/accuracy']
  for submission in range(9):
    for study in range(1, 101):
      place = tmp_path / 'logs' / f's{submission}' / f'study_{study}' / 'digits_jax' / 'trial_1'
      write_table(place / 'eval_measurements.csv', columns, [[1, 0.1], [study, 0.98]])
  (place / 'eval_measurements.csv').write_text('score\n1\n2')
  edition = editions.load('1.0')
  told = []
  several = logs.read(
    tmp_path / 'logs', edition, processes=2, progress=lambda *done: told.append(done)
  )
  alone = logs.read(tmp_path / 'logs', edition)
  assert told[-1] == (900, 900)
  assert several.warnings.places == alone.warnings.places
  assert [t.folder for t in several.trials] == [t.folder for t in alone.trials]
  for one, other in zip(several.trials, alone.trials, strict=True):
    assert one.submission_sec.tobytes() == other.submission_sec.tobytes()
    assert one.values.tobytes() == other.values.tobytes()
