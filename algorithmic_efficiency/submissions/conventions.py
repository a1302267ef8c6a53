"""This file finds out for which generation of the API a JAX submission was written.

Those up to AlgoPerf's leaderboard of 0.6 map their step over devices with jax.pmap: parameters and
batches come with a leading device axis. Later ones compile it with jax.jit: batches are flat, and
shardings say what lies where. The name of the package they import does not tell them apart.
"""

import ast
from pathlib import Path

from algorithmic_efficiency.submissions.importing import Place

API_NAMES = ('auto', 'v05', 'v06')  # the choices of --submission_api
DEVICE_AXIS = 'v05'
SHARDINGS = 'v06'


def find(path: Path, framework: str, choice: str = 'auto') -> str:
  """DEVICE_AXIS or SHARDINGS for a submission's file; `choice` overrides what its source says.

  PyTorch submissions are the same in both.
  """
  if choice != 'auto':
    return choice
  if framework != 'jax':
    return SHARDINGS
  return DEVICE_AXIS if any(_mentions_pmap(tree) for tree in own_sources(path)) else SHARDINGS


def own_sources(path: Path) -> list[ast.Module]:
  """The parsed source of a submission and of all files of its own that it imports."""
  place, seen, waiting = Place(path), set[Path](), [path]
  trees: list[ast.Module] = []
  while waiting:
    file = waiting.pop()
    if file in seen:
      continue
    seen.add(file)
    try:
      tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # told with its place when it is imported
      continue
    trees.append(tree)
    for node in ast.walk(tree):
      if isinstance(node, ast.Import):
        for alias in node.names:
          waiting += place.files(alias.name, (), 0, file)
      elif isinstance(node, ast.ImportFrom):
        names = [alias.name for alias in node.names]
        waiting += place.files(node.module or '', names, node.level, file)
  return trees


def _mentions_pmap(tree: ast.Module) -> bool:
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and node.attr == 'pmap':
      return True
    if isinstance(node, ast.ImportFrom) and any(alias.name == 'pmap' for alias in node.names):
      return True
  return False
