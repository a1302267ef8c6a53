"""The house keeps its shape: arrows run down, framework words stay where they belong, sizes."""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'algorithmic_efficiency'

# Lowest first; a room may import from its own and from lower floors.
FLOORS = (
  ('records', 'hparams'),
  ('frameworks', 'submissions', 'telemetry', 'profiling', 'memory_trace', 'exports'),
  ('workloads', 'device_logs'),
  ('runner', 'layer_power', 'launch', 'scoring'),
  ('report',),
)
FRONT_DOOR = {
  '__init__',
  'errors',
  'jax_sharding_utils',
  'logging_utils',
  'pytorch_utils',
  'spec',
  'status_line',
  'submission_runner',
}
FRAMEWORK_MODULES = {'jax', 'jaxlib', 'flax', 'optax', 'torch', 'tensorflow'}
FRAMEWORK_FILES = ('_jax.py', '_pytorch.py', 'jax_sharding_utils.py', 'pytorch_utils.py')
MOST_LINES = {'function': 60, 'file': 500, 'run_trial': 40, 'submission_runner.py': 300}
MOST_ARGUMENTS = 8
# Functions whose arguments the submission API fixes.
API_FUNCTIONS = {'model_fn', 'loss_fn', '_build_input_queue', 'apply', 'update_params'}
API_FUNCTIONS |= {'data_selection', 'train_step'}


def floor_of(room: str) -> int:
  for number, rooms in enumerate(FLOORS):
    if room in rooms:
      return number
  raise AssertionError(f'room {room!r} stands on no floor; add it to FLOORS')


def imports(path: Path) -> list[tuple[int, str]]:
  """(line, dotted module) of every import, those within functions too."""
  found = []
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found += [(node.lineno, alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
      found += [(node.lineno, f'{node.module}.{alias.name}') for alias in node.names]
  return found


def test_arrows_run_down():
  faults = []
  for path in PACKAGE.rglob('*.py'):
    parts = path.relative_to(PACKAGE).parts
    if len(parts) == 1:
      continue
    room = parts[0]
    for line, module in imports(path):
      names = module.split('.')
      if names[0] != 'algorithmic_efficiency' or len(names) < 2:
        continue
      used = names[1]
      if not (PACKAGE / used).is_dir() or used == room:
        continue
      if floor_of(used) >= floor_of(room):
        faults.append(f'{path.relative_to(ROOT)}:{line}: {room} imports from {used}, not below it')
  assert not faults, '\n'.join(faults)


def test_front_door_is_imported_by_none_of_its_rooms_as_a_command():
  for path in PACKAGE.rglob('*/*.py'):
    for line, module in imports(path):
      assert 'submission_runner' not in module, f'{path}:{line}'


def test_root_holds_only_the_front_door():
  assert {path.stem for path in PACKAGE.glob('*.py')} == FRONT_DOOR


def test_no_name_in_the_root_hides_the_standard_library():
  names = {path.stem for path in PACKAGE.iterdir() if path.suffix in ('', '.py')}
  assert not names & set(sys.stdlib_module_names)


def test_frameworks_are_imported_only_where_the_file_name_says_so():
  faults = []
  for path in PACKAGE.rglob('*.py'):
    if path.name.endswith(FRAMEWORK_FILES):
      continue
    for line, module in imports(path):
      if module.split('.')[0] in FRAMEWORK_MODULES:
        faults.append(f'{path.relative_to(ROOT)}:{line}: {module}')
  assert not faults, '\n'.join(faults)


def test_jax_files_know_no_torch_and_the_other_way_round():
  for suffix, strangers in (('_jax.py', {'torch'}), ('_pytorch.py', {'jax', 'flax', 'optax'})):
    for path in PACKAGE.rglob(f'*{suffix}'):
      for line, module in imports(path):
        assert module.split('.')[0] not in strangers, f'{path}:{line}'


def functions() -> list[tuple[Path, ast.FunctionDef]]:
  found = []
  for folder in (PACKAGE, ROOT / 'baselines', ROOT / 'experiments'):
    for path in folder.rglob('*.py'):
      nodes = ast.walk(ast.parse(path.read_text()))
      found += [(path, node) for node in nodes if isinstance(node, ast.FunctionDef)]
  return found


def test_functions_fit_on_a_screen():
  faults = []
  for path, function in functions():
    lines = (function.end_lineno or 0) - function.lineno + 1
    most = MOST_LINES.get(function.name, MOST_LINES['function'])
    if lines > most:
      faults.append(f'{path.relative_to(ROOT)}:{function.lineno}: {function.name}: {lines} lines')
    count = len(function.args.args) + len(function.args.kwonlyargs)
    if count > MOST_ARGUMENTS and function.name not in API_FUNCTIONS:
      faults.append(f'{path.relative_to(ROOT)}:{function.lineno}: {count} arguments')
  assert not faults, '\n'.join(faults)


def test_files_stay_short():
  faults = []
  for path in PACKAGE.rglob('*.py'):
    lines = len(path.read_text().splitlines())
    if lines > MOST_LINES.get(path.name, MOST_LINES['file']):
      faults.append(f'{path.relative_to(ROOT)}: {lines} lines')
  assert not faults, '\n'.join(faults)


def test_everything_public_is_explained():
  faults = []
  for path in PACKAGE.rglob('*.py'):
    tree = ast.parse(path.read_text())
    if not ast.get_docstring(tree):
      faults.append(f'{path.relative_to(ROOT)}: no docstring')
    for node in tree.body:
      public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_')
      if public and not ast.get_docstring(node):
        faults.append(f'{path.relative_to(ROOT)}:{node.lineno}: {node.name}')
  assert not faults, '\n'.join(faults)
