"""Saves and restores a model of so many parameters with two moments each; prints lines of JSON.

python one_model.py jax|pytorch PARAMETERS FOLDER
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.runner.checkpoint import Checkpoints

LAYERS = 20
REPEATS = 3


def model(framework: str, count: int, fill: float) -> dict[str, Any]:
  """Parameters and two moments, in `LAYERS` arrays each."""
  draw = np.random.default_rng(0)  # nothing that could be compressed
  if framework == 'jax':
    from jax.numpy import asarray
  else:
    from torch import from_numpy as asarray

  def layer(number: int) -> Any:
    array = draw.standard_normal(count // LAYERS, np.float32)
    array[-1] = fill + number
    return asarray(array)

  arrays = {name: [layer(number) for number in range(LAYERS)] for name in 'pmv'}
  return {'params': arrays['p'], 'optimizer_state': {'m': arrays['m'], 'v': arrays['v']}}


def show(what: str, size: int, action: Callable[[int], Any]) -> None:
  """The least of several times, since whatever disturbs only makes it longer."""
  seconds: list[float] = []
  for number in range(REPEATS):
    began = time.perf_counter()
    action(number)
    seconds.append(time.perf_counter() - began)
  print(json.dumps({'what': what, 'seconds': min(seconds), 'bytes': size}), flush=True)


def copy(source: Path, target: Path) -> None:
  """A plain copy, on the disk when it returns."""
  shutil.copyfile(source, target)
  with target.open('rb') as file:
    os.fsync(file.fileno())


def main() -> None:
  """Measures."""
  name, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
  framework = frameworks.load(name)
  trial = TrialFolder(folder / 'saved')
  trial.path.mkdir()
  checkpoints = Checkpoints(trial, framework, {'run': 1}, kept=1)
  roots = model(name, count, 1.0)
  size = 3 * 4 * count
  what = {'rows': [0, 0]}
  show('save', size, lambda number: checkpoints.save(number, True, what, roots))
  path = trial.checkpoints()[0]
  arrays = next(path.glob('arrays_0.*'))
  show('plain copy of its bytes', size, lambda number: copy(arrays, folder / 'copy'))
  fresh = model(name, count, 0.0)

  def restore(number: int) -> None:
    del number
    saved = checkpoints.newest(0)
    assert saved is not None
    found = saved.restore(fresh, framework)
    assert float(found['params'][3][-1]) == 4.0

  show('restore', size, restore)
  (others_of_jax if name == 'jax' else others_of_pytorch)(roots, fresh, folder, size)


def others_of_jax(roots: Any, fresh: Any, folder: Path, size: int) -> None:
  """The same by orbax."""
  began = time.perf_counter()
  import orbax.checkpoint as ocp

  seconds = time.perf_counter() - began
  print(json.dumps({'what': 'orbax: import', 'seconds': seconds, 'bytes': 0}))
  target = (folder / 'orbax').absolute()
  checkpointer = ocp.StandardCheckpointer()

  def save(number: int) -> None:
    del number
    checkpointer.save(target, roots, force=True)
    checkpointer.wait_until_finished()

  show('orbax: save', size, save)
  show('orbax: restore', size, lambda number: checkpointer.restore(target, fresh))
  checkpointer.close()


def others_of_pytorch(roots: Any, fresh: Any, folder: Path, size: int) -> None:
  """The same by torch.save alone."""
  del fresh
  import torch

  target = folder / 'bare.pt'

  def save(number: int) -> None:
    del number
    torch.save(roots, target)
    with target.open('rb') as file:
      os.fsync(file.fileno())

  show('torch.save alone', size, save)
  show('torch.load alone', size, lambda number: torch.load(target, weights_only=True))


if __name__ == '__main__':
  main()
