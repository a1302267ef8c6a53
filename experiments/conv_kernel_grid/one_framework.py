"""Builds, trains and traces many networks in one process, one after another.

python one_framework.py FRAMEWORK PLAN.JSON

The plan is what measure_grid.py writes: the trials in their order, and how each is measured. After
a trial its name is printed. What is on the disk when the process is killed stays good: a trial's
`trial.json` is written after its trace, whole or not at all.
"""

import importlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np
from grid import IMAGE_SIZE, Setting

from algorithmic_efficiency.records.whole_files import write_whole

WARM_UP = 3
# Untraced steps that the median is of: until both are reached, or the most.
LEAST_STEPS, LEAST_SEC, MOST_STEPS = 5, 0.05, 50


def main() -> None:
  """Measures the trials of the plan."""
  framework, plan_file = sys.argv[1:]
  plan = json.loads(Path(plan_file).read_text())
  if plan['device'] == 'cpu' and hasattr(os, 'sched_setaffinity'):
    # Before a framework makes its threads. On one core a duration is not a sum over threads.
    cores = sorted(os.sched_getaffinity(0))[-plan['cores'] :]
    os.sched_setaffinity(0, cores)
  networks = importlib.import_module(f'one_network_{framework}')
  with tempfile.TemporaryDirectory() as folder:  # a profiler's first start takes long
    trace(networks, make(networks, Setting(1, 1, 1, 1), plan), Path(folder), plan)
  print('ready', flush=True)
  for name, *point, repeat in plan['trials']:
    measure(networks, Setting(*point), repeat, Path(plan['traces'], name), plan)
    print(name, flush=True)
    networks.forget()


def measure(
  networks: Any, setting: Setting, repeat: int, folder: Path, plan: dict[str, Any]
) -> None:
  """One trial: a trace in the folder and, after it, trial.json."""
  shutil.rmtree(folder, ignore_errors=True)  # what a killed process has left is half a trace
  folder.mkdir(parents=True)
  began = time.perf_counter()
  network = make(networks, setting, plan)
  ready = time.perf_counter()
  seconds = untraced(network)
  tracing = time.perf_counter()
  trace(networks, network, folder, plan)
  ended = time.perf_counter()
  content = {
    **setting._asdict(),
    'repeat': repeat,
    'asked': plan['asked'],
    **networks.describe(plan['device']),
    'step_us': 1e6 * statistics.median(seconds),
    'untraced_steps': len(seconds),
    'loss': network.loss(),
    'build_sec': ready - began,
    'trace_sec': ended - tracing,
    'seconds': ended - began,
  }
  write_whole(folder / 'trial.json', json.dumps(content, indent=2) + '\n')


def make(networks: Any, setting: Setting, plan: dict[str, Any]) -> Any:
  """A network that has been compiled and warmed up."""
  generator = np.random.default_rng(plan['seed'])
  shape = (setting.batch_size, IMAGE_SIZE, IMAGE_SIZE)
  images = generator.random(shape, dtype=np.float32)
  labels = generator.integers(0, 2, setting.batch_size).astype(np.float32)
  network = networks.Network(setting, images, labels, plan['seed'], plan['device'])
  for _ in range(WARM_UP):
    network.step()
    network.wait()
  return network


def untraced(network: Any) -> list[float]:
  """Seconds of steps without a profiler."""
  seconds: list[float] = []
  while len(seconds) < MOST_STEPS and (len(seconds) < LEAST_STEPS or sum(seconds) < LEAST_SEC):
    began = time.perf_counter()
    network.step()
    network.wait()
    seconds.append(time.perf_counter() - began)
  return seconds


def trace(networks: Any, network: Any, folder: Path, plan: dict[str, Any]) -> None:
  """Traces steps, after one in which the layers are named already."""
  network.name_layers()
  network.step()
  network.wait()
  with networks.tracing(folder, plan['device']):
    for number in range(plan['steps']):
      with networks.mark(number):
        network.step()
        network.wait()


if __name__ == '__main__':
  main()
