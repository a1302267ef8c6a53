"""Measures how wrong working sets are, and what sampling costs, on programs with a known answer.

  python experiments/working_set_known_arrays/measure_arrays.py
  python experiments/working_set_known_arrays/measure_arrays.py --smoke

Writes accuracy.csv: a row a backend, kind of access and size of the hot set, with the pages that
were missed and those seen beside it; cost.csv: how long a process of a given size stands still for
a sample; slowdown.csv: training with and without a trace, in pairs.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from algorithmic_efficiency.memory_trace import backends
from algorithmic_efficiency.memory_trace.trace_file import Sample, Trace

TOUCHER = ROOT / 'tests' / 'memory_trace' / 'toucher.py'
PAGE, MIB = 4096, 1 << 20
HOT_MIB = (0.0625, 0.25, 1, 4, 16, 64, 256, 1024)
ACCESSES = ('read', 'write', 'mixed')
ORDERS = {'sequential': HOT_MIB, 'random': (1, 16, 64), 'strided': (1, 16, 64)}
CHUNK_KIB = 64
UNPLACED = 64 << 10  # of small mappings that lie across two chunks
RESIDENT_MIB = (100, 1024, 4096)
WINDOWS_SEC = (0.2, 0.5, 2.0)
Row = dict[str, Any]


def main() -> None:
  """Measures what is asked for."""
  given = parse()
  given.output_dir.mkdir(parents=True, exist_ok=True)
  parts = {'accuracy': accuracy, 'cost': cost, 'slowdown': slowdown}
  for name in given.only:
    path = given.output_dir / f'{name}.csv'
    known = read(path) if not given.overwrite else []
    rows: list[Row] = [*known]
    for row in parts[name](given, rows):
      rows.append(row)
      print(name, *(f'{k}={v}' for k, v in row.items()), flush=True)
      write(path, rows)


def accuracy(given: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
  """Every backend that can be used here, on every hot set."""
  done = {(r['backend'], r['access'], r['order'], float(r['hot_mib'])) for r in known}
  for backend in usable():
    for access in ACCESSES:
      if access != 'write' and backend == 'uffd_wp':
        continue  # it sees writes only
      for order, sizes in ORDERS.items():
        for hot in sizes:
          if hot > given.most_mib or (backend, access, order, float(hot)) in done:
            continue
          yield errors_of(backend, access, order, hot, given)


def errors_of(backend: str, access: str, order: str, hot: float, given: argparse.Namespace) -> Row:
  """Traces a program that touches so much of twice as much, and compares."""
  total = max(2 * int(hot), int(hot) + 16)
  # A whole turn must fit into a window: a page is touched in a fraction of a microsecond.
  window = 0.2 if hot <= 64 else 1.0 if hot <= 256 else 4.0
  told, samples, unit = traced(
    backend, window, given.samples, [f'--total_mib={total}', f'--hot_mib={hot}',
    '--hot_at_mib=8', f'--access={access}', f'--order={order}']
  )  # fmt: skip
  pages = np.arange(told['hot'], told['hot'] + told['hot_bytes'], PAGE * told['stride'])
  missed, extra = zip(*(compare(s, told, pages, unit) for s in samples), strict=True)
  return {
    'backend': backend, 'access': access, 'order': order, 'hot_mib': hot, 'unit_bytes': unit or '',
    'samples': len(samples), 'pages': len(pages), 'missed_pages_most': max(missed),
    'extra_pages_most': max(extra),
    'elsewhere_mib': round(statistics.median(elsewhere(s, told) for s in samples) / MIB, 3),
    'pause_ms': round(statistics.median(s.window.paused_ns for s in samples) / 1e6, 2),
  }  # fmt: skip


def compare(sample: Sample, told: Row, pages: np.ndarray, unit: int | None) -> tuple[int, int]:
  """(pages missed, pages too many) within the array."""
  begin, end = told['base'], told['base'] + told['bytes']
  if sample.touched.units is None or unit is None:
    found = sum(e.touched for e in sample.touched.extents if e.mapping.begin <= told['hot']
                < e.mapping.end) // PAGE  # fmt: skip
    return max(0, len(pages) - found), max(0, found - len(pages))
  units = np.concatenate([np.arange(a, a + n) for a, n in sample.touched.units])
  within = units[(units * unit < end) & ((units + 1) * unit > begin)]
  truth = np.unique(pages // unit)
  per_unit = unit // PAGE
  missed = len(np.setdiff1d(truth, units)) * per_unit
  return missed, len(np.setdiff1d(within, truth)) * per_unit


def elsewhere(sample: Sample, told: Row) -> int:
  """Bytes touched in other mappings than the array's: the interpreter's own."""
  return sum(e.touched for e in sample.touched.extents
             if not e.mapping.begin <= told['hot'] < e.mapping.end)  # fmt: skip


def cost(given: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
  """How long processes of different sizes stand still."""
  done = {(r['backend'], float(r['resident_mib'])) for r in known}
  for backend in usable():
    for resident in RESIDENT_MIB:
      if resident > 4 * given.most_mib or (backend, float(resident)) in done:
        continue
      told, samples, _ = traced(
        backend, 0.5, given.samples, [f'--total_mib={resident}', '--hot_mib=64', '--hot_at_mib=8'],
        # A process may have 65,530 mappings.
        chunk_kib=CHUNK_KIB if resident <= 1024 else 4 * CHUNK_KIB,
      )  # fmt: skip
      del told
      pauses = [s.window.paused_ns / 1e6 for s in samples]
      yield {
        'backend': backend, 'resident_mib': resident, 'samples': len(samples),
        'pause_ms_median': round(statistics.median(pauses), 2),
        'pause_ms_least': round(min(pauses), 2), 'pause_ms_most': round(max(pauses), 2),
        'mappings': len(samples[-1].touched.extents),
      }  # fmt: skip


def traced(
  backend: str, window: float, count: int, options: Sequence[str], chunk_kib: int = CHUNK_KIB
) -> tuple[Row, list[Sample], int | None]:
  """(what the program tells of itself, samples when it only touches its hot set, unit)."""
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, 'memory.jsonl')
    command = [sys.executable, ROOT / 'scripts' / 'trace_memory.py', '--quiet', '--children',
               f'--backend={backend}', f'--sample_sec={window}', f'--output={path}',
               f'--chunk_kib={chunk_kib}', '--', sys.executable, TOUCHER, *options]  # fmt: skip
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    told = json.loads(program.stdout.readline())
    assert program.stdout.readline() == 'ready\n'
    ready = time.monotonic_ns()
    samples: list[Sample] = []
    unit = None
    for _ in range(600):
      time.sleep(window)
      if not path.exists():
        continue
      trace = Trace(path)
      unit = trace.header['unit_bytes']
      # From the second on that begins after it was ready: chunks are then cut.
      samples = [s for s in trace.samples() if s.window.begin_ns > ready and s.pid == told['pid']][
        1:
      ]
      # One in which chunks were not cut yet says so; it is not wrong about where they are.
      samples = [s for s in samples if s.touched.unplaced < UNPLACED]
      if len(samples) >= count:
        break
    os.kill(told['pid'], 9)
    program.communicate()
  if not samples:
    raise SystemExit(f'{backend} gave no samples of {" ".join(options)}.')
  return told, samples[:count], unit


def slowdown(given: argparse.Namespace, known: Sequence[Row]) -> Iterator[Row]:
  """Training plain and traced, one after the other, in turn."""
  done = {(r['framework'], r['trace'], int(r['repeat'])) for r in known}
  kinds = ['', *(f'refs:{window}' for window in WINDOWS_SEC), 'refs_split:0.5']
  for framework in ('jax', 'pytorch'):
    for repeat in range(1, given.repeats + 1):
      for kind in kinds if repeat % 2 else reversed(kinds):
        if (framework, kind, repeat) not in done:
          yield {
            'framework': framework,
            'trace': kind,
            'repeat': repeat,
            **train(framework, kind, given),
          }


def train(framework: str, trace: str, given: argparse.Namespace) -> Row:
  """One run of the MNIST network by the command; seconds of its training alone."""
  with tempfile.TemporaryDirectory() as logs:
    baseline = ROOT / 'baselines' / 'mnist'
    command = [
      sys.executable, ROOT / 'submission_runner.py', '--workload=mnist', f'--framework={framework}',
      f'--submission_path={baseline / f"mnist_{framework}" / "submission.py"}',
      f'--tuning_search_space={baseline / "tuning_search_space.json"}', '--num_tuning_trials=1',
      '--data=synthetic', f'--max_global_steps={given.steps}', '--rng_seed=1', f'--log_dir={logs}',
      f'--eval_period_steps={given.steps // 4}', '--telemetry=off', '--save_checkpoints=false',
    ]  # fmt: skip
    if trace:
      command.append(f'--trace_memory={trace}')
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
      raise SystemExit(f'training failed:\n{done.stderr}')
    lines = next(Path(logs).rglob('metrics.jsonl')).read_text().splitlines()
  # From the first evaluation on: before it the framework compiles.
  first, last = json.loads(lines[0]), json.loads(lines[-1])
  spent, out = ({k: last.get(k, 0.0) - first.get(k, 0.0) for k in names} for names in (
    ('global_step', 'accumulated_submission_time'), ('accumulated_memory_trace_time',)
  ))  # fmt: skip
  return {
    'steps': spent['global_step'],
    'submission_sec': round(spent['accumulated_submission_time'], 3),
    'left_out_sec': round(out['accumulated_memory_trace_time'], 3),
  }


def usable() -> list[str]:
  """Backends that can be used here and need no root."""
  found = []
  for name in backends.NAMES:
    backend = backends.load(name, chunk_bytes=CHUNK_KIB << 10, agents=None, sample_sec=1.0)
    if not backend.probe() and backend.CAPABILITIES.pauses:
      found.append(name)
  return found


def read(path: Path) -> list[Row]:
  """Rows that were measured before."""
  if not path.exists():
    return []
  with path.open(newline='', encoding='utf-8') as file:
    return [*csv.DictReader(file)]


def write(path: Path, rows: Sequence[Row]) -> None:
  """Writes the table."""
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)


def parse() -> argparse.Namespace:
  """The flags."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument(
    '--only', type=lambda text: text.split(','), default=['accuracy', 'cost', 'slowdown']
  )
  parser.add_argument('--samples', type=int, default=8, help='of each setting')
  parser.add_argument('--most_mib', type=float, default=1024, help='largest hot set')
  parser.add_argument('--steps', type=int, default=600, help='of training')
  parser.add_argument('--repeats', type=int, default=5, help='of training')
  parser.add_argument('--output_dir', type=Path, default=HERE)
  parser.add_argument('--overwrite', action='store_true', help='measure all again')
  parser.add_argument('--smoke', action='store_true', help='little of each, in 20 s')
  given = parser.parse_args()
  if given.smoke:
    given.samples, given.most_mib, given.steps, given.repeats = 1, 0.25, 20, 1
    given.only = ['accuracy']
  return given


if __name__ == '__main__':
  main()
