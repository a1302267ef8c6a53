"""A loop as one would write it by hand around the very step the bench compiles: what (a) compares.

  python bare_loop.py --framework=jax --workload=digits --batch_size=64 --steps=3000

Same compiled step, same arrays, same batch size and shuffling; no clock, no rules, no keys, no
record. Prints steps per second after the first step, as JSON. Started as several processes (see
experiments/launching.py), each makes its rows of every batch.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.workload import Workload


class Point:
  """A point of baselines/mnist's search space."""

  learning_rate = 1e-3
  one_minus_beta_1 = 0.95
  epsilon = 1e-8


def batches(workload: Workload, size: int, rows: slice):
  """Shuffled batches, epoch after epoch; of each the rows that this process makes."""
  arrays = workload.load('train')
  inputs, targets = arrays['inputs'], arrays['targets']
  rng = np.random.default_rng(0)
  while True:
    order = rng.permutation(len(inputs))
    for start in range(0, len(order) - size + 1, size):
      chosen = order[start : start + size][rows]
      yield {'inputs': inputs[chosen], 'targets': targets[chosen]}


def run_jax(workload: Workload, submission, stream, steps: int) -> float:
  """Steps per second."""
  import jax

  from algorithmic_efficiency.frameworks import on_jax

  params, model_state = workload.init_model_fn(0)
  state, update = submission.init_optimizer_state(workload, params, model_state, Point, None)
  key = jax.random.PRNGKey(0)
  for step in range(steps):
    state, params, model_state = submission.train_step(
      workload, update, model_state, state, params, on_jax.place(next(stream)), key
    )
    if step == 0:
      jax.block_until_ready(params)
      start = time.perf_counter()
  jax.block_until_ready(params)
  return (steps - 1) / (time.perf_counter() - start)


def run_pytorch(workload: Workload, submission, stream, steps: int) -> float:
  """Steps per second."""
  import torch

  device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
  model, _ = workload.init_model_fn(0)
  optimizer = submission.init_optimizer_state(workload, model, None, Point, None)['optimizer']
  model.train()
  for step in range(steps):
    batch = next(stream)
    inputs = torch.from_numpy(batch['inputs']).to(device)
    targets = torch.from_numpy(batch['targets']).long().to(device)
    optimizer.zero_grad(set_to_none=True)
    loss = workload.loss_fn(targets, model(inputs))  # the workload's own, for the same step
    (loss['summed'] / loss['n_valid_examples']).backward()
    optimizer.step()
    if step == 0:
      start = synchronized_time(device)
  return (steps - 1) / (synchronized_time(device) - start)


def synchronized_time(device) -> float:
  """Seconds, once the device has finished."""
  import torch

  if device.type == 'cuda':
    torch.cuda.synchronize()
  return time.perf_counter()


def main() -> None:
  """Runs one loop."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--framework', choices=('jax', 'pytorch'), required=True)
  parser.add_argument('--workload', required=True)
  parser.add_argument('--batch_size', type=int, required=True)
  parser.add_argument('--steps', type=int, required=True)
  arguments = parser.parse_args()
  submission = importlib.import_module(f'baselines.mnist.mnist_{arguments.framework}.submission')
  framework = frameworks.load(arguments.framework)
  found = registry.find(arguments.workload)
  # MNIST has to be drawn where it cannot be downloaded; the time of a step is the same.
  workload = Workload(found, framework, synthetic_seed=0)
  run = {'jax': run_jax, 'pytorch': run_pytorch}[arguments.framework]
  index, count = framework.processes.index(), framework.processes.count()
  size = arguments.batch_size
  stream = batches(workload, size, slice(size * index // count, size * (index + 1) // count))
  speed = run(workload, submission, stream, arguments.steps)
  if index == 0:
    print(json.dumps({'steps_per_sec': speed}))
  framework.processes.leave()


if __name__ == '__main__':
  main()
