"""Exports to W&B and MLflow, and beside a run, read back by the libraries' own readers."""

import contextlib
import importlib.util
import json
import math
import os
import signal
import struct
import subprocess
import sys
import time

import psutil
import pytest
from conftest import ROOT
from recorded import START, algoperf_trial, lines, numbers, row, trial
from test_export_tensorboard import Board, as_recorded

# MLflow's own reader uses what its data base layer has marked as old.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings('ignore::DeprecationWarning')]
SCRIPT = ROOT / 'scripts' / 'export.py'
_EXPORTER = 'algorithmic_efficiency.exports.sidecar'


def needs(*packages):
  """Skips a test where one of them is not installed."""
  missing = [name for name in packages if importlib.util.find_spec(name) is None]
  return pytest.mark.skipif(bool(missing), reason=f'{" and ".join(missing)} not installed')


@pytest.fixture(autouse=True)
def _nobodys_settings(monkeypatch, tmp_path):
  """Neither keys nor servers of whoever runs the tests."""
  for name in list(os.environ):
    if name.startswith(('WANDB_', 'MLFLOW_')):
      monkeypatch.delenv(name)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  (tmp_path / 'home').mkdir()


def export(logs, to, expect=0, **environment):
  """Runs the script as a user does, at a terminal that nobody sits at."""
  done = subprocess.run(
    [sys.executable, str(SCRIPT), str(logs), f'--to={to}'], capture_output=True, text=True,
    timeout=200, stdin=subprocess.DEVNULL, env={**os.environ, **environment},
  )  # fmt: skip
  assert done.returncode == expect, done.stdout + done.stderr
  assert 'Traceback' not in done.stderr
  return done


class Offline:
  """An offline run of W&B, from its file: LevelDB's log format with W&B's own messages in it."""

  def __init__(self, output, name):
    from wandb.proto import wandb_internal_pb2

    self.history, self.summary, self.config, self.exit = [], {}, {}, None
    found = []
    for path in (output / 'wandb' / 'wandb').glob('offline-run-*/run-*.wandb'):
      records = []
      for data in _records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        records.append(record)
      if any(r.WhichOneof('record_type') == 'run' and r.run.display_name == name for r in records):
        found.append(records)
    (records,) = found  # one run, once
    for record in records:
      kind = record.WhichOneof('record_type')
      if kind == 'run':
        self.config = {u.key: json.loads(u.value_json) for u in record.run.config.update}
        self.key = record.run.run_id
      elif kind == 'history':
        items = record.history.item
        self.history.append({_name(item): json.loads(item.value_json) for item in items})
      elif kind == 'summary':
        for item in record.summary.update:
          self.summary[_name(item)] = json.loads(item.value_json)
      elif kind == 'exit':
        self.exit = record.exit.exit_code

  def rows(self):
    """The rows of the record, without W&B's own names."""
    return [
      {n: float(v) for n, v in each.items() if not n.startswith('_')}
      for each in self.history if 'global_step' in each
    ]  # fmt: skip


def _name(item):
  return item.key or '/'.join(item.nested_key)


def _records(data, block=32768, header=7):
  """The records of a log in LevelDB's format: its file doc/log_format.md describes it."""
  at, record = header, b''  # W&B's own header is as long as one of a record
  while at + header <= len(data):
    left = block - at % block
    _, size, kind = struct.unpack('<IHB', data[at : at + header])
    if left < header or kind == 0:
      at += left
      continue
    record += data[at + header : at + header + size]
    at += header + size
    if kind in (1, 4):  # whole, or the last part
      yield record
      record = b''


class Tracked:
  """Runs of MLflow, by its client."""

  def __init__(self, output):
    import mlflow

    self._client = mlflow.MlflowClient(tracking_uri=f'sqlite:///{output}/mlflow/mlflow.db')
    experiments = self._client.search_experiments()
    (self._experiment,) = [e for e in experiments if e.name == 'algorithmic_efficiency']
    self.runs = {
      run.info.run_name: run for run in self._client.search_runs([self._experiment.experiment_id])
    }

  def history(self, name):
    """{metric: [(step, timestamp in ms, value)]}."""
    run = self.runs[name]
    return {
      metric: [(m.step, m.timestamp, m.value)
               for m in self._client.get_metric_history(run.info.run_id, metric)]
      for metric in run.data.metrics
    }  # fmt: skip


def in_ms(recorded):
  """What MLflow holds of a record."""
  return {n: [(s, round(t * 1000), v) for s, t, v in points] for n, points in recorded.items()}


@needs('wandb')
def test_wandb_offline_holds_the_record_and_is_made_once(tmp_path):
  logs, output = tmp_path / 'logs', tmp_path / 'logs' / 'exports'
  folder = trial(logs)
  failed = [row(1, **{'train/loss': 'NaN'})]
  trial(logs, 2, rows=failed, status='failed', reason='no number', goal_reached=False)
  done = export(logs, 'wandb')
  assert done.stderr.count('\n') == 1
  assert done.stderr.startswith('export: wandb: offline (no key is configured); upload with: ')
  run = Offline(output, 'digits_jax/run_1')
  recorded = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
  assert run.rows() == [numbers(each) for each in recorded]
  times = [each['_timestamp'] for each in run.history if 'global_step' in each]
  assert times == [each['recorded_at'] for each in recorded]
  watts = [(h['_timestamp'], h['telemetry/gpu.0.power.watts']) for h in run.history
           if 'telemetry/seconds' in h]  # fmt: skip
  assert watts == [(START, 100.5), (START + 0.5, 101.0), (START + 1, 101.5)]
  assert run.config['hparams'] == {'learning_rate': 0.001, 'opt': 'adam'}
  assert run.config['metadata']['cpu_count'] == 2
  assert run.summary['trial/status'] == 'complete'
  assert run.summary['trial/goal_reached'] is True
  assert run.exit == 0
  other = Offline(output, 'digits_jax/run_2')
  assert math.isnan(other.rows()[0]['train/loss'])
  assert (other.summary['trial/reason'], other.exit) == ('no number', 1)

  assert '2 unchanged and skipped' in export(logs, 'wandb').stdout
  with (folder / 'metrics.jsonl').open('a') as more:
    more.write(lines([row(30)]))
  export(logs, 'wandb', WANDB_MODE='offline')
  again = Offline(output, 'digits_jax/run_1')
  assert [each['global_step'] for each in again.rows()] == [1, 10, 20, 30]
  assert again.key == run.key


@needs('wandb')
@pytest.mark.parametrize('mode', [None, 'online'])
def test_wandb_neither_asks_nor_hangs_where_there_is_no_server(tmp_path, mode):
  trial(tmp_path / 'logs')
  environment = {} if mode is None else {'WANDB_MODE': mode}
  began = time.monotonic()
  done = export(
    tmp_path / 'logs', 'wandb', WANDB_API_KEY='0' * 40, WANDB_BASE_URL='http://127.0.0.1:9',
    **environment,
  )  # fmt: skip
  assert time.monotonic() - began < 100
  assert 'offline (http://127.0.0.1:9 does not answer: Connection refused)' in done.stderr
  assert len(Offline(tmp_path / 'logs/exports', 'digits_jax/run_1').rows()) == 3


@needs('mlflow', 'sqlalchemy')
def test_mlflow_holds_the_record_and_goes_on_with_its_run(tmp_path):
  logs, output = tmp_path / 'logs', tmp_path / 'logs' / 'exports'
  folder = trial(logs)
  algoperf_trial(logs / 'study_0')
  rows = [row(1, **{'train/loss': 'NaN'})]
  trial(logs, 2, rows=rows, status='failed', reason='no number', goal_reached=False)
  assert '3 trials with 7 rows' in export(logs, 'mlflow').stdout
  tracked = Tracked(output)
  assert set(tracked.runs) == {
    'digits_jax/run_1', 'digits_jax/run_2', 'study_0/fastmri_pytorch/trial_1'
  }  # fmt: skip
  run = tracked.runs['digits_jax/run_1']
  history = tracked.history('digits_jax/run_1')
  of_rows = {n: points for n, points in history.items() if not n.startswith('telemetry/')}
  assert of_rows == in_ms(as_recorded(folder))
  assert history['telemetry/gpu.0.power.watts'] == [
    (0, 1000 * START, 100.5), (500, 1000 * START + 500, 101.0), (1000, 1000 * START + 1000, 101.5)
  ]  # fmt: skip
  assert run.data.params == {'learning_rate': '0.001', 'opt': 'adam'}
  assert run.data.tags['cpu_count'] == '2'
  assert (run.data.tags['trial.status'], run.info.status) == ('complete', 'FINISHED')
  other = tracked.runs['digits_jax/run_2']
  assert (other.data.tags['trial.reason'], other.info.status) == ('no number', 'FAILED')
  assert math.isnan(tracked.history('digits_jax/run_2')['train/loss'][0][2])

  assert '3 unchanged and skipped' in export(logs, 'mlflow').stdout
  with (folder / 'metrics.jsonl').open('a') as more:  # taken up again
    more.write(lines([row(30)]))
  export(logs, 'mlflow')
  tracked = Tracked(output)
  assert tracked.runs['digits_jax/run_1'].info.run_id == run.info.run_id
  history = tracked.history('digits_jax/run_1')
  assert history['global_step'] == in_ms(as_recorded(folder))['global_step']
  assert len(history['telemetry/seconds']) == 3

  # Rows that a resume recorded anew are not there twice: the run is begun again.
  (folder / 'metrics.jsonl').write_text(lines([row(1), row(10, recorded_at=START + 100)]))
  export(logs, 'mlflow')
  assert (
    Tracked(output).history('digits_jax/run_1')['global_step']
    == (in_ms(as_recorded(folder))['global_step'])
  )


@needs('mlflow')
def test_an_mlflow_server_that_is_not_there_is_told(tmp_path):
  trial(tmp_path)
  done = export(tmp_path, 'mlflow', expect=1, MLFLOW_TRACKING_URI='http://127.0.0.1:9')
  assert done.stderr.startswith('export: error: mlflow cannot be opened: ')
  assert len(done.stderr.splitlines()) == 1


def board_of(command, trial_number=1):
  """What TensorBoard shows of a run's trial."""
  return Board(command.log_dir / f'exports/tensorboard/digits_jax/run_{trial_number}')


def folder_of(command, number=1):
  """A trial's record."""
  return command.log_dir / 'digits_jax' / f'run_{number}'


@needs('tensorboard', 'wandb', 'mlflow', 'sqlalchemy')
def test_beside_a_run_all_that_is_recorded_is_exported(command):
  out = command.run(
    num_tuning_trials=2, telemetry='continuous', export='tensorboard,mlflow', use_wandb=True
  )
  assert 'exported to tensorboard: ' in out
  assert 'exported to wandb: ' in out
  assert 'exported to mlflow: ' in out
  tracked = Tracked(command.log_dir / 'exports')
  for number in (1, 2):
    recorded = as_recorded(folder_of(command, number))
    scalars = board_of(command, number).scalars()
    assert {n: p for n, p in scalars.items() if not n.startswith('telemetry/')} == recorded
    samples = (folder_of(command, number) / 'telemetry.jsonl').read_text().count('"sample"')
    assert len(scalars['telemetry/seconds']) == samples > 0
    history = tracked.history(f'digits_jax/run_{number}')
    assert {n: p for n, p in history.items() if not n.startswith('telemetry/')} == in_ms(recorded)
    rows = Offline(command.log_dir / 'exports', f'digits_jax/run_{number}').rows()
    assert [each['global_step'] for each in rows] == [p[2] for p in recorded['global_step']]
  done = export(command.log_dir, 'tensorboard,wandb,mlflow')
  assert done.stdout.count('2 unchanged and skipped') == 3


@needs('tensorboard')
def test_a_killed_run_is_exported_and_goes_on_in_the_same_place(command):
  flags = {
    'max_global_steps': 8000, 'eval_period_steps': 20, 'data': 'synthetic', 'export': 'tensorboard',
  }  # fmt: skip
  process = subprocess.Popen(command.arguments(**flags), stdout=subprocess.DEVNULL)
  file = folder_of(command) / 'metrics.jsonl'
  wait_until(lambda: file.exists() and file.read_bytes().count(b'\n') > 5)
  assert_last_in_line(process.pid)
  process.send_signal(signal.SIGKILL)
  process.wait()
  rows = file.read_bytes().count(b'\n')
  events = command.log_dir / 'exports/tensorboard/digits_jax/run_1'
  wait_until(lambda: _status_of(events) == 'killed')  # by the exporter alone, which then ends
  assert len(Board(events).scalars()['global_step']) == rows
  command.run(**flags, resume=True)
  board = Board(events)
  scalars = {n: p for n, p in board.scalars().items() if not n.startswith('telemetry/')}
  assert scalars == as_recorded(folder_of(command))
  assert '| status | complete |' in board.text('status')


def assert_last_in_line(run):
  """The exporter of a run leaves it the processor, and its Ctrl-C.

  In another session Linux would weigh the two alike, whatever their priorities (autogroups).
  """
  (exporter,) = (p.pid for p in psutil.Process(run).children() if _EXPORTER in p.cmdline())
  assert os.sched_getscheduler(exporter) == os.SCHED_IDLE
  assert os.getsid(exporter) == os.getsid(run)
  assert os.getpgid(exporter) != os.getpgid(run)


def _status_of(events):
  if not list(events.glob('events*')):
    return None
  with contextlib.suppress(KeyError, AssertionError):
    text = Board(events).text('status')
    return next(word for word in ('killed', 'complete', 'failed') if f'| {word} |' in text)
  return None


def wait_until(condition, seconds=120):
  """Waits for something that must come."""
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.1)


@needs('tensorboard')
def test_an_export_that_fails_does_not_fail_the_run(command):
  output = command.log_dir / 'exports' / 'tensorboard'
  output.parent.mkdir(parents=True)
  output.write_text('in the way')
  done = subprocess.run(
    command.arguments(export='tensorboard'), capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  (line,) = done.stderr.splitlines()
  assert line.startswith('warning: export to tensorboard failed (')
  assert line.endswith('); the record is whole: scripts/export.py exports it')
  assert command.state('digits_jax')['status'] == 'complete'


@needs('tensorboard', 'wandb', 'mlflow')
def test_the_process_that_trains_imports_nothing_of_it(command, tmp_path):
  """A submission looks around at its last step: with an export beside, and without."""
  names = ['tensorboard', 'wandb', 'mlflow']
  folder = tmp_path / 'spying'
  folder.mkdir()
  source = (ROOT / 'baselines/mnist/mnist_jax/submission.py').read_text()
  source += (
    '\n\nimport atexit, json, os, sys\n'
    'atexit.register(lambda: open(os.environ["SEEN"], "w").write('
    f'json.dumps([n for n in {names!r} if n in sys.modules])))\n'
  )
  (folder / 'submission.py').write_text(source)
  for given in (None, 'tensorboard,wandb'):
    seen = tmp_path / f'seen_{given}.json'
    done = subprocess.run(
      command.arguments(
        submission_path=folder / 'submission.py', export=given, log_dir=tmp_path / f'logs_{given}'
      ),
      capture_output=True, text=True, timeout=120, env={**os.environ, 'SEEN': str(seen)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(seen.read_text()) == []
  assert not list((tmp_path / 'logs_None').rglob('exports'))


@needs('tensorboard')
def test_the_exporter_is_not_counted_as_the_jobs(command):
  """Neither by the rows nor by the sampler."""
  command.run(export='tensorboard', telemetry='continuous', max_global_steps=2000,
              data='synthetic', eval_period_steps=500)  # fmt: skip
  with_export = _most_processes(folder_of(command))
  command.log_dir = command.log_dir.with_name('plain')
  command.run(telemetry='continuous', max_global_steps=2000, data='synthetic',
              eval_period_steps=500)  # fmt: skip
  assert with_export == _most_processes(folder_of(command))


def _most_processes(folder):
  """Of the job at the end: what ran beside its start is gone by then."""
  rows = (folder / 'metrics.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in (folder / 'telemetry.jsonl').read_text().splitlines()]
  samples = [line['proc.count'] for line in lines if 'proc.count' in line]
  return samples[-1], json.loads(rows[-1])['proc.count']
