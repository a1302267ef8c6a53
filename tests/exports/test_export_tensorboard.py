"""scripts/export.py, and its event files as TensorBoard's own reader finds them."""

import importlib.util
import json
import math
import os
import subprocess
import sys
import tarfile
import time

import pytest
import scripts_in_process
from conftest import ROOT
from recorded import ALGOPERF, START, algoperf_trial, lines, numbers, row, sample, trial

SCRIPT = ROOT / 'scripts' / 'export.py'
PUBLISHED = ROOT.parent / 'shared' / 'data' / 'algoperf_v05_self_tuning.tar.gz'
needs_tensorboard = pytest.mark.skipif(
  importlib.util.find_spec('tensorboard') is None,
  reason='tensorboard is not installed',
)


def export(*arguments, expect=0):
  """Runs the script in this process."""
  done = scripts_in_process.run(SCRIPT, *arguments)
  assert done.returncode == expect, done.stdout + done.stderr
  return done


class Board:
  """A run's events, by TensorBoard's reader."""

  def __init__(self, folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    self._events = EventAccumulator(str(folder), size_guidance={'tensors': 0})
    self._events.Reload()
    self._read = tensor_util.make_ndarray

  def scalars(self):
    """{tag: [(step, wall time, value)]}."""
    names = self._events.PluginTagToContent('scalars')
    return {
      name: [(e.step, e.wall_time, self._read(e.tensor_proto).item())
             for e in self._events.Tensors(name)]
      for name in names
    }  # fmt: skip

  def text(self, name):
    """A text's content."""
    assert f'{name}/text_summary' in self._events.PluginTagToContent('text')
    (event,) = self._events.Tensors(f'{name}/text_summary')
    return self._read(event.tensor_proto).item().decode()

  def hparams(self):
    """Hyperparameters and status, as the plugin of that name has them."""
    from tensorboard.plugins.hparams import metadata

    contents = self._events.PluginTagToContent('hparams')
    start = metadata.parse_session_start_info_plugin_data(contents['_hparams_/session_start_info'])
    end = metadata.parse_session_end_info_plugin_data(contents['_hparams_/session_end_info'])
    values = {n: v.number_value or v.string_value for n, v in start.hparams.items()}
    return values, end.status


def as_recorded(folder):
  """{column: [(step, time, value)]} of a metrics.jsonl, by nothing but JSON."""
  found = {}
  for line in (folder / 'metrics.jsonl').read_text().splitlines():
    content = json.loads(line)
    for name, value in numbers(content).items():
      at = found.setdefault(name, [])
      at.append((content['global_step'], content['recorded_at'], value))
  return found


@needs_tensorboard
def test_all_of_a_record_is_there_to_the_last_digit(tmp_path):
  folder = trial(tmp_path / 'logs')
  export(tmp_path / 'logs')
  board = Board(tmp_path / 'logs/exports/tensorboard/digits_jax/run_1')
  scalars = board.scalars()
  rows = {name: points for name, points in scalars.items() if not name.startswith('telemetry/')}
  assert rows == as_recorded(folder)
  assert scalars['telemetry/gpu.0.power.watts'] == [
    (0, START, 100.5), (500, START + 0.5, 101.0), (1000, START + 1, 101.5),
  ]  # fmt: skip
  assert board.hparams() == ({'learning_rate': 0.001, 'opt': 'adam'}, 1)  # STATUS_SUCCESS
  assert '| cpu_count | 2 |' in board.text('metadata')
  assert '| status | complete |' in board.text('status')
  assert '| goal_reached | true |' in board.text('status')


@needs_tensorboard
def test_a_failed_trial_says_so_and_keeps_what_is_not_finite(tmp_path):
  rows = [row(1), row(2, **{'validation/loss': 'NaN', 'accumulated_submission_time': 'Infinity'})]
  trial(tmp_path, rows=rows, status='failed', reason='loss | no\nnumber', goal_reached=False)
  export(tmp_path)
  board = Board(tmp_path / 'exports/tensorboard/digits_jax/run_1')
  scalars = board.scalars()
  assert math.isnan(scalars['validation/loss'][1][2])
  assert scalars['accumulated_submission_time'][1][2] == math.inf
  assert board.hparams()[1] == 2  # STATUS_FAILURE
  assert '| reason | loss \\| no number |' in board.text('status')


@needs_tensorboard
def test_twice_is_once_and_what_has_changed_is_made_anew(tmp_path):
  folder = trial(tmp_path / 'logs')
  trial(tmp_path / 'logs', 2)
  file = 'exports/tensorboard/digits_jax/run_1/events.out.tfevents.algorithmic_efficiency'
  first = export(tmp_path / 'logs').stdout
  written = (tmp_path / 'logs' / file).read_bytes()
  again = export(tmp_path / 'logs').stdout
  assert first.startswith('tensorboard: 2 trials with 6 rows in ')
  assert again.startswith('tensorboard: 0 trials with 0 rows in ')
  assert '2 unchanged and skipped' in again
  assert (tmp_path / 'logs' / file).read_bytes() == written
  with (folder / 'metrics.jsonl').open('a') as more:
    more.write(lines([row(30)]))
  assert '1 trials with 4 rows' in export(tmp_path / 'logs').stdout
  board = Board((tmp_path / 'logs' / file).parent)
  assert [step for step, _, _ in board.scalars()['validation/loss']] == [1, 10, 20, 30]


@needs_tensorboard
def test_the_same_record_gives_the_same_bytes(tmp_path):
  trial(tmp_path / 'logs')
  files = []
  for name in 'ab':
    export(tmp_path / 'logs', f'--output_dir={tmp_path / name}')
    files.append(
      next((tmp_path / name).rglob('events*')).read_bytes()
    )  # fmt: skip
  assert files[0] == files[1]
  assert not (tmp_path / 'logs' / 'exports').exists()


@needs_tensorboard
def test_a_killed_run_has_all_of_its_rows(tmp_path):
  folder = trial(tmp_path, status='running', samples=[sample(0)])
  text = (folder / 'metrics.jsonl').read_text()
  (folder / 'metrics.jsonl').write_text(text + text[:50])
  done = export(tmp_path)
  assert done.stderr == 'export: digits_jax/run_1: left out the torn last line of metrics.jsonl.\n'
  board = Board(tmp_path / 'exports/tensorboard/digits_jax/run_1')
  assert len(board.scalars()['global_step']) == 3
  assert '| status | killed |' in board.text('status')


@needs_tensorboard
def test_algoperf_logs(tmp_path):
  folder = algoperf_trial(tmp_path / 'study_0')
  os.utime(folder / 'eval_measurements.csv', (START, START))
  (folder / 'hparams.json').write_text('{"lr": 0.5}')
  (folder / 'meta_data_0.json').write_text('{"rng_seed": 7}')
  export(tmp_path / 'study_0', '--no_telemetry')
  board = Board(tmp_path / 'study_0_exports/tensorboard/fastmri_pytorch/trial_1')
  scalars = board.scalars()
  assert scalars.keys() == set(ALGOPERF[0])
  assert scalars['score'] == [
    (100, START - 24.5, 10.5), (200, START - 12.25, 21.0), (300, START, 31.5),
  ]  # fmt: skip
  assert board.hparams()[0] == {'lr': 0.5}
  assert '| rng_seed | 7 |' in board.text('metadata')


@needs_tensorboard
@pytest.mark.skipif(not PUBLISHED.exists(), reason='needs the published logs in ../shared/data')
def test_published_logs(tmp_path):
  import pandas

  with tarfile.open(PUBLISHED) as archive:
    members = [m for m in archive.getmembers() if '/adamg/study_0/' in m.name][:3]
    archive.extractall(tmp_path, members, filter='data')
  assert '3 trials with ' in export(tmp_path).stdout
  for path in tmp_path.rglob('eval_measurements.csv'):
    table = pandas.read_csv(path)
    name = path.parent.relative_to(tmp_path)
    scalars = Board(tmp_path.with_name(f'{tmp_path.name}_exports') / 'tensorboard' / name).scalars()
    assert scalars.keys() == set(table.columns)
    for column, points in scalars.items():
      assert [step for step, _, _ in points] == list(table['global_step'])
      ours = pandas.Series([value for _, _, value in points], name=column, dtype=float)
      pandas.testing.assert_series_equal(ours, table[column].astype(float))
    gaps = [b[1] - a[1] for a, b in zip(scalars['score'], scalars['score'][1:], strict=False)]
    assert gaps == pytest.approx(list(table['total_duration'].diff()[1:]), abs=1e-4)


def test_nothing_heavy_is_imported_for_help_or_a_wrong_command():
  script = (
    'import runpy, sys\n'
    f'sys.argv = ["export.py", *sys.argv[1:]]\n'
    'try:\n'
    f'  runpy.run_path({str(SCRIPT)!r}, run_name="__main__")\n'
    'finally:\n'
    '  heavy = {"tensorboard", "wandb", "mlflow", "numpy", "google", "jax", "torch"}\n'
    '  sys.stderr.write("heavy:" + ",".join(sorted(heavy & set(sys.modules))))\n'
  )
  for argument, code in (('--help', 0), ('nowhere', 2)):
    done = subprocess.run(
      [sys.executable, '-c', script, argument], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.endswith('heavy:'), done.stderr
    assert done.returncode == code


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
  trial(tmp_path)
  monkeypatch.delenv('MLFLOW_TRACKING_URI', raising=False)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  local = 'mlflow and sqlalchemy and alembic'
  for name, packages in (('tensorboard', 'tensorboard'), ('wandb', 'wandb'), ('mlflow', local)):
    done = export(tmp_path, f'--to={name}', expect=2)
    assert done.stderr == (
      f"export: error: --to='{name}' needs {packages}, not installed here; "
      f'pip install "algorithmic-efficiency[{name}]".\n'
    )
  assert not (tmp_path / 'exports').exists()


@pytest.mark.parametrize(
  ('arguments', 'code', 'words'),
  [
    (['--to=tensorbord'], 2, "did you mean 'tensorboard'?"),
    (['--to='], 2, 'There are: mlflow, tensorboard, wandb.'),
    (['--telemetry_period_sec=-1'], 2, "'-1' is not a number of seconds"),
    ([], 1, 'no trial was found at or below'),
  ],
)
def test_wrong_commands(tmp_path, arguments, code, words):
  if not arguments:
    arguments = ['--to=tensorboard']
    pytest.importorskip('tensorboard')
  done = export(tmp_path, *arguments, expect=code)
  assert words in done.stderr
  assert 'Traceback' not in done.stderr


@needs_tensorboard
def test_an_output_that_cannot_be_written_is_told(tmp_path):
  trial(tmp_path / 'logs')
  (tmp_path / 'file').write_text('')
  done = export(tmp_path / 'logs', f'--output_dir={tmp_path}/file', expect=1)
  assert 'could not be exported to tensorboard' in done.stderr
  assert 'Traceback' not in done.stderr


@needs_tensorboard
def test_progress_is_told_of_many_trials(tmp_path, monkeypatch):
  for number in range(1, 4):
    trial(tmp_path, number)
  clock = iter(range(0, 10**6, 20))
  monkeypatch.setattr(time, 'monotonic', lambda: float(next(clock)))
  done = export(tmp_path)
  assert '1/3 trials, ' in done.stderr
