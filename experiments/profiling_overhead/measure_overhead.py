"""Measures what tracing costs the steps that are traced, and those after; writes results.csv.

  python measure_overhead.py            all of it (a quarter of an hour on two cores)
  python measure_overhead.py --smoke    the same in seconds, to see that it runs

Each run has steps before the window, in it, and after it; each step is waited for (one_run.py).
The ratios are of medians within one run. Then the nanoseconds that a step costs where nothing is
profiled.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

FIELDS = ['framework', 'workload', 'repeat', 'what', 'value']
POINT = {'learning_rate': 1e-3, 'one_minus_beta_1': 0.9, 'epsilon': 1e-8}
FIRST = 3  # the steps before are not looked at


class Setting(NamedTuple):
  """Batch size, steps before, in and after the window."""

  batch_size: int
  before: int
  traced: int
  after: int

  def smaller(self) -> 'Setting':
    """For --smoke."""
    return Setting(self.batch_size, 10, 5, 10)


SETTINGS = {
  'digits': Setting(64, 400, 200, 400),
  'mnist': Setting(1024, 100, 50, 100),
  'cifar': Setting(8, 15, 15, 15),
}


def run(framework: str, workload: str, setting: Setting, folder: Path) -> dict[str, float]:
  """Medians of the parts of a run, their ratios, and what the profiler took and left."""
  (folder / 'space.json').write_text(json.dumps([POINT]))
  start = FIRST + setting.before + 1  # one step more, in which PyTorch's profiler warms up
  stop = start + setting.traced
  steps = stop + setting.after
  flags = {
    'workload': workload, 'framework': framework, 'data': 'synthetic', 'rng_seed': 0,
    'submission_path': ROOT / 'baselines' / 'mnist' / f'mnist_{framework}' / 'submission.py',
    'tuning_search_space': folder / 'space.json', 'log_dir': folder / 'logs',
    'batch_size': setting.batch_size, 'max_global_steps': steps, 'eval_period_steps': 10 * steps,
    'save_checkpoints': 'false', 'telemetry': 'off', 'profile_steps': f'{start}:{stop}',
    'eval_timeout_sec': 500,
  }  # fmt: skip
  command = [sys.executable, str(HERE / 'one_run.py'), str(folder / 'seconds.json')]
  subprocess.run(
    [*command, *(f'--{name}={value}' for name, value in flags.items())],
    check=True,
    stdout=subprocess.DEVNULL,
  )
  seconds = json.loads((folder / 'seconds.json').read_text())
  trial = folder / 'logs' / f'{workload}_{framework}' / 'run_1'
  profiled = json.loads((trial / 'trial.json').read_text())['profiled']
  before = statistics.median(seconds[FIRST : start - 1])
  traced = statistics.median(seconds[start:stop])
  after = statistics.median(seconds[stop:])
  size = sum((trial / 'traces' / name).stat().st_size for name in profiled['files'])
  return {
    'step before ms': 1e3 * before,
    'step traced ms': 1e3 * traced,
    'step after ms': 1e3 * after,
    'traced over before': traced / before,
    'after over before': after / before,
    'profiler s': profiled['seconds'],
    'profiler ms a step': 1e3 * profiled['seconds'] / setting.traced,
    'trace kB a step': size / 1e3 / setting.traced,
  }


def without(repeats: int, calls: int) -> list[dict[str, Any]]:
  """Nanoseconds of the two calls in each step of a run that is not profiled."""
  from algorithmic_efficiency.profiling.window import NoProfiler

  rows: list[dict[str, Any]] = []
  profiler = NoProfiler()
  for repeat in range(repeats):
    begin = time.perf_counter()
    for step in range(calls):
      profiler.begin_step(step)
      profiler.end_step()
    both = time.perf_counter() - begin
    begin = time.perf_counter()
    for _ in range(calls):
      pass
    loop = time.perf_counter() - begin
    value = 1e9 * (both - loop) / calls
    what = 'no profiler ns a step'
    rows.append({'framework': '', 'workload': '', 'repeat': repeat, 'what': what, 'value': value})
  return rows


def main() -> None:
  """Writes results.csv and tells the medians."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--workloads', default='digits,mnist,cifar')
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  workloads = ['digits'] if given.smoke else given.workloads.split(',')
  repeats = 1 if given.smoke else given.repeats
  rows = without(repeats, 10_000 if given.smoke else 1_000_000)
  for repeat in range(repeats):
    for workload in workloads:
      setting = SETTINGS[workload].smaller() if given.smoke else SETTINGS[workload]
      for framework in ('jax', 'pytorch'):
        with tempfile.TemporaryDirectory() as folder:
          found = run(framework, workload, setting, Path(folder))
        for what, value in found.items():
          rows.append(dict(zip(FIELDS, (framework, workload, repeat, what, value), strict=True)))
        print(f'{framework} {workload}: traced {found["traced over before"]:.3f}', flush=True)
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, FIELDS)
    writer.writeheader()
    writer.writerows(rows)
  for key in dict.fromkeys((r['framework'], r['workload'], r['what']) for r in rows):
    values = [r['value'] for r in rows if (r['framework'], r['workload'], r['what']) == key]
    middle = statistics.median(values)
    print(f'{" ".join(key):45} {middle:10.3f}  ({min(values):.3f} to {max(values):.3f})')


if __name__ == '__main__':
  main()
