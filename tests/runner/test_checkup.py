"""Tests of the check command: what it says of good submissions and of broken ones."""

import subprocess
import sys

import pytest
from conftest import ROOT

from algorithmic_efficiency.runner import checkup

SCRIPT = ROOT / 'scripts' / 'check_submission.py'
BASELINES = ROOT / 'baselines'
STANDINS = ROOT / 'tests' / 'contracts' / 'standins'

GOOD = """
import torch

def get_batch_size(workload_name):
  if workload_name != 'digits':
    raise ValueError(workload_name)
  return 64

def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  return {'optimizer': torch.optim.SGD(model_params.parameters(), lr=0.1)}

def data_selection(workload, input_queue, optimizer_state, params, model_state, hyperparameters,
                   global_step, rng):
  return next(input_queue)

def update_params(workload, current_param_container, current_params_types, model_state,
                  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
                  rng):
  from algorithmic_efficiency.spec import ForwardPassMode
  optimizer_state['optimizer'].zero_grad()
  logits, _ = workload.model_fn(current_param_container, batch, model_state,
                                ForwardPassMode.TRAIN, rng, True)
  loss = workload.loss_fn(batch['targets'], logits)
  (loss['summed'] / loss['n_valid_examples']).backward()
  optimizer_state['optimizer'].step()
  return optimizer_state, current_param_container, model_state
"""
LAST = '  return optimizer_state, current_param_container, model_state\n'
STEP = "  optimizer_state['optimizer'].step()\n"

# What is changed in the good one, and what must be said of it.
FAULTS = {
  'a pair': (LAST, '  return optimizer_state, current_param_container\n', 'returned 2 values'),
  'nothing moves': (STEP, '', 'parameters are the same after 3 steps'),
  'not a number': (
    STEP,
    '  with torch.no_grad():\n    next(current_param_container.parameters()).fill_(float("nan"))\n',
    'parameters are not finite',
  ),
  'another shape': (
    LAST,
    '  current_param_container.output = torch.nn.Linear(128, 11)\n' + LAST,
    'output.weight was float32[10, 128] and came back as float32[11, 128]',
  ),
  'by the clock': (
    STEP,
    '  import os\n  for p in current_param_container.parameters():\n'
    '    p.data += os.urandom(1)[0] / 100\n',
    'two runs with one seed differ',
  ),
  'raises': (
    STEP,
    '  raise RuntimeError("out of ideas")\n',
    'update_params raised RuntimeError: out of ideas (submission.py, line 25)',
  ),
  'no batch': ('  return next(input_queue)', '  return [1]', 'data_selection gives a list without'),
  'size of nothing': ('  return 64', '  return 0', 'gave 0, not a whole number above 0'),
  'wrong refusal': ('raise ValueError', 'raise KeyError', 'must raise ValueError'),
  'changes results': (LAST, '  eval_results.clear()\n' + LAST, 'it changes eval_results'),
  'writes train_state': (
    'rng):\n  from',
    'rng, train_state):\n  train_state["x"] = 1\n  from',
    'does not support item assignment (submission.py, line',
  ),
  'misspelt': ('def update_params', 'def update_parms', "(is 'update_parms' meant?)"),
  'no Python': ('import torch', 'import torch (', 'is not Python'),
  'module missing': ('import torch', 'import torch, no_such_module', "'no_such_module'"),
  'wrong framework': ('import torch', 'import jax', 'it imports jax and not torch'),
}


def check(path, **changes):
  values = {
    'submission_path': path,
    'workload': 'digits',
    'framework': 'pytorch',
    'tuning_search_space': None,
    'tuning_ruleset': 'self',
    'submission_api': 'auto',
  }
  return checkup.check(checkup.Options(**values | changes), lambda _: None)


def write(folder, text=GOOD):
  path = folder / 'submission.py'
  path.write_text(text)
  return path


QUICK = ('mnist/mnist_jax', 'mnist/mnist_pytorch', 'adamw/pytorch')
OTHERS = sorted(
  {p.parent.relative_to(BASELINES).as_posix() for p in BASELINES.glob('**/submission.py')}
  - {*QUICK}
)


@pytest.mark.parametrize(
  'name', [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]
)
def test_there_is_nothing_to_mend_in_the_baselines(name):
  path = BASELINES / name
  space = BASELINES / name.partition('/')[0] / 'tuning_search_space.json'
  framework = 'jax' if 'jax' in name else 'pytorch'
  report = check(path, framework=framework, tuning_search_space=space, tuning_ruleset='external')
  assert report.mend_count == report.note_count == 0, report.lines
  assert len(report.lines) >= 11


def test_batch_norm_dropout_and_an_evaluation_that_is_prepared_are_looked_at():
  path = STANDINS / 'pytorch_schedule_free'
  space = path / 'tuning_search_space.json'
  report = check(path, workload='cifar', tuning_search_space=space, tuning_ruleset='external')
  assert report.mend_count == report.note_count == 0, report.lines
  said = '\n'.join(report.lines)
  assert 'batch statistics are brought up to date' in said
  assert 'prepare_for_eval gives' in said


def test_the_good_one_is_good(tmp_path):
  report = check(write(tmp_path))
  assert report.mend_count == report.note_count == 0, report.lines


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_is_told(fault, tmp_path):
  old, new, said = FAULTS[fault]
  assert GOOD.count(old) == 1
  report = check(write(tmp_path, GOOD.replace(old, new)))
  assert report.mend_count == 1, report.lines
  (line,) = [line for line in report.lines if line.startswith('mend')]
  assert said in line


def test_what_is_compiled_at_every_step_is_noted(tmp_path):
  text = (BASELINES / 'mnist' / 'mnist_jax' / 'submission.py').read_text()
  text = text.replace('static_argnums=(0, 1)', 'static_argnums=(0, 1, 7)')
  text = text.replace('batch, rng):', 'batch, rng, step):')
  given = 'current_param_container, batch, rng'
  text = text.replace(f'{given}\n', f'{given}, global_step\n')
  text = text.replace(', global_step\n  state', '\n  state')
  space = BASELINES / 'mnist' / 'tuning_search_space.json'
  report = check(
    write(tmp_path, text), framework='jax', tuning_search_space=space, tuning_ruleset='external'
  )
  assert report.mend_count == 0, report.lines
  assert any('compiled anew in step 3' in line for line in report.lines), report.lines


def test_a_hyperparameter_that_is_not_read_is_noted(tmp_path):
  space = tmp_path / 'space.json'
  space.write_text('[{"momentum": 0.9, "dropout_rate": 0.1}]')
  report = check(write(tmp_path), tuning_search_space=space, tuning_ruleset='external')
  assert [line for line in report.lines if line.startswith('note')] == [
    'note  submission.py never names momentum of the search space; drop what is not used'
  ]


def test_a_workload_it_does_not_know_is_noted(tmp_path):
  text = GOOD.replace("!= 'digits'", "!= 'imagenet_resnet'")
  text += '\ndef get_eval_batch_size(workload_name):\n  return get_batch_size(workload_name)\n'
  report = check(write(tmp_path, text))
  assert report.mend_count == 0, report.lines
  assert [line for line in report.lines if line.startswith('note')] == [
    "note  get_batch_size does not know 'digits'; give --batch_size=N to train it"
  ]


def run(*arguments):
  done = subprocess.run(
    [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=100
  )
  return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command_tells_by_its_exit_code(tmp_path):
  write(tmp_path, GOOD.replace(STEP, ''))
  code, out, error = run(
    f'--submission_path={tmp_path}', '--framework=pytorch', '--tuning_ruleset=self'
  )
  assert (code, error) == (1, '')
  assert out.splitlines()[-1] == '1 to mend, nothing to note'


@pytest.mark.parametrize(
  ('arguments', 'said'),
  [
    (['--framework=jax'], 'the following arguments are required: --submission_path'),
    (['--submission_path=nowhere', '--framework=jax'], 'There is no submission file'),
    (['--submission_path=nowhere', '--workload=digts'], "did you mean 'digits'?"),
    ([f'--submission_path={BASELINES}/mnist/mnist_jax', '--framework=jax'], 'Give --tuning_search'),
  ],
)
def test_a_wrong_command_is_refused_in_one_line(arguments, said):
  code, out, error = run(*arguments)
  assert (code, out) == (2, '')
  assert error.startswith('check_submission: error: ')
  assert said in error
  assert error.count('\n') == 1
