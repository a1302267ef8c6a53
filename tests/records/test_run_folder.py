"""The folder of a run: where things are, what is refused, and that nothing strange is deleted."""

import json
from pathlib import Path

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path):
  return RunFolder(tmp_path / 'logs', 'digits_jax')


def start_trial(folder, index, status):
  """A trial's folder as a run leaves it; without a state where the status is None."""
  trial = folder.trial(index)
  trial.path.mkdir(parents=True)
  trial.metrics_csv.write_text('global_step\n1\n')
  trial.metrics_jsonl.write_text('{"global_step": 1}\n')
  if status is not None:
    trial.state.write_text(json.dumps({'status': status, 'reason': ''}))
  return trial


def everything_below(path):
  return {str(p.relative_to(path)): p.read_text() if p.is_file() else None
          for p in sorted(path.rglob('*'))}  # fmt: skip


def test_names_of_the_contract(tmp_path):
  folder = RunFolder(tmp_path, 'mnist_jax')
  below = {
    'mnist_jax/metadata.json': folder.metadata,
    'mnist_jax/packages.txt': folder.packages,
    'mnist_jax/run_1/metrics.csv': folder.trial(0).metrics_csv,
    'mnist_jax/run_2/metrics.csv': folder.trial(1).metrics_csv,
    'mnist_jax/run_1/metrics.jsonl': folder.trial(0).metrics_jsonl,
    'mnist_jax/run_1/hparams.json': folder.trial(0).hparams,
  }
  for name, path in below.items():
    assert path == tmp_path / name


def test_names_of_algoperf(tmp_path):
  trial = RunFolder(tmp_path / 'experiment', 'mnist_jax', algoperf=True).trial(0)
  assert trial.path == tmp_path / 'experiment' / 'mnist_jax' / 'trial_1'
  names = [trial.eval_measurements_csv, trial.measurements_csv, trial.hparams]
  names += [trial.meta_data(2), trial.flags(0)]
  assert [path.name for path in names] == [
    'eval_measurements.csv', 'measurements.csv', 'hparams.json', 'meta_data_2.json', 'flags_0.json',
  ]  # fmt: skip


def test_trials_are_listed_by_number(folder):
  for index in (10, 1, 0, 8, 99):
    start_trial(folder, index, 'complete')
  assert list(folder.trials()) == [0, 1, 8, 10, 99]
  assert [trial.path.name for trial in folder.trials().values()] == [
    'run_1', 'run_2', 'run_9', 'run_11', 'run_100',
  ]  # fmt: skip


def test_only_trials_are_listed(folder):
  start_trial(folder, 0, 'complete')
  for name in ('run_0', 'run_01', 'run_x', 'my_run_3', 'run_4_old', 'plots', 'trial_7'):
    (folder.path / name).mkdir()
  (folder.path / 'run_5').write_text('a file')
  assert list(folder.trials()) == [0]
  assert list(RunFolder(folder.root, folder.name, algoperf=True).trials()) == [6]


def test_there_are_no_trials_before_the_first(folder):
  assert folder.trials() == {}
  folder.refuse_to_mix(range(10))


def test_make_makes_every_folder_above_and_leaves_nothing_in_it(folder):
  folder.make()
  folder.make()  # nothing to do
  assert everything_below(folder.root.parent) == {'logs': None, 'logs/digits_jax': None}


def test_a_check_makes_nothing(folder):
  folder.check_place()
  assert not folder.root.exists()


@pytest.mark.parametrize('method', ['make', 'check_place'])
@pytest.mark.parametrize('depth', [0, 1, 2])
def test_a_file_in_the_way_is_told(tmp_path, method, depth):
  file = tmp_path / 'file'
  file.write_text('x')
  root = file.joinpath(*['below'] * depth)
  with pytest.raises(UsageError, match='--log_dir'):
    getattr(RunFolder(root, 'digits_jax'), method)()
  assert file.read_text() == 'x'


@pytest.mark.parametrize('method', ['make', 'check_place'])
def test_a_name_too_long_is_told(tmp_path, method):
  with pytest.raises(UsageError, match='cannot be written to'):
    getattr(RunFolder(tmp_path / ('x' * 300), 'digits_jax'), method)()


def test_a_folder_that_may_not_be_written_to_is_told():
  if not Path('/proc/self').is_dir():
    pytest.skip('there is no /proc, which takes no new folders even from root')
  with pytest.raises(UsageError, match='cannot be written to'):
    RunFolder(Path('/proc/logs'), 'digits_jax').make()


# Not mixing runs.


def refusal(folder, indices):
  with pytest.raises(UsageError) as caught:
    folder.refuse_to_mix(indices)
  assert '\n' not in str(caught.value)
  assert repr(str(folder.path)) in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('status', ['complete', 'failed'])
def test_a_finished_run_is_not_mixed_with(folder, status):
  for index in range(2):
    start_trial(folder, index, status)
  message = refusal(folder, range(2))
  assert 'finished run (run_1, run_2)' in message
  assert '--overwrite deletes it' in message
  assert '--log_dir' in message
  assert '--resume' not in message  # there is nothing to go on with


@pytest.mark.parametrize('status', ['running', 'interrupted', None])
def test_an_unfinished_run_may_be_gone_on_with(folder, status):
  start_trial(folder, 0, 'complete')
  start_trial(folder, 1, status)
  message = refusal(folder, range(2))
  assert 'did not finish (run_2)' in message
  for choice in ('--resume goes on with it', '--overwrite deletes it', '--log_dir'):
    assert choice in message


def test_other_trials_of_the_same_study_are_no_hindrance(folder):
  start_trial(folder, 0, 'complete')
  start_trial(folder, 3, 'running')
  folder.refuse_to_mix(range(1, 3))
  assert 'run_1' in refusal(folder, range(2))
  assert 'run_4' in refusal(folder, range(3, 10))


def test_a_command_that_is_just_beginning_is_no_hindrance(folder):
  folder.path.mkdir(parents=True)
  folder.metadata.write_text('{}')
  assert 'did not begin its first trial' in refusal(folder, range(2))
  folder.trial(3).lock.touch()
  folder.refuse_to_mix(range(2))


@pytest.mark.parametrize('text', ['', '{"status": ', '[]', '{}', '\xff'])
def test_a_state_that_cannot_be_read_is_told(folder, text):
  trial = start_trial(folder, 0, None)
  trial.state.write_text(text, encoding='latin-1')
  with pytest.raises(UsageError, match=r'trial\.json'):
    folder.refuse_to_mix(range(1))


def test_the_state_is_what_was_written(folder):
  trial = start_trial(folder, 0, 'complete')
  assert trial.read_state() == {'status': 'complete', 'reason': ''}
  assert folder.trial(1).read_state() is None


# Overwriting.


def test_clear_removes_the_record_and_leaves_what_strangers_put_there(folder):
  for index in (0, 1, 11):
    trial = start_trial(folder, index, 'complete')
    trial.hparams.write_text('{}')
    trial.set_aside()
    trial.error.write_text('Traceback')
  folder.metadata.write_text('{}')
  folder.packages.write_text('')
  strangers = {
    folder.root / 'console_output.log': 'what tee wrote',
    folder.root / 'all_metrics.csv': 'a,b',
    folder.path / 'notes.txt': 'mine',
    folder.path / 'run_1.zip': 'packed',
    folder.path / 'run_1' / 'plot.png': 'drawn by hand',
    folder.path / 'run_notes' / 'a.txt': 'mine',
    folder.root / 'mnist_jax' / 'run_1' / 'metrics.csv': 'another run',
  }
  for path, text in strangers.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
  folder.clear()
  left = {path: path.read_text() for path in folder.root.rglob('*') if path.is_file()}
  assert left == strangers
  assert not folder.trial(1).path.exists()
  assert not folder.trial(11).path.exists()


def test_clear_removes_what_a_kill_left_half_written(folder):
  trial = start_trial(folder, 0, 'running')
  (trial.path / '.trial.json.1234.tmp').write_text('{"sta')
  folder.clear()
  assert everything_below(folder.path) == {}


def test_clear_does_not_follow_links(folder, tmp_path):
  elsewhere = tmp_path / 'elsewhere'
  elsewhere.mkdir()
  (elsewhere / 'kept').write_text('x')
  trial = start_trial(folder, 0, 'complete')
  (trial.path / 'checkpoints').symlink_to(elsewhere)
  folder.clear()
  assert (elsewhere / 'kept').read_text() == 'x'
  assert not trial.path.exists()


def test_there_may_be_nothing_to_clear(folder):
  folder.clear()
  folder.make()
  folder.clear()
  assert folder.path.is_dir()


# Starting a trial anew.


def test_what_an_attempt_left_is_kept_under_another_name(folder):
  trial = start_trial(folder, 0, 'interrupted')
  trial.hparams.write_text('{"a": 1}')
  (trial.path / 'mine.txt').write_text('x')
  before = everything_below(trial.path)
  assert trial.set_aside() == 'attempt_1'
  assert trial.read_state() is None
  assert everything_below(trial.path) == {
    'hparams.json': '{"a": 1}',
    'mine.txt': 'x',
    'metrics.csv.attempt_1': before['metrics.csv'],
    'metrics.jsonl.attempt_1': before['metrics.jsonl'],
    'trial.json.attempt_1': before['trial.json'],
  }


def test_later_attempts_keep_those_before(folder):
  trial = start_trial(folder, 0, 'interrupted')
  seen = [everything_below(trial.path)]
  assert trial.set_aside() == 'attempt_1'
  trial.metrics_csv.write_text('second')
  assert trial.set_aside() == 'attempt_2'
  trial.error.write_text('third')
  trial.metrics_jsonl.write_text('third')
  assert trial.set_aside() == 'attempt_3'  # though the second left neither of these
  seen.append(everything_below(trial.path))
  for name, text in seen[0].items():
    assert seen[1][f'{name}.attempt_1'] == text
  assert sorted(set(seen[1].values()) - set(seen[0].values())) == ['second', 'third']
  assert len(seen[1]) == 6


def test_there_may_be_nothing_to_set_aside(folder):
  assert folder.trial(0).set_aside() is None
  trial = start_trial(folder, 1, 'running')
  trial.set_aside()
  assert trial.set_aside() is None
