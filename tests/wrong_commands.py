"""The wrong commands that test_bad_input.py gives, and what each must be answered."""

import dataclasses
import json

SOURCE = """
def get_batch_size(workload_name):
  return 64


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  return {}


def update_params(
  workload, current_param_container, current_params_types, model_state, hyperparameters,
  batch, loss_type, optimizer_state, eval_results, global_step, rng,
):
  return optimizer_state, current_param_container, model_state


def data_selection(
  workload, input_queue, optimizer_state, current_param_container, model_state,
  hyperparameters, global_step, rng,
):
  return next(input_queue)
"""
SPACE = [{'rate': 0.1}]
DIGITS = 'logs/digits_jax'


def sub(old: str, new: str) -> str:
  """The submission with a part of it replaced."""
  assert old in SOURCE
  return SOURCE.replace(old, new)


def linear(low: object, high: object, scaling: object = 'linear') -> dict[str, object]:
  """A hyperparameter's range."""
  return {'min': low, 'max': high, 'scaling': scaling}


@dataclasses.dataclass(frozen=True)
class Case:
  """A wrong command and what its one line must say.

  Attributes:
    name: for people.
    words: parts of the line: the value that is wrong and what to do about it.
    flags: besides those of a right command; None drops one. '@' stands for the test's folder.
    more: arguments that are no flag, or are given more than once.
    source: submission.py; None for no such file.
    space: space.json, as an object or as text.
    files: what lies in the test's folder besides, by path; a name with '/' at its end is a folder.
    environment: variables; '@' as in flags.
    needs_framework: the fault can be seen only once the framework has been imported.
  """

  name: str
  words: tuple[str, ...]
  flags: dict[str, object] = dataclasses.field(default_factory=dict)
  more: tuple[str, ...] = ()
  source: str | None = SOURCE
  space: object = dataclasses.field(default_factory=lambda: SPACE)
  files: dict[str, str] = dataclasses.field(default_factory=dict)
  environment: dict[str, str] = dataclasses.field(default_factory=dict)
  needs_framework: bool = False


def record(status: str | None = 'complete', **metadata: object) -> dict[str, str]:
  """The files of an earlier run of one trial."""
  files = {f'{DIGITS}/metadata.json': json.dumps({'workload': 'digits_jax', **metadata})}
  if status is not None:
    files[f'{DIGITS}/run_1/trial.json'] = json.dumps({'run_idx': 1, 'status': status})
    files[f'{DIGITS}/run_1/metrics.csv'] = 'global_step\n1\n'
  return files


def space(name: str, content: object, *words: str) -> Case:
  """A case of a wrong search space."""
  return Case(f'search space: {name}', ('space.json', *words), space=content)


def source(name: str, text: str | None, *words: str, **more: object) -> Case:
  """A case of a wrong submission."""
  return Case(f'submission: {name}', ('submission.py', *words), source=text, **more)


def extra(name: str, *words: str, pairs: tuple[str, ...] | None = None) -> Case:
  """A case of wrong extra metadata."""
  pairs = (name,) if pairs is None else pairs
  more = tuple(f'--record_extra_metadata={pair}' for pair in pairs)
  return Case(f'metadata: {name}', ('--record_extra_metadata', *words), more=more)


FLAG_CASES = (
  Case('unknown workload', ("'digts'", "did you mean 'digits'?", 'mnist'), {'workload': 'digts'}),
  Case('no name', ("''", 'digits, mnist'), {'workload': ''}),
  Case('unknown framework', ("'jaxx'", "did you mean 'jax'?"), {'framework': 'jaxx'}),
  Case('no framework', ('--framework=jax', 'digits_jax'), {'framework': None}),
  Case(
    'workload and framework disagree',
    ('--workload=digits_jax', '--framework=pytorch', 'drop --framework'),
    {'workload': 'digits_jax', 'framework': 'pytorch'},
  ),
  Case('no workload', ('--workload', '--helpshort'), {'workload': None}),
  Case('no submission', ('--submission_path', '--helpshort'), {'submission_path': None}),
  Case('misspelt flag', ('--wrkload', 'did you mean --workload?'), more=('--wrkload=digits',)),
  Case('flag of nothing', ('--xyzzy', '--helpshort'), more=('--xyzzy',)),
  Case('flag without value', ('--log_dir', 'Missing value'), more=('--log_dir',)),
  Case('stray argument', ("'jax'", 'flags start with --'), more=('jax',)),
  Case('not a number', ("'two'", 'not a whole number'), {'num_tuning_trials': 'two'}),
  Case('not whole', ("'1e3'", 'not a whole number'), {'batch_size': '1e3'}),
  Case('neither true nor false', ("'maybe'", 'true nor false'), {'overwrite': 'maybe'}),
  Case('no trials', ('--num_tuning_trials=0', 'positive'), {'num_tuning_trials': 0}),
  Case('negative trials', ('--num_tuning_trials=-2', 'positive'), {'num_tuning_trials': -2}),
  Case('no steps', ('--max_global_steps=0', 'positive'), {'max_global_steps': 0}),
  Case('memory by nothing', ('--trace_memory=soon', 'refs:0.2'), {'trace_memory': 'soon'}),
  Case(
    'shown by nothing',
    ("--export='tensorbord'", "did you mean 'tensorboard'"),
    {'export': 'tensorbord'},
  ),
  Case('unknown ruleset', ('slef', 'external|self'), {'tuning_ruleset': 'slef'}),
  Case('unknown edition', ('0.7', '0.5|0.6|1.0'), {'edition': '0.7'}),
  Case('unknown device', ('gpu', 'auto|cpu|cuda|hpu'), {'device': 'gpu'}),
  Case('an HPU in JAX', ('--device=hpu', '--framework=pytorch'), {'device': 'hpu'}),
  Case('flag file missing', ('nowhere.txt', '--helpshort'), {'flagfile': '@/nowhere.txt'}),
  Case(
    'self-tuning with a search space',
    ('--tuning_ruleset=self', '--tuning_search_space', 'drop one'),
    {'tuning_ruleset': 'self'},
  ),
  Case(
    'external tuning without one',
    ('--tuning_search_space=FILE', '--tuning_ruleset=self'),
    {'tuning_search_space': None},
  ),
  Case(
    'slice that ends before it starts',
    ('--hparam_start_index=1', '--hparam_end_index=1', 'count from 0'),
    {'num_tuning_trials': 3, 'hparam_start_index': 1, 'hparam_end_index': 1},
    space={'rate': linear(0, 1)},
  ),
  Case(
    'slice beyond the trials',
    ('--hparam_end_index=4', 'beyond the 3 trials', '--num_tuning_trials'),
    {'num_tuning_trials': 3, 'hparam_end_index': 4},
    space={'rate': linear(0, 1)},
  ),
  Case(
    'slice from beyond the trials',
    ('--hparam_start_index=1', 'none of the 1 trials', 'count from 0'),
    {'hparam_start_index': 1},
  ),
  Case('negative slice', ('--hparam_start_index=-1', 'non-negative'), {'hparam_start_index': -1}),
  Case(
    'resume and overwrite',
    ('--resume', '--overwrite', 'drop one'),
    more=('--resume', '--overwrite'),
    files=record(),
  ),
)

SOURCE_CASES = (
  source('missing', None, 'There is no submission file', '--submission_path'),
  Case(
    'submission: folder without one',
    ('empty/submission.py', '--submission_path'),
    {'submission_path': '@/empty'},
    files={'empty/': ''},
  ),
  Case(
    'submission: not a .py',
    ('algorithm.txt', '<name>.py'),
    {'submission_path': '@/algorithm.txt'},
    files={'algorithm.txt': SOURCE},
  ),
  Case(
    'submission: no such user',
    ("'~nobody_here/a.py'", 'give another'),
    {'submission_path': '~nobody_here/a.py'},
  ),
  Case('submission: name too long', ('File name too long',), {'submission_path': '@/' + 'x' * 300}),
  source('empty', '', 'get_batch_size', 'init_optimizer_state', 'update_params', 'data_selection'),
  source('syntax', SOURCE + 'x = = 1\n', f'line {SOURCE.count(chr(10)) + 1}', 'not Python'),
  source('null byte', SOURCE + '\0', 'not Python: source code', 'null bytes'),
  source('function missing', sub('data_selection', 'pick'), 'no function data_selection'),
  source(
    'function misspelt',
    sub('def update_params', 'def update_parms'),
    'no function update_params',
    "is 'update_parms' meant?",
  ),
  source(
    'other keywords',
    sub('eval_results', 'evals'),
    'update_params (line',
    'does not take eval_results',
    'asks for evals',
  ),
  source(
    'other positions',
    sub('model_params, ', ''),
    'init_optimizer_state (line',
    'takes 4 arguments',
    'given 5',
  ),
  source('of the other framework', 'import torch\n' + SOURCE, 'imports torch', '--framework=jax'),
  source(
    'of jax under pytorch',
    'import jax\n' + SOURCE,
    'imports jax',
    '--framework=pytorch',
    flags={'framework': 'pytorch'},
  ),
  source(
    'reads what is not there',
    sub('return {}', 'return hyperparameters.momentum'),
    'hyperparameters.momentum (line',
    'search space does not have',
  ),
  source(
    'and search space',
    'import torch\n' + sub('eval_results', 'evals'),
    'space.json',
    "min of 'rate'",
    "'b c'",
    'does not take eval_results',
    'imports torch',
    space={'rate': linear(2, 1), 'b c': {'feasible_points': [1]}},
  ),
)

SPACE_CASES = (
  Case(
    'search space: missing',
    ("nowhere.json'", '--tuning_search_space'),
    {'tuning_search_space': '@/nowhere.json'},
  ),
  Case(
    'search space: a folder',
    ("here'", '--tuning_search_space'),
    {'tuning_search_space': '@/here'},
    files={'here/': ''},
  ),
  space('not JSON', '{"rate": }', 'not JSON', 'line 1 column 10'),
  space('nothing', '', 'not JSON', 'line 1'),
  space('nested without end', '[' * 100_000, 'not JSON', 'recursion'),
  space('a bare number', 3, 'not a bare int', 'object of ranges'),
  space('a key twice', '{"rate": 1, "rate": 2}', "'rate' is given twice"),
  space('empty object', {}, 'name at least one'),
  space('empty list', [], 'at least one object'),
  space('min above max', {'rate': linear(2, 1)}, "min of 'rate'", '2 > 1', 'swap'),
  space('log from 0', {'rate': linear(0, 1, 'log')}, "'rate'", 'above 0, not 0'),
  space('scaling', {'rate': linear(0, 1, 'liner')}, "'liner'", "did you mean 'linear'?"),
  space('no points', {'rate': {'feasible_points': []}}, "'rate'", 'at least one value'),
  space('texts as bounds', {'rate': linear('0', 1)}, "min of 'rate'", "number, not '0'"),
  space('NaN as a bound', '{"rate": {"min": 0, "max": NaN, "scaling": "log"}}', "'rate'", 'nan'),
  space('a bound too large', {'rate': linear(0, 10**400)}, "max of 'rate'", 'finite', '401 char'),
  space('NaN as a point', '{"rate": {"feasible_points": [1, NaN]}}', "'rate'", 'finite, not nan'),
  space('NaN in a trial', '[{"rate": 1}, {"rate": NaN}]', "'rate' of trial 2", 'finite, not nan'),
  space(
    'no scaling', {'rate': {'min': 0, 'max': 1}}, "'rate'", '"scaling"', '{"min": 0, "max": 1}'
  ),
  space('a number for a range', {'rate': 3}, "'rate'", 'feasible_points', 'not 3'),
  space('trials that differ', [{'a': 1}, {'b': 1}], 'trial 2', "missing ['a']", "extra ['b']"),
  space('a trial that is none', [{'a': 1}, 3], 'trial 2 must be an object', 'not 3'),
  space('names', [{'a-b': 1, 'class': 2}], "'a-b'", "'class'", 'use a Python name'),
  space(
    'several faults', {'a': linear(2, 1), 'b': linear(0, 1, 'log'), 'c': 1}, "'a'", "'b'", "'c'"
  ),
)

METADATA_CASES = (
  extra('note', "'note'", '"key=value"'),
  extra('=note', "'=note'", '"key=value"'),
  extra('accuracy=1', "'accuracy' is already a column", 'another name'),
  extra('hparam.x=1', "'hparam.x' is already a column", 'another name'),
  extra('gpu.0.mem.used=1', "'gpu.0.mem.used' is already a column", 'another name'),
  extra('source=1', "'source' is already a column", 'another name'),
  extra('git_commit_hash=1', "'git_commit_hash' is already", 'another name'),
  extra('a,b=1', "'a,b'", 'leave out commas'),
  extra('twice', "'note' is given twice", 'drop one', pairs=('note=1', 'note=2')),
  extra('several', "'x'", "'loss'", pairs=('x', 'loss=2')),
)

FOLDER_CASES = (
  Case('no folder', ('--log_dir=FOLDER', '--experiment_dir'), {'log_dir': None}),
  Case(
    'half a folder',
    ('--experiment_dir', '--experiment_name=NAME'),
    {'log_dir': None, 'experiment_dir': '@/e'},
  ),
  Case(
    'two folders',
    ('--log_dir', '--experiment_dir', 'not both'),
    {'experiment_dir': '@/e', 'experiment_name': 'n'},
  ),
  Case(
    'an experiment elsewhere',
    ("'../../e'", 'plain name'),
    {'log_dir': None, 'experiment_dir': '@/e', 'experiment_name': '../../e'},
  ),
  Case('folder is a file', ("space.json' is a file", '--log_dir'), {'log_dir': '@/space.json'}),
  Case(
    'folder below a file', ("space.json' is a file", '--log_dir'), {'log_dir': '@/space.json/logs'}
  ),
  Case('folder of nobody', ("'~nobody_here'", 'give another'), {'log_dir': '~nobody_here'}),
  Case(
    'finished run',
    ('holds a finished run (run_1)', 'another --log_dir', '--overwrite'),
    files=record('complete'),
  ),
  Case('failed run', ('holds a finished run (run_1)', '--overwrite'), files=record('failed')),
  Case(
    'interrupted run',
    ('did not finish (run_1)', '--resume', '--overwrite'),
    files=record('interrupted'),
  ),
  Case('killed run', ('did not finish (run_1)', '--resume'), files=record('running')),
  Case('run without trials', ('did not begin', '--resume'), files=record(None)),
  Case(
    'state is no JSON',
    ("run_1/trial.json'", '--overwrite'),
    files={**record(), f'{DIGITS}/run_1/trial.json': '{"status": "comp'},
  ),
  Case(
    'state is no state',
    ("run_1/trial.json'", 'no status', '--overwrite'),
    files={**record(), f'{DIGITS}/run_1/trial.json': '[]'},
  ),
  Case(
    'resume of another run',
    (
      'holds another run',
      'rng_seed is 2, there it is 1',
      "data is 'real', there it is 'synthetic'",
      '--overwrite deletes it',
    ),
    {'rng_seed': 2},
    more=('--resume',),
    files=record(rng_seed=1, data='synthetic'),
  ),
  Case(
    'resume of no record',
    ("metadata.json'", 'not a JSON object', '--overwrite'),
    more=('--resume',),
    files={**record(), f'{DIGITS}/metadata.json': '[]'},
  ),
  Case(
    'overwrite that fails',
    ("'digts'",),
    {'workload': 'digts'},
    more=('--overwrite',),
    files=record(),
  ),
)

# What Python runs first when this is on its path: PyTorch is not to be found.
HIDE_TORCH = """
import importlib.machinery

find = importlib.machinery.PathFinder.find_spec
importlib.machinery.PathFinder.find_spec = (
  lambda name, *more: None if name == 'torch' else find(name, *more)
)
"""
INSTALLATION_CASES = (
  Case(
    'framework not installed',
    ('--framework=pytorch needs torch', 'pip install "algorithmic-efficiency[pytorch]"'),
    {'framework': 'pytorch'},
    files={'first/sitecustomize.py': HIDE_TORCH},
    environment={'PYTHONPATH': '@/first'},
  ),
  Case(
    'framework that does not start',
    ('--framework=jax', 'libfoo.so is not here', 'mend the installation'),
    files={'first/jax.py': 'raise ImportError("libfoo.so is not here\\nnor there")'},
    environment={'PYTHONPATH': '@/first'},
    needs_framework=True,
  ),
)

FRAMEWORK_CASES = (
  source(
    'module missing',
    'import nowhere_to_be_found\n' + SOURCE,
    "'nowhere_to_be_found'",
    'line 1',
    'install it',
    needs_framework=True,
  ),
  Case(
    'batch over devices',
    ('Batch size 10', '4 devices', 'multiple of 4'),
    {'batch_size': 10},
    environment={'XLA_FLAGS': '--xla_force_host_platform_device_count=4'},
    needs_framework=True,
  ),
  Case(
    'no data and no network',
    ("data'", 'Connection refused', '--workload=digits'),
    {'workload': 'mnist', 'data_dir': '@/data'},
    needs_framework=True,
    files={'data/': ''},
    environment={'https_proxy': 'http://127.0.0.1:9', 'no_proxy': ''},
  ),
  Case(
    'no HPU',
    ('--device=hpu', 'habana_frameworks is not installed', 'choose another'),
    {'framework': 'pytorch', 'device': 'hpu'},
    needs_framework=True,
  ),
  Case(
    'no pairs',
    ("data/unet'", '_mask.tif', '--data_dir', '--data=synthetic'),
    {'workload': 'unet', 'data_dir': '@/data'},
    needs_framework=True,
    files={'data/': ''},
  ),
  Case(
    'no such device',
    ("'abacus'", 'JAX_PLATFORMS'),
    environment={'JAX_PLATFORMS': 'abacus'},
    needs_framework=True,
  ),
)

CASES = (
  *FLAG_CASES,
  *SOURCE_CASES,
  *SPACE_CASES,
  *METADATA_CASES,
  *FOLDER_CASES,
  *INSTALLATION_CASES,
  *FRAMEWORK_CASES,
)
