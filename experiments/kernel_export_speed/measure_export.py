"""Seconds and memory to export the kernel statistics of 1,380 traces, and what xprof takes.

  python measure_export.py                          results.csv: 1,380 traces, 2 GB, on the disk
  python measure_export.py --xprof=PYTHON           and through xprof, by a python that has it
  python measure_export.py --smoke                  30 traces

A third of the traces are of a CPU, recorded by JAX with its tracer of Python; the others have 100
to 400 kernels and 22,000 events of the host. A folder has one trace, as TensorBoard lays them out.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]

import made_traces
import psutil

BATCHES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 319, 320, 321]
NAMES = [f'b{b}s{s}k{k}f{f}' for b in BATCHES for s in (1, 2, 3) for k in (1, 3)
         for f in range(1, 11)]  # fmt: skip
COLUMNS = ['engine', 'kinds', 'jobs', 'repeat', 'traces', 'megabytes', 'seconds', 'rows',
           'peak_mebibytes']  # fmt: skip
TRACED = """
import sys
import jax
import jax.numpy as jnp
step = jax.jit(lambda x: (jnp.sin(x) @ x).sum())
step(jnp.ones((64, 64))).block_until_ready()
with jax.profiler.trace(sys.argv[1]):
  for number in range(int(sys.argv[2])):
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      step(jnp.ones((64, 64))).block_until_ready()
"""


def main() -> None:
  """Writes results.csv line by line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--xprof', metavar='PYTHON', help='a python that can import xprof')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  names = NAMES[::46] if given.smoke else NAMES
  repeats = 1 if given.smoke else given.repeats
  settings = [('ours', 'kernel', 1), ('ours', 'kernel', 2)]
  settings += [('xprof', 'kernel', 2)] if given.xprof else []
  with tempfile.TemporaryDirectory() as folder, given.output.open('w', newline='') as file:
    traces = Path(folder) / 'tboard_logs'
    size = make(traces, names, Path(folder))
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for repeat in range(repeats):
      for engine, kinds, jobs in settings:  # one after another, so that all see the same machine
        python = given.xprof if engine == 'xprof' else sys.executable
        found = export(python, traces, engine, kinds, jobs)
        row = {'engine': engine, 'kinds': kinds, 'jobs': jobs, 'repeat': repeat,
               'traces': len(names), 'megabytes': round(size / 1e6), **found}  # fmt: skip
        writer.writerow(row)
        file.flush()
        print(', '.join(f'{name} {value}' for name, value in row.items()), flush=True)


def make(traces: Path, names: list[str], scratch: Path) -> int:
  """Copies of six traces, a folder each; returns their bytes."""
  kinds: list[Path] = []
  for seed in range(4):
    made = scratch / f'{seed}.xplane.pb'
    made_traces.write(made, seed, kernels=100 * (seed + 1))
    kinds.append(made)
  for steps in (200, 400):
    recorded = scratch / f'cpu_{steps}'
    command = [sys.executable, '-c', TRACED, str(recorded), str(steps)]
    subprocess.run(command, check=True, capture_output=True)
    kinds += recorded.rglob('*.xplane.pb')
  size = 0
  for number, name in enumerate(names):
    folder = traces / f'20200512-1402-{name}' / 'train' / 'plugins' / 'profile' / '2020_05_12'
    folder.mkdir(parents=True)
    source = kinds[number % len(kinds)]
    shutil.copyfile(source, folder / 'node.xplane.pb')
    size += source.stat().st_size
  return size


def export(python: str, traces: Path, engine: str, kinds: str, jobs: int) -> dict[str, object]:
  """Exports all of them anew."""
  output = traces.with_name('out')
  shutil.rmtree(output, ignore_errors=True)
  source = 'xprof' if engine == 'xprof' else 'auto'
  command = [python, ROOT / 'scripts' / 'export_kernels.py', traces, f'--output_dir={output}',
             f'--kinds={kinds}', f'--jobs={jobs}', f'--source={source}']  # fmt: skip
  began = time.perf_counter()
  process = subprocess.Popen(
    [*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    env={**os.environ, 'OMP_NUM_THREADS': '1'},
  )  # fmt: skip
  peak = [0]
  watcher = threading.Thread(target=watch, args=(process.pid, peak), daemon=True)
  watcher.start()
  process.wait()
  seconds = time.perf_counter() - began
  watcher.join()
  with (output / 'kernels.csv').open(newline='') as file:
    rows = sum(1 for _ in csv.reader(file)) - 1
  return {'seconds': round(seconds, 2), 'rows': rows, 'peak_mebibytes': round(peak[0] / 2**20)}


def watch(pid: int, peak: list[int]) -> None:
  """The most memory that the command and its processes had at once."""
  try:
    root = psutil.Process(pid)
    while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
      total = 0
      for process in [root, *root.children(recursive=True)]:
        try:
          total += process.memory_info().rss
        except psutil.NoSuchProcess:
          continue
      peak[0] = max(peak[0], total)
      time.sleep(0.05)
  except psutil.NoSuchProcess:
    return


if __name__ == '__main__':
  main()
