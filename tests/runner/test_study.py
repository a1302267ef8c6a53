"""A study on a framework of numpy alone: what submissions see, what is recorded, and going on.

The data and the metrics are those of the digits workload; the model is a matrix.
"""

import dataclasses
import importlib
import json
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.runner import beside
from algorithmic_efficiency.runner.interrupts import Interrupted
from algorithmic_efficiency.runner.settings import Settings, check
from algorithmic_efficiency.runner.study import Study
from algorithmic_efficiency.workloads.digits import FACTS, input_pipeline

SUBMISSION = '''
"""Gradient descent on the cross entropy of a linear classifier; writes down what it is told."""

import json
import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent
SEEN = []


def get_batch_size(workload_name):
  return 32


def init_optimizer_state(workload, params, model_state, hyperparameters, rng):
  return {'first_key': np.asarray(rng).tolist()}


def update_params(
  workload, current_param_container, current_params_types, model_state, hyperparameters, batch,
  loss_type, optimizer_state, eval_results, global_step, rng,
):
  trouble = HERE / f'trouble_{hyperparameters.learning_rate}'
  if trouble.exists() and global_step == 12:
    exec(trouble.read_text())
  inputs = batch['inputs'].reshape(len(batch['inputs']), -1)
  logits = inputs @ current_param_container
  probabilities = np.exp(logits - logits.max(1, keepdims=True))
  probabilities /= probabilities.sum(1, keepdims=True)
  probabilities[np.arange(len(inputs)), batch['targets']] -= 1
  params = current_param_container - hyperparameters.learning_rate * inputs.T @ probabilities / 32
  if workload.metrics_logger is not None:
    workload.metrics_logger.append_scalar_metrics({'drawn': np.random.random()}, global_step)
  (HERE / 'eval_results.json').write_text(json.dumps(eval_results))
  return optimizer_state, params, model_state


def prepare_for_eval(current_param_container, optimizer_state, model_state, **_):
  np.save(HERE / 'params.npy', current_param_container)
  return optimizer_state, current_param_container, model_state


def data_selection(
  workload, input_queue, optimizer_state, params, model_state, hyperparameters, step, rng
):
  return next(input_queue)
'''


class NumpyFramework:
  """As frameworks.on_jax and on_pytorch, for a matrix."""

  NAME = 'numpy'
  processes = SimpleNamespace(
    count=lambda: 1,
    index=lambda: 0,
    share=lambda value: value,
    gather=lambda numbers: np.array([numbers]),
  )

  # Arrays of numpy are what a state tree knows by itself.
  state = SimpleNamespace(
    ARRAYS_SUFFIX='.npz',
    pack=lambda x, store, value: None,
    attributes=lambda x: None,
    hidden=dict,
    restore_hidden=lambda state: None,
    Unpacking=lambda arrays: None,
    write=lambda file, arrays: np.savez(file, **arrays),
    read=lambda path: dict(np.load(path)),
  )

  def is_out_of_memory(self, error):
    return isinstance(error, MemoryError)

  def wrap(self, params, model_state, compiled):
    assert not compiled
    return params, model_state

  def unwrap(self, params, model_state):
    return params, model_state

  def device_uuids(self):
    return []

  def compile_seconds(self):
    return 0.0

  def device(self):
    return 'cpu'

  def num_devices(self):
    return 1

  def describe_devices(self):
    return '1 x abacus'

  def seed(self, seed):
    self.hidden_seed = seed

  def keys(self, numbers):
    return numbers

  def place(self, batch):
    return batch

  def place_all(self, batches):
    return batches

  def wait(self, *trees):
    pass

  def free_memory(self):
    pass

  def init(self, model, inputs, seed):
    size = int(np.prod(inputs.shape[1:]))
    return np.random.default_rng(seed).normal(0, 0.01, (size, 10)), None

  def param_shapes(self, params):
    return params.shape

  def param_types(self, params):
    return 'weight'

  def predictor(self, predict):
    return predict

  def apply(self, model, params, inputs, model_state, *_):
    return inputs.reshape(len(inputs), -1) @ params, model_state

  def loss(self, loss_type, targets, logits, mask=None, label_smoothing=0.0):
    shifted = logits - logits.max(1, keepdims=True)
    each = np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(targets)), targets]
    return {'per_example': each if mask is None else each * mask}


@dataclasses.dataclass(frozen=True)
class Digits:
  """The digits workload with a model of numpy."""

  facts = FACTS
  folder = 'digits'

  def part(self, name):
    if name == 'model_numpy':
      return SimpleNamespace(build_model=lambda facts: None, OUTPUT_PARAMS=set())
    return importlib.import_module(f'algorithmic_efficiency.workloads.digits.{name}')


@pytest.fixture
def bench(tmp_path, monkeypatch):
  """Makes a Study of two trials of 30 steps, evaluated every 10."""
  monkeypatch.setattr(frameworks, 'load', lambda *_: NumpyFramework())
  monkeypatch.syspath_prepend(str(tmp_path))  # what loading a submission adds goes again
  (tmp_path / 'submission.py').write_text(SUBMISSION)
  (tmp_path / 'space.json').write_text('[{"learning_rate": 0.1}, {"learning_rate": 0.05}]')
  settings = Settings(
    workload='digits',
    framework='jax',  # a name that is known; what is loaded is the framework of numpy
    submission_path=str(tmp_path / 'submission.py'),
    tuning_ruleset='external',
    tuning_search_space=str(tmp_path / 'space.json'),
    num_tuning_trials=2,
    log_dir=str(tmp_path / 'logs'),
    experiment_dir=None,
    experiment_name=None,
    data_dir=None,
    data='real',
    rng_seed=5,
    max_global_steps=30,
    eval_period_steps=10,
    batch_size=None,
    hparam_start_index=None,
    hparam_end_index=None,
    record_extra_metadata=['note=a,b'],
    overwrite=False,
    resume=False,
    edition='1.0',
    submission_api='auto',
    torch_compile='auto',
    telemetry='row',
    command='',
  )

  def make(**changes):
    plan = check(dataclasses.replace(settings, **changes))
    return Study(dataclasses.replace(plan, found=Digits()))

  return make


@pytest.fixture
def no_packages(monkeypatch):
  """Listing the packages takes half a second; most tests here do not read the list."""
  monkeypatch.setattr(beside, 'start', lambda *arguments: lambda: '')


def table(tmp_path, trial=1, name='logs'):
  return pd.read_csv(tmp_path / name / 'digits_jax' / f'run_{trial}' / 'metrics.csv')


def state(tmp_path, trial=1):
  return json.loads((tmp_path / 'logs' / 'digits_jax' / f'run_{trial}' / 'trial.json').read_text())


METRICS = [f'{split}/{metric}' for split in ('train', 'validation', 'test')
           for metric in ('accuracy', 'loss')]  # fmt: skip


def test_the_record_of_a_study(bench, tmp_path):
  outcomes = bench().run()
  assert [outcome['status'] for outcome in outcomes] == ['complete', 'complete']
  folder = tmp_path / 'logs' / 'digits_jax'
  names = sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())
  saved = [f'checkpoints/step_{step}/{name}' for step in (20, 30)
           for name in ('arrays_0.npz', 'checkpoint.json', 'state_0.json')]  # fmt: skip
  trial = [*saved, 'hparams.json', 'measurements.csv', 'metrics.csv', 'metrics.jsonl',
           'phases.jsonl', 'trial.json']  # fmt: skip
  assert names == [
    'metadata.json', 'packages.txt', *(f'run_{i}/{name}' for i in (1, 2) for name in trial),
  ]  # fmt: skip
  for number, rate in ((1, 0.1), (2, 0.05)):
    rows = table(tmp_path, number)
    assert rows['global_step'].tolist() == [1, 10, 20, 30]
    assert set(rows['hparam.learning_rate']) == {rate}
    assert set(rows['note']) == {'a,b'}
    assert set(rows['batch_size']) == {32}
    assert rows['accuracy'].tolist() == rows['validation/accuracy'].tolist()
    np.testing.assert_allclose(rows['epoch'], rows['global_step'] * 32 / 1197)
    assert rows['accumulated_submission_time'].is_monotonic_increasing
    assert (rows['total_duration'] > rows['accumulated_submission_time']).all()
    assert rows['validation/loss'].is_monotonic_decreasing
  assert '# Python packages' in (folder / 'packages.txt').read_text()


def test_metrics_are_those_of_the_parameters(bench, tmp_path, no_packages):
  bench(hparam_end_index=1).run()
  params = np.load(tmp_path / 'params.npy')
  row = table(tmp_path).iloc[-1]
  for split, prefix in (('eval_train', 'train'), ('validation', 'validation'), ('test', 'test')):
    data = input_pipeline.load(FACTS, split, None)
    right, loss = 0, 0.0
    for image, target in zip(data['inputs'], data['targets'], strict=True):
      logits = image.ravel().astype(float) @ params
      right += int(np.argmax(logits) == target)
      loss += float(np.log(np.exp(logits).sum()) - logits[target])
    assert row[f'{prefix}/accuracy'] == pytest.approx(right / len(data['targets']))
    assert row[f'{prefix}/loss'] == pytest.approx(loss / len(data['targets']), rel=1e-5)
    assert row[f'{prefix}/num_examples'] == len(data['targets'])


def test_a_submission_sees_what_is_recorded(bench, tmp_path, no_packages):
  bench(hparam_end_index=1).run()
  seen = json.loads((tmp_path / 'eval_results.json').read_text())
  rows = [json.loads(line) for line in
          (tmp_path / 'logs/digits_jax/run_1/metrics.jsonl').read_text().splitlines()]  # fmt: skip
  assert [step for step, _ in seen] == [1, 10, 20]  # as the last step was made
  for (_, metrics), row in zip(seen, rows[:3], strict=True):
    assert metrics.pop('score') == row['accumulated_submission_time']
    assert metrics == {name: row[name] for name in metrics}
    assert set(metrics) == {
      *METRICS, 'train/num_examples', 'validation/num_examples', 'test/num_examples',
      'accumulated_submission_time', 'accumulated_eval_time', 'accumulated_logging_time',
      'total_duration',
    }  # fmt: skip


def test_the_same_seed_gives_the_same_numbers(bench, tmp_path, no_packages):
  bench(log_dir=str(tmp_path / 'a')).run()
  bench(log_dir=str(tmp_path / 'b')).run()
  bench(log_dir=str(tmp_path / 'c'), rng_seed=6).run()
  for trial in (1, 2):
    first = table(tmp_path, trial, 'a')[METRICS]
    pd.testing.assert_frame_equal(first, table(tmp_path, trial, 'b')[METRICS], check_exact=True)
    assert not first.equals(table(tmp_path, trial, 'c')[METRICS])


def test_trials_do_not_depend_on_those_before(bench, tmp_path, no_packages):
  """A trial run alone is the trial run after another, hidden random state included."""
  bench(log_dir=str(tmp_path / 'both')).run()
  bench(log_dir=str(tmp_path / 'alone'), hparam_start_index=1).run()
  both, alone = (table(tmp_path, 2, name) for name in ('both', 'alone'))
  pd.testing.assert_frame_equal(both[METRICS], alone[METRICS], check_exact=True)
  path = Path('digits_jax/run_2/measurements.csv')
  assert (tmp_path / 'both' / path).read_text() == (tmp_path / 'alone' / path).read_text()


def test_a_trial_that_raises_fails_and_the_next_goes_on(bench, tmp_path, no_packages):
  (tmp_path / 'trouble_0.1').write_text('raise RuntimeError("out of luck")')
  outcomes = bench().run()
  assert [outcome['status'] for outcome in outcomes] == ['failed', 'complete']
  assert 'out of luck' in outcomes[0]['reason']
  assert 'submission.py, line' in outcomes[0]['reason']
  assert '12 steps' in outcomes[0]['reason']
  assert table(tmp_path)['global_step'].tolist() == [1, 10]
  error = (tmp_path / 'logs/digits_jax/run_1/error.txt').read_text()
  assert 'Traceback' in error
  assert 'out of luck' in error


def test_a_loss_that_is_no_number_ends_the_trial_with_its_row(bench, tmp_path, no_packages):
  (tmp_path / 'trouble_0.1').write_text('current_param_container[:] = np.nan')
  outcomes = bench().run()
  assert [outcome['status'] for outcome in outcomes] == ['failed', 'complete']
  assert 'nan' in outcomes[0]['reason']
  assert 'step 20' in outcomes[0]['reason']
  text = (tmp_path / 'logs/digits_jax/run_1/metrics.jsonl').read_text()
  last = json.loads(text.splitlines()[-1], parse_constant=pytest.fail)
  assert last['validation/loss'] == 'NaN'
  assert table(tmp_path)['validation/loss'].isna().tolist() == [False, False, True]


def test_an_interrupted_study_goes_on_to_the_same_numbers(bench, tmp_path, no_packages):
  bench(log_dir=str(tmp_path / 'straight')).run()
  trouble = tmp_path / 'trouble_0.05'
  trouble.write_text('import signal; signal.raise_signal(signal.SIGINT)')
  before = signal.getsignal(signal.SIGINT)
  with pytest.raises(Interrupted):
    bench().run()
  assert signal.getsignal(signal.SIGINT) is before
  assert state(tmp_path, 1)['status'] == 'complete'
  assert state(tmp_path, 2)['status'] == 'interrupted'
  assert 'step 13, saved' in state(tmp_path, 2)['reason']
  assert table(tmp_path, 2)['global_step'].tolist() == [1, 10]
  trouble.unlink()
  finished = (tmp_path / 'logs/digits_jax/run_1/metrics.csv').read_bytes()
  outcomes = bench(resume=True, rng_seed=None).run()
  assert [outcome['status'] for outcome in outcomes] == ['complete', 'complete']
  assert (tmp_path / 'logs/digits_jax/run_1/metrics.csv').read_bytes() == finished
  for trial in (1, 2):
    pd.testing.assert_frame_equal(
      table(tmp_path, trial)[METRICS], table(tmp_path, trial, 'straight')[METRICS], check_exact=True
    )
  (preempted,) = state(tmp_path, 2)['preemptions']
  assert preempted['global_step'] == 13
  assert table(tmp_path, 2)['preemption_count'].tolist() == [0, 0, 1, 1]


def test_a_signal_that_foreign_code_swallows_still_ends_the_trial(bench, tmp_path, no_packages):
  (tmp_path / 'trouble_0.1').write_text("""
import signal
try:
  signal.raise_signal(signal.SIGTERM)
except BaseException:
  pass
""")
  with pytest.raises(Interrupted, match='SIGTERM'):
    bench().run()
  assert state(tmp_path)['global_step'] == 13
  assert not (tmp_path / 'logs/digits_jax/run_2').exists()


def test_going_on_with_another_batch_size_is_refused(bench, tmp_path, no_packages):
  bench(hparam_end_index=1, batch_size=16).run()
  with pytest.raises(UsageError, match='batch_size is 32, there it is 16'):
    bench(resume=True)
  bench(resume=True, batch_size=16).run()
  assert set(table(tmp_path, 2)['batch_size']) == {16}


def test_going_on_lists_the_packages_if_the_first_command_could_not(bench, tmp_path):
  bench(hparam_end_index=1).run()
  listed = tmp_path / 'logs/digits_jax/packages.txt'
  text = listed.read_text()
  listed.unlink()
  bench(hparam_end_index=1, resume=True).run()
  assert listed.read_text() == text


def test_overwriting_begins_anew(bench, tmp_path, no_packages):
  bench().run()
  stranger = tmp_path / 'logs/digits_jax/notes.txt'
  stranger.write_text('mine')
  bench(overwrite=True, hparam_end_index=1, rng_seed=6).run()
  assert not (tmp_path / 'logs/digits_jax/run_2').exists()
  assert set(table(tmp_path)['rng_seed']) == {6}
  assert stranger.read_text() == 'mine'
