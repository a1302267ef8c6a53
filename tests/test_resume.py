"""Runs that are stopped or killed and go on with --resume, and what keeps them from it."""

import csv
import json
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import POINTS, ROOT
from run_standins import settings_of

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records import checkpoint_files
from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.runner.interrupts import SAVED_EXIT_CODE, Interrupted
from algorithmic_efficiency.runner.study import Study

# What depends on neither the time it took nor the state of the machine.
SAME = ('train/', 'validation/', 'test/', 'global_step', 'epoch', 'goal_reached', 'trial_seed')

# Dropout, a scheduler, a count, an average, a function: what a state may hold. At the step that the
# file `signal` names it gets the signal that stands there.
SUBMISSION = """
import copy, os, pathlib, signal, time
import numpy as np, torch
from algoperf import spec

HERE = pathlib.Path(__file__).parent

def get_batch_size(workload_name):
  return 32

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  optimizer = torch.optim.Adam(model_params.parameters(), lr=1e-3)
  return {'optimizer': optimizer, 'steps': 0, 'drawn': [], 'f': len,
          'scheduler': torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 0.99 ** s),
          'average': copy.deepcopy(model_params)}

def data_selection(workload, input_queue, optimizer_state, params, model_state, hyperparameters,
                   global_step, rng):
  if global_step % 3 == 0:
    next(input_queue)  # not one batch a step
  return next(input_queue)

def update_params(workload, current_param_container, current_params_types, model_state,
                  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
                  rng):
  optimizer_state['optimizer'].zero_grad()
  logits, _ = workload.model_fn(current_param_container, batch, model_state,
                                spec.ForwardPassMode.TRAIN, rng, True, dropout_rate=0.3)
  loss = workload.loss_fn(batch['targets'], logits)
  scale = 1 + 0.1 * np.random.rand() + 0.01 * sum(step for step, _ in eval_results)
  (scale * loss['summed'] / loss['n_valid_examples']).backward()
  optimizer_state['optimizer'].step()
  optimizer_state['scheduler'].step()
  optimizer_state['steps'] += 1
  optimizer_state['drawn'].append(float(torch.rand(())))
  act(global_step)
  return optimizer_state, current_param_container, model_state

def prepare_for_eval(workload, current_param_container, current_params_types, model_state,
                     hyperparameters, loss_type, optimizer_state, eval_results, global_step, rng):
  with torch.no_grad():
    for ours, theirs in zip(optimizer_state['average'].parameters(),
                            current_param_container.parameters()):
      ours.lerp_(theirs, 0.5)
      theirs.lerp_(ours, 0.2)
  return optimizer_state, current_param_container, model_state

def act(step):
  told = HERE / 'signal'
  if told.exists():
    at, what = told.read_text().split()
    if int(at) == step:
      told.unlink()
      exec(what.replace('~', ' '))
"""
LIMITS = {'max_global_steps': 40, 'eval_period_steps': 10}


@pytest.fixture
def bench(tmp_path):
  """Makes studies of the submission above; `at` and `what` is done in one of its steps."""
  folder = tmp_path / 'mine'
  folder.mkdir()
  (folder / 'submission.py').write_text(SUBMISSION)

  def make(log_dir='logs', at=None, what='', **changes):
    if at is not None:
      (folder / 'signal').write_text(f'{at} {what.replace(" ", "~")}')
    given = {
      **LIMITS,
      'submission_path': str(folder),
      'tuning_ruleset': 'self',
      'tuning_search_space': None,
      **changes,
    }
    folder_given = tmp_path / (log_dir or 'nowhere')
    if log_dir is None:
      given['log_dir'] = None
    return Study(settings.check(settings_of('pytorch_nadamw', folder_given, **given)))

  return make


def rows(folder):
  with next(folder.rglob('metrics.csv')).open(newline='') as file:
    return list(csv.DictReader(file))


def same(folder):
  return [{n: v for n, v in row.items() if n.startswith(SAME)} for row in rows(folder)]


def state(folder):
  return json.loads(next(folder.rglob('trial.json')).read_text())


def newest(folder, number=0):
  found = sorted(folder.rglob('checkpoints/step_*'), key=lambda p: int(p.name.split('_')[1]))
  return found[-1 - number]


STOP = 'signal.raise_signal(signal.SIGTERM)'


def stop(bench, at=23, log_dir='logs', **changes):
  with pytest.raises(Interrupted) as caught:
    bench(log_dir, at, STOP, **changes).run()
  return caught.value


@pytest.mark.parametrize('at', [0, 9, 14, 37])
def test_a_run_that_is_stopped_goes_on_to_the_last_digit(at, bench, tmp_path):
  bench('straight').run()
  stopped = stop(bench, at)
  assert (stopped.saved, stopped.exit_code) == (True, 75)
  (outcome,) = bench(resume=True).run()
  assert outcome['status'] == 'complete'
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')
  assert [row['global_step'] for row in rows(tmp_path / 'logs')] == ['1', '10', '20', '30', '40']
  (preempted,) = outcome['preemptions']
  assert (preempted['global_step'], preempted['lost_sec']) == (at + 1, 0)
  counts = [row['preemption_count'] for row in rows(tmp_path / 'logs')]
  assert counts == ['0' if int(row['global_step']) <= at else '1'
                    for row in rows(tmp_path / 'logs')]  # fmt: skip


def test_a_run_that_is_stopped_often_goes_on_to_the_last_digit(bench, tmp_path):
  bench('straight').run()
  stop(bench, 3)
  for at in (9, 19, 20, 33):
    stop(bench, at, resume=True)
  (outcome,) = bench(resume=True).run()
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')
  assert [p['global_step'] for p in outcome['preemptions']] == [4, 10, 20, 21, 34]
  seconds = outcome['seconds']
  total = float(rows(tmp_path / 'logs')[-1]['total_duration'])
  assert sum(seconds.values()) == pytest.approx(total, rel=0.2)


def test_a_run_that_is_stopped_in_an_evaluation_makes_it_first(bench, tmp_path):
  bench('straight').run()
  seen = []

  def act(workload):
    seen.append(workload)
    if len(seen) == 3:
      signal.raise_signal(signal.SIGTERM)

  with pytest.raises(Interrupted) as caught:
    spoil(bench(), act).run()
  assert caught.value.saved
  assert newest(tmp_path / 'logs').name == 'step_20_unevaluated'
  (outcome,) = bench(resume=True).run()
  assert outcome['preemptions'][0]['global_step'] == 20
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')


def test_clocks_go_on(bench, tmp_path):
  bench('straight').run()
  stop(bench, 25)
  before = json.loads((newest(tmp_path / 'logs') / 'checkpoint.json').read_text())
  spent = before['checkpoint']['trial']['seconds']
  time.sleep(2)  # nobody's time
  (outcome,) = bench(resume=True).run()
  for account in ('submission', 'evaluation', 'recording', 'checkpoint'):
    assert outcome['seconds'][account] > spent[account]
  assert outcome['seconds']['submission'] < spent['submission'] + 1.5
  times = [float(row['accumulated_submission_time']) for row in rows(tmp_path / 'logs')]
  assert times == sorted(times)


def test_at_most_so_many_are_kept_and_none_if_so_asked(bench, tmp_path):
  bench().run()
  names = sorted(p.name for p in (tmp_path / 'logs').rglob('checkpoints/*'))
  assert names == ['step_30', 'step_40']
  bench('one', num_checkpoints_kept=1).run()
  assert [p.name for p in (tmp_path / 'one').rglob('checkpoints/*')] == ['step_40']
  bench('none', save_checkpoints=False).run()
  assert not list((tmp_path / 'none').rglob('checkpoints'))


def test_without_a_checkpoint_a_trial_begins_anew(bench, tmp_path, capsys):
  bench('straight').run()
  stopped = stop(bench, 23, save_checkpoints=False)
  assert (stopped.saved, stopped.exit_code) == (False, 143)
  bench(resume=True).run()
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')
  assert list((tmp_path / 'logs').rglob('metrics.csv.attempt_1'))


# Damage.


def flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 4
  path.write_bytes(data)


DAMAGE = {
  'a flipped bit in the arrays': lambda p: flip(next(p.glob('arrays_0.*'))),
  'a flipped bit in the state': lambda p: flip(p / 'state_0.json'),
  'a flipped bit in the description': lambda p: flip(p / 'checkpoint.json'),
  'arrays cut short': lambda p: os.truncate(next(p.glob('arrays_0.*')), 1000),
  'arrays gone': lambda p: next(p.glob('arrays_0.*')).unlink(),
  'an empty description': lambda p: (p / 'checkpoint.json').write_text(''),
}


@pytest.mark.parametrize('kind', DAMAGE)
def test_a_damaged_checkpoint_is_told_and_the_one_before_serves(kind, bench, tmp_path, caplog):
  bench('straight').run()
  stop(bench, 23)
  damaged = newest(tmp_path / 'logs')
  assert damaged.name == 'step_24'
  DAMAGE[kind](damaged)
  (outcome,) = bench(resume=True).run()
  assert 'step_24 is of no use (' in caplog.text
  (preempted,) = outcome['preemptions']
  assert preempted['global_step'] == 20
  assert 0 < preempted['lost_sec'] == outcome['seconds']['lost']
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')
  assert damaged.with_name('step_24.damaged_1').exists()  # for whoever wants to look


def test_if_all_are_damaged_the_trial_begins_anew(bench, tmp_path, caplog):
  bench('straight').run()
  stop(bench, 23)
  for number in (0, 1):
    flip(next(newest(tmp_path / 'logs', number).glob('arrays_0.*')))
  bench(resume=True).run()
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')


def test_rows_after_the_checkpoint_are_kept_aside_and_made_again(bench, tmp_path):
  bench('straight').run()
  stop(bench, 35)
  for number in (0, 0):
    checkpoint_files.remove(newest(tmp_path / 'logs', number))
  saved = newest(tmp_path / 'logs') if list((tmp_path / 'logs').rglob('step_*')) else None
  assert saved is None
  bench(resume=True).run()
  assert same(tmp_path / 'logs') == same(tmp_path / 'straight')


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(bench, tmp_path):
  stop(bench, 23)
  stop(bench, 23, 'other', rng_seed=9)
  target = newest(tmp_path / 'logs')
  for file in target.iterdir():
    file.unlink()
  for file in newest(tmp_path / 'other').iterdir():
    target.joinpath(file.name).write_bytes(file.read_bytes())
  with pytest.raises(UsageError, match=r'another run: .*rng_seed is 3, there it is 9'):
    bench(resume=True).run()


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'format': 99}, 'its format is 99, that of this version is 1'),
    ({'version': '9.9'}, "version is '0.1.0', there it is '9.9'"),
    ({'workload': 'mnist_jax'}, "workload is 'digits_pytorch', there it is 'mnist_jax'"),
    ({'num_processes': 4}, 'num_processes is 1, there it is 4'),
  ],
)
def test_what_a_checkpoint_was_made_by_is_compared(change, said, bench, tmp_path):
  stop(bench, 23)
  path = newest(tmp_path / 'logs')
  found = checkpoint_files.read(path)
  files = {name: tuple(numbers) for name, numbers in found.pop('files').items()}
  if 'format' in change:
    found['format'] = change['format']
  else:
    found['identity'].update(change)
  temporary = path.rename(path.with_name('.x.tmp'))
  checkpoint_files.seal(temporary, path, {k: v for k, v in found.items() if k != 'x'}, files)
  with pytest.raises(UsageError, match=said):
    bench(resume=True).run()


def test_another_version_of_the_library_is_told(bench, tmp_path, caplog, monkeypatch):
  stop(bench, 23)
  monkeypatch.setattr('importlib.metadata.version', lambda name: '99')
  bench(resume=True).run()
  assert 'and this is torch 99: numbers may differ' in caplog.text


def test_loading_runs_no_code_from_a_checkpoint(bench, tmp_path):
  """A pickle that would run something, in the place of the arrays."""
  import pickle
  import zlib

  class Evil:
    def __reduce__(self):
      return os.mkdir, (str(tmp_path / 'run'),)

  stop(bench, 23)
  path = newest(tmp_path / 'logs')
  found = checkpoint_files.read(path)
  data = pickle.dumps({'0': Evil()}, protocol=2)
  (path / 'arrays_0.pt').write_bytes(data)
  files = {**found.pop('files'), 'arrays_0.pt': (len(data), zlib.crc32(data))}
  checkpoint_files.seal(path.rename(path.with_name('.x.tmp')), path, found, files)
  with pytest.raises(UsageError, match='cannot be gone on from: UnpicklingError: Weights only'):
    bench(resume=True).run()
  assert not (tmp_path / 'run').exists()


def test_a_checkpoint_that_cannot_be_written_ends_no_training(bench, tmp_path, caplog):
  (tmp_path / 'logs/digits_pytorch/run_1').mkdir(parents=True)
  (tmp_path / 'logs/digits_pytorch/run_1/checkpoints').write_text('in the way')
  (outcome,) = bench(resume=True).run()
  assert outcome['status'] == 'complete'
  assert len(rows(tmp_path / 'logs')) == 5
  assert caplog.text.count('no checkpoint could be written to') == 1
  assert 'training goes on' in caplog.text


# Kills, and several commands.


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['jax', 'pytorch'])
def test_a_killed_run_goes_on_to_the_last_digit(framework, command):
  flags = {'max_global_steps': 600, 'eval_period_steps': 20}
  command._points.write_text(json.dumps([{**POINTS[0], 'learning_rate': 1e-5}]))
  process = subprocess.Popen(command.arguments(framework, **flags), stdout=subprocess.DEVNULL)
  checkpoint = command.log_dir / f'digits_{framework}/run_1/checkpoints/step_200'
  end = time.monotonic() + 60
  while not checkpoint.exists():
    assert process.poll() is None
    assert time.monotonic() < end
    time.sleep(0.002)
  process.kill()
  process.wait()
  out = command.run(framework, **flags, resume=True)
  assert 'goes on from step' in out
  found = same(command.log_dir)
  assert len(found) == 31
  command.run(framework, **flags, overwrite=True)
  assert same(command.log_dir) == found


@pytest.mark.slow
def test_two_commands_on_one_trial(command):
  flags = {'max_global_steps': 10**6, 'eval_period_steps': 10**6}
  process = subprocess.Popen(command.arguments('pytorch', **flags), stdout=subprocess.PIPE)
  try:
    lock = command.log_dir / 'digits_pytorch' / '.run_1.lock'
    end = time.monotonic() + 60
    while not (command.log_dir / 'digits_pytorch/run_1/metrics.jsonl').exists():
      assert time.monotonic() < end
      time.sleep(0.02)
    done = subprocess.run(
      command.arguments('pytorch', **flags, overwrite=True),
      capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    told = f'run_1 in {str(lock.parent)!r} is being run by process {process.pid} on'
    assert told in done.stderr
    assert done.stderr.count('\n') == 1
  finally:
    process.kill()
    process.communicate()
  assert lock.exists()  # of a dead process: no obstacle
  command.run('pytorch', max_global_steps=3, overwrite=True)
  assert not lock.exists()


@pytest.mark.slow
def test_commands_side_by_side_fill_one_folder(command):
  flags = {'num_tuning_trials': 3, 'max_global_steps': 20}
  started = [
    subprocess.Popen(
      command.arguments('pytorch', **flags, hparam_start_index=i, hparam_end_index=i + 1),
      stdout=subprocess.DEVNULL,
    )
    for i in range(3)
  ]
  assert [process.wait(timeout=100) for process in started] == [0, 0, 0]
  split = [[row['loss'] for row in command.rows('digits_pytorch', trial)] for trial in (1, 2, 3)]
  assert not list((command.log_dir / 'digits_pytorch').glob('.*'))
  command.run('pytorch', **flags, overwrite=True)
  assert split == [
    [row['loss'] for row in command.rows('digits_pytorch', trial)] for trial in (1, 2, 3)
  ]


def test_the_layout_of_algoperf_counts_preemptions(bench, tmp_path):
  there = {'experiment_dir': str(tmp_path / 'e'), 'experiment_name': 'n'}
  stop(bench, 23, None, **there)
  bench(None, **there, resume=True).run()
  trial = tmp_path / 'e/n/digits_pytorch/trial_1'
  names = {path.name for path in trial.iterdir()}
  assert {'checkpoint_30', 'checkpoint_40', 'meta_data_0.json', 'meta_data_1.json',
          'flags_0.json', 'flags_1.json'} <= names  # fmt: skip
  for file in ('eval_measurements.csv', 'measurements.csv'):
    with (trial / file).open(newline='') as opened:
      found = list(csv.DictReader(opened))
    assert [row['preemption_count'][:1] for row in found[:5]] == ['0', '0', '0', '1', '1']
    assert [row['global_step'] for row in found[:5]] == ['1', '10', '20', '30', '40']
    assert len(found) == (6 if file == 'measurements.csv' else 5)  # and the score at the end
  logs = sorted((tmp_path / 'e/n').glob('digits_pytorch_??-??-????-??-??-??.log'))
  text = ''.join(log.read_text() for log in logs)
  for pattern in ALGOPERF_LINES:
    assert re.search(pattern, text), pattern
  assert len(re.findall('Time since start', text)) == 5


# As tools that read AlgoPerf's logs look for them.
ALGOPERF_LINES = (
  r'--- Tuning run 1/1 ---',
  r"Time since start: \d+\.\d+s, \tStep: 40, \t\{'train/",
  r'Tuning trial 1/1',
  r'Hyperparameters: ',
  r"Metrics: \{'eval_results': \[\(1, \{'train/",
  r'Timing: \d+\.\d+',
  r'Total number of evals: 5',
  r'Final digits_pytorch score: inf',
)

# Evaluations that go wrong.


def spoil(study, act):
  evaluate = study.workload.evaluate

  def spoilt(*arguments):
    act(study.workload)
    return evaluate(*arguments)

  study.workload.evaluate = spoilt
  return study


def test_an_evaluation_without_memory_is_made_in_smaller_batches(bench, tmp_path, caplog):
  bench('straight').run()

  def act(workload):
    if workload.eval_batch_size > 50:
      raise MemoryError

  study = spoil(bench(), act)
  (outcome,) = study.run()
  assert outcome['status'] == 'complete'
  assert study.workload.eval_batch_size <= 50
  assert 'ran out of memory with 300 examples at a time; trying 150' in caplog.text
  for ours, theirs in zip(same(tmp_path / 'logs'), same(tmp_path / 'straight'), strict=True):
    for name, value in ours.items():
      assert value == theirs[name] or float(value) == pytest.approx(float(theirs[name]), rel=1e-5)


def test_an_evaluation_that_has_memory_for_nothing_fails_the_trial(bench):
  def act(workload):
    raise MemoryError

  (outcome,) = spoil(bench(), act).run()
  assert outcome['status'] == 'failed'
  assert outcome['reason'] == (
    'the evaluation at step 1 ran out of memory, even with 1 examples at a time'
  )


def test_an_evaluation_that_hangs_fails_the_trial(bench):
  study = spoil(bench(eval_timeout_sec=0.5), lambda workload: time.sleep(30))
  began = time.monotonic()
  (outcome,) = study.run()
  assert time.monotonic() - began < 10
  assert outcome['status'] == 'failed'
  assert outcome['reason'] == (
    'the evaluation at step 1 took longer than 0.5 s (--eval_timeout_sec)'
  )


def test_a_step_that_does_not_end_is_broken_off(bench, tmp_path, monkeypatch):
  from algorithmic_efficiency.runner import interrupts

  monkeypatch.setitem(interrupts.PATIENCE_SEC, signal.SIGTERM, 0.5)
  began = time.monotonic()
  with pytest.raises(Interrupted) as caught:
    bench('logs', 23, f'{STOP}; time.sleep(30)').run()
  assert time.monotonic() - began < 10
  assert (caught.value.saved, caught.value.exit_code) == (False, 143)
  assert state(tmp_path / 'logs')['reason'] == 'SIGTERM at step 23'


def test_a_submission_whose_state_cannot_be_restored_is_told_so(bench, tmp_path):
  path = tmp_path / 'mine' / 'submission.py'
  path.write_text(
    path.read_text().replace(
      "  optimizer_state['steps'] += 1\n",
      "  optimizer_state['steps'] += 1\n  optimizer_state['late'] = lambda: None\n",
    )
  )
  stop(bench, 23)
  with pytest.raises(UsageError, match=r"optimizer_state\['late'\] is a .*function"):
    bench(resume=True).run()


def test_the_readme_names_the_exit_code():
  assert f'\n| {SAVED_EXIT_CODE} | SIGTERM' in (ROOT / 'README.md').read_text()
