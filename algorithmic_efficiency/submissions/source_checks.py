"""This file reads a submission's source and says all that is wrong with it, before importing it."""

import ast
import difflib
from collections.abc import Iterable, Iterator

UPDATE = (
  'workload',
  'current_param_container',
  'current_params_types',
  'model_state',
  'hyperparameters',
  'batch',
  'loss_type',
  'optimizer_state',
  'eval_results',
  'global_step',
  'rng',
)
BY_KEYWORD = {
  'update_params': (*UPDATE, 'train_state'),
  'prepare_for_eval': tuple(n for n in UPDATE if n != 'batch'),
}
NOT_NEEDED = {'train_state'}  # given only to those who name it
BY_POSITION = {
  'get_batch_size': 1,
  'get_eval_batch_size': 1,
  'init_optimizer_state': 5,
  'data_selection': 8,
}
REQUIRED = ('get_batch_size', 'init_optimizer_state', 'update_params', 'data_selection')
FRAMEWORK_MODULES = {'jax': 'jax', 'pytorch': 'torch'}


def find_faults(
  tree: ast.Module, framework: str, hyperparameters: Iterable[str] | None
) -> list[str]:
  """One clause per fault.

  Args:
    tree: the parsed source.
    framework: the one the run uses.
    hyperparameters: the names the search space has; None where there is none to compare with.
  """
  functions = {n.name: n for n in _statements(tree.body) if isinstance(n, ast.FunctionDef)}
  faults = _missing(tree, functions)
  for name, function in functions.items():
    if name in BY_KEYWORD:
      faults += _keyword_faults(function, BY_KEYWORD[name])
    elif name in BY_POSITION:
      faults += _position_faults(function, BY_POSITION[name])
  faults += _framework_faults(tree, framework)
  if hyperparameters is not None:
    faults += _hyperparameter_faults(tree, set(hyperparameters))
  return faults


def _statements(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
  """A module's own statements, those within if, try, with and loops included."""
  for node in body:
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
      yield from _statements(ast.iter_child_nodes(node))


def _missing(tree: ast.Module, functions: dict[str, ast.FunctionDef]) -> list[str]:
  bound = set(functions)
  for node in _statements(tree.body):
    if isinstance(node, ast.ImportFrom) and any(a.name == '*' for a in node.names):
      return []  # the names can be known only once it is imported
    if isinstance(node, ast.Import | ast.ImportFrom):
      bound |= {a.asname or a.name for a in node.names}
    if isinstance(node, ast.Assign | ast.AnnAssign):
      targets = node.targets if isinstance(node, ast.Assign) else [node.target]
      bound |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
  faults: list[str] = []
  for name in REQUIRED:
    if name not in bound:
      near = difflib.get_close_matches(name, bound - set(REQUIRED), n=1, cutoff=0.8)
      hint = f' (is {near[0]!r} meant?)' if near else ''
      faults.append(f'it defines no function {name}{hint}')
  return faults


def _keyword_faults(function: ast.FunctionDef, known: tuple[str, ...]) -> list[str]:
  arguments = function.args
  named = [a.arg for a in (*arguments.args, *arguments.kwonlyargs)]
  optional = {a.arg for a in arguments.args[len(arguments.args) - len(arguments.defaults) :]}
  optional |= {
    a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None
  }
  missing = [n for n in known if n not in named and n not in NOT_NEEDED]
  unknown = [n for n in named if n not in known and n not in optional]
  place = f'{function.name} (line {function.lineno})'
  faults: list[str] = []
  if missing and arguments.kwarg is None:
    faults.append(f'{place} does not take {", ".join(missing)}, which it is given by keyword')
  if unknown:
    faults.append(f'{place} asks for {", ".join(unknown)}, which it is not given')
  return faults


def _position_faults(function: ast.FunctionDef, given: int) -> list[str]:
  arguments = function.args
  most = len(arguments.posonlyargs) + len(arguments.args)
  least = most - len(arguments.defaults)
  if least <= given and (most >= given or arguments.vararg is not None):
    return []
  return [
    f'{function.name} (line {function.lineno}) takes {most} arguments '
    f'but is given {given} by position'
  ]


def _framework_faults(tree: ast.Module, framework: str) -> list[str]:
  imported = set[str]()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      imported |= {alias.name.partition('.')[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
      imported.add(node.module.partition('.')[0])
  wanted = FRAMEWORK_MODULES[framework]
  others = {m for f, m in FRAMEWORK_MODULES.items() if f != framework} & imported
  if others and wanted not in imported:
    return [
      f'it imports {", ".join(others)} and not {wanted}, but the run is --framework={framework}'
    ]
  return []


def _hyperparameter_faults(tree: ast.Module, known: set[str]) -> list[str]:
  """`hyperparameters.x` without x in the space, unless the source asks whether x is there."""
  guarded = set[str]()
  read: dict[str, int] = {}
  for node in ast.walk(tree):
    if (
      isinstance(node, ast.Call)
      and isinstance(node.func, ast.Name)
      and node.func.id in ('hasattr', 'getattr')
      and len(node.args) >= 2
      and isinstance(node.args[1], ast.Constant)
    ):
      guarded.add(str(node.args[1].value))
    elif (
      isinstance(node, ast.Attribute)
      and isinstance(node.value, ast.Name)
      and node.value.id == 'hyperparameters'
      and not node.attr.startswith('_')
    ):
      read[node.attr] = min(node.lineno, read.get(node.attr, node.lineno))
  return [
    f'it reads hyperparameters.{name} (line {line}), which the search space does not have'
    for name, line in read.items()
    if name not in known | guarded
  ]
