"""What telemetry costs a run, with eight GPUs that are made up; writes results.csv.

  python measure_overhead.py                 a quarter of an hour
  python measure_overhead.py --parts=loop    one part; the others' figures stay in the table
  python measure_overhead.py --smoke         a minute

- sampler: alone, once it has started; share of a core, memory, start.
- row: milliseconds of the hardware columns of a row.
- loop: steps a second of one training loop, a second with the sampler at 10 Hz and a second with it
  stopped, in turns: so fine a difference drowns in what lies between two runs.
- runs: whole runs with telemetry off, in rows, and sampled; and when their first row is there.

The GPUs are a library in C where there is a compiler, as fast as calls can be; else in Python.
"""

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'telemetry')]

import fake_gpus

MODES = {
  'off': ('off', 2),
  'row': ('row', 2),
  '2 Hz': ('continuous', 2),
  '10 Hz': ('continuous', 10),
}
GPUS = 8
BASELINE = ROOT / 'baselines' / 'mnist'
SETTING = {'learning_rate': 1e-3, 'one_minus_beta_1': 0.9, 'epsilon': 1e-8}


def run(framework: str, mode: str, steps: int, folder: Path) -> dict[str, float]:
  """Steps a second, seconds to the first row, and the sampler's share of a core."""
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  (folder / 'space.json').write_text(json.dumps([SETTING]))
  kind, hz = MODES[mode]
  flags = {
    'workload': 'mnist', 'framework': framework, 'data': 'synthetic', 'rng_seed': 0,
    'submission_path': BASELINE / f'mnist_{framework}' / 'submission.py',
    'tuning_search_space': folder / 'space.json', 'log_dir': folder / 'logs',
    'max_global_steps': steps, 'eval_period_steps': steps, 'save_checkpoints': 'false',
    'telemetry': kind, 'telemetry_hz': hz, 'batch_size': 256,
  }  # fmt: skip
  command = [sys.executable, str(ROOT / 'submission_runner.py')]
  began = time.monotonic()
  process = subprocess.Popen(
    [*command, *(f'--{k}={v}' for k, v in flags.items())], stdout=subprocess.DEVNULL,
    env=gpus(folder.parent / 'library'),
  )  # fmt: skip
  trial = folder / 'logs' / f'mnist_{framework}' / 'run_1'
  while not _has_row(trial) and process.poll() is None:
    time.sleep(0.005)
  first_row_sec = time.monotonic() - began
  if process.wait():
    raise SystemExit(f'{framework}, {mode}: the run failed.')
  rows = [json.loads(line) for line in (trial / 'metrics.jsonl').read_text().splitlines()]
  first, last = rows[0], rows[-1]
  seconds = last['accumulated_submission_time'] - first['accumulated_submission_time']
  found = {
    'rate': (last['global_step'] - first['global_step']) / seconds,
    'first row': first_row_sec,
  }
  if kind == 'continuous':
    lines = [json.loads(line) for line in (trial / 'telemetry.jsonl').read_text().splitlines()]
    span = lines[-1]['monotonic_sec'] - lines[0]['monotonic_sec']
    found['missed'] = lines[-1]['missed'] / (span * hz)
  return found


def gpus(folder: Path) -> dict[str, str]:
  """Variables that give a process eight GPUs."""
  compiler = shutil.which('cc')
  if compiler is None:
    return fake_gpus.environment(count=GPUS)
  library = folder / 'libnvidia-ml.so.1'
  source = ROOT / 'tests' / 'telemetry' / 'fake_nvml.c'
  if not library.exists():
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, '-O2', '-shared', '-fPIC', '-o', library, source], check=True)
  return {**os.environ, 'LD_LIBRARY_PATH': str(folder), 'FAKE_GPU_COUNT': str(GPUS)}


def loop(framework: str, blocks: int, folder: Path) -> list[dict[str, Any]]:
  """Ratios of neighbouring seconds, with the sampler over without."""
  arguments = [str(HERE / 'one_loop.py'), framework, str(blocks), str(folder / 'loop.jsonl')]
  done = subprocess.run(
    [sys.executable, *arguments], env=gpus(folder), check=True, capture_output=True, text=True
  )
  pairs = json.loads(done.stdout)
  return [
    {'framework': framework, 'mode': '10 Hz', 'what': 'rate over stopped', 'value': a / b}
    for a, b in pairs
  ]


def _has_row(trial: Path) -> bool:
  try:
    return b'\n' in (trial / 'metrics.jsonl').read_bytes()
  except FileNotFoundError:
    return False


def compare(framework: str, repetitions: int, steps: int, folder: Path) -> list[dict[str, Any]]:
  """Rates over that of the `off` beside them."""
  table: list[dict[str, Any]] = []
  for turn in range(repetitions):
    names = list(MODES)[turn % len(MODES) :] + list(MODES)[: turn % len(MODES)]
    found = {mode: run(framework, mode, steps, folder / 'run') for mode in names}
    for mode, figures in found.items():
      over = {'rate over off': figures['rate'] / found['off']['rate']}
      later = {'first row later': figures['first row'] - found['off']['first row']}
      for what, value in {**figures, **over, **later}.items():
        table.append({'framework': framework, 'mode': mode, 'what': what, 'value': value})
    shown = ', '.join(f'{m} {v["rate"]:,.0f}' for m, v in found.items())
    print(f'{framework}  turn {turn + 1}/{repetitions}: steps/s {shown}', flush=True)
  return table


def sampler_alone(hz: float, seconds: float, folder: Path) -> list[dict[str, Any]]:
  """Its share of a core between its third second and its last, its memory, its start."""
  path = folder / f'alone_{hz}.jsonl'
  began = time.monotonic()
  process = subprocess.Popen(
    [sys.executable, '-m', 'algorithmic_efficiency.telemetry.sidecar', f'--file={path}',
     f'--hz={hz}', f'--parent={os.getpid()}',
     f'--devices={",".join(f"gpu.{i}" for i in range(GPUS))}'],
    cwd=ROOT, env=gpus(folder),
  )  # fmt: skip
  while not path.exists() or b'"sample"' not in path.read_bytes():
    time.sleep(0.001)
  start_sec = time.monotonic() - began
  time.sleep(3)
  watched = psutil.Process(process.pid)
  before, at = watched.cpu_times(), time.monotonic()
  time.sleep(seconds)
  after, spent = watched.cpu_times(), time.monotonic() - at
  process.terminate()
  process.wait()
  end = json.loads(path.read_text().splitlines()[-1])
  cpu = after.user + after.system - before.user - before.system
  size = path.stat().st_size / end['samples']
  figures = {
    'share of a core': cpu / spent, 'memory MB': end['max_rss_bytes'] / 1e6, 'start s': start_sec,
    'bytes a sample': size,
  }  # fmt: skip
  return [
    {'framework': '', 'mode': f'{hz:g} Hz alone', 'what': w, 'value': v} for w, v in figures.items()
  ]


def row_cost(repetitions: int) -> list[dict[str, Any]]:
  """Milliseconds of all columns of a row."""
  os.environ['FAKE_GPUS'] = json.dumps({'count': GPUS})
  fake_gpus.install()
  from algorithmic_efficiency.telemetry.sample import Telemetry

  telemetry = Telemetry()
  times: list[float] = []
  for _ in range(repetitions):
    began = time.perf_counter()
    telemetry.read()
    times.append(1e3 * (time.perf_counter() - began))
  median = statistics.median(times)
  return [{'framework': '', 'mode': 'row', 'what': 'columns of a row ms', 'value': median}]


def measured(part: str, folder: Path, smoke: bool, repetitions: int) -> list[dict[str, Any]]:
  """The rows of one part."""
  if part == 'sampler':
    return [row for hz in (2, 10) for row in sampler_alone(hz, 2 if smoke else 20, folder)]
  if part == 'row':
    return row_cost(5 if smoke else 200)
  frameworks = ('jax', 'pytorch')
  if part == 'loop':
    return [row for f in frameworks for row in loop(f, 2 if smoke else 60, folder)]
  if part != 'runs':
    raise SystemExit(f'There is no part {part!r}: sampler, row, loop, runs.')
  steps = {'jax': 80 if smoke else 4000, 'pytorch': 60 if smoke else 3000}
  turns = 1 if smoke else repetitions
  return [row for f in frameworks for row in compare(f, turns, steps[f], folder)]


def _before(path: Path) -> list[dict[str, Any]]:
  if not path.exists():
    return []
  with path.open(newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def main() -> None:
  """Writes results.csv and tells the medians."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--parts', default='sampler,row,loop,runs')
  parser.add_argument('--repetitions', type=int, default=4)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  parts = given.parts.split(',')
  table = [row for row in _before(given.output) if row['part'] not in parts]
  with tempfile.TemporaryDirectory() as temporary:
    for part in parts:
      for row in measured(part, Path(temporary), given.smoke, given.repetitions):
        table.append({'part': part, **row})
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, ['part', 'framework', 'mode', 'what', 'value'])
    writer.writeheader()
    writer.writerows(table)
  groups = dict.fromkeys((r['framework'], r['mode'], r['what']) for r in table)
  for framework, mode, what in groups:
    key = framework, mode, what
    values = [float(r['value']) for r in table if (r['framework'], r['mode'], r['what']) == key]
    low, high = min(values), max(values)
    middle = statistics.median(values)
    print(f'{framework:8} {mode:12} {what:20} {middle:12.4f}  ({low:.4f} to {high:.4f})')


if __name__ == '__main__':
  main()
