"""Measures what the bench adds to a run; writes results.csv and prints the figures.

  python measure_overhead.py                 all of it (about ten minutes on two cores)
  python measure_overhead.py --smoke         the same in seconds, to see that it runs

(a) steps per second through the bench over those of a bare loop with the same compiled step, in
    one process and in two that share each batch;
(b) seconds from command to the end of the first step, less those of a bare script;
(c) CPU seconds of --helpshort;  (d) seconds per recorded row, at row 10 and at row 10,000.
Each figure is the median over runs that alternate with what they are compared with.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]

import launching

# Workload to batch size and steps of one run in each framework: two to four seconds.
THROUGHPUT = {
  'mnist': (1024, {'jax': 500, 'pytorch': 400}),
  'digits': (64, {'jax': 10_000, 'pytorch': 1_500}),
}
# The same shared by two processes, which meet at every step: fewer steps in the same time.
SHARED = {
  'mnist': (1024, {'jax': 300, 'pytorch': 300}),
  'digits': (64, {'jax': 1_500, 'pytorch': 1_500}),
}
DIGITS = ROOT / 'algorithmic_efficiency' / 'workloads' / 'digits' / 'digits.npz'


def command(framework: str, workload: str, folder: str, *more: str) -> list[str]:
  """The bench's command, without the interpreter."""
  baseline = ROOT / 'baselines' / 'mnist'
  return [
    str(ROOT / 'submission_runner.py'),
    f'--framework={framework}',
    f'--workload={workload}',
    f'--submission_path={baseline}/mnist_{framework}/submission.py',
    f'--tuning_search_space={baseline}/tuning_search_space.json',
    f'--log_dir={folder}',
    '--rng_seed=0',
    *more,
  ]


def last_json(arguments: list[str], framework: str, processes: int = 1) -> dict:
  """What a script printed last."""
  out = launching.run(arguments, framework, processes)
  return json.loads(out.strip().splitlines()[-1])


def read_rows(folder: str, name: str) -> list[dict[str, str]]:
  """The rows of a run's only trial."""
  with (Path(folder) / name / 'run_1' / 'metrics.csv').open(newline='') as file:
    return list(csv.DictReader(file))


def bench_speed(framework: str, workload: str, size: int, steps: int, processes: int) -> float:
  """Steps per second of submission time after the first step, from the record."""
  with tempfile.TemporaryDirectory() as folder:
    options = (
      f'--max_global_steps={steps}',
      f'--eval_period_steps={steps}',
      f'--batch_size={size}',
      '--data=synthetic',
    )
    launching.run(command(framework, workload, folder, *options), framework, processes)
    first, last = read_rows(folder, f'{workload}_{framework}')
  spent = [float(row['accumulated_submission_time']) for row in (first, last)]
  return (steps - 1) / (spent[1] - spent[0])


def bare_speed(framework: str, workload: str, size: int, steps: int, processes: int) -> float:
  """Steps per second of the bare loop after its first step."""
  options = [f'--framework={framework}', f'--workload={workload}']
  options += [f'--batch_size={size}', f'--steps={steps}']
  found = last_json([str(HERE / 'bare_loop.py'), *options], framework, processes)
  return found['steps_per_sec']


def bench_start(framework: str) -> float:
  """Seconds from command to the end of the first step."""
  with tempfile.TemporaryDirectory() as folder:
    start = time.time()
    launching.run(command(framework, 'digits', folder, '--max_global_steps=1'), framework)
    (row,) = read_rows(folder, f'digits_{framework}')
  names = ('accumulated_eval_time', 'accumulated_logging_time')
  after = sum(float(row[name]) for name in names)
  return float(row['global_start_time']) + float(row['total_duration']) - after - start


def bare_start(framework: str) -> float:
  """The same for a script written by hand."""
  start = time.time()
  script = str(HERE / f'bare_start_{framework}.py')
  return last_json([script, str(DIGITS)], framework)['first_step_at'] - start


def help_cpu() -> float:
  """CPU seconds of --helpshort."""
  before = os.times()
  subprocess.run(
    [sys.executable, str(ROOT / 'submission_runner.py'), '--helpshort'],
    check=True,
    capture_output=True,
  )
  after = os.times()
  return after.children_user + after.children_system - before.children_user - before.children_system


def row_costs(num_rows: int) -> dict[str, float]:
  """Median seconds per row near row 10 and at the end, hardware columns included."""
  from algorithmic_efficiency.records.recorder import Recorder
  from algorithmic_efficiency.records.run_folder import TrialFolder
  from algorithmic_efficiency.telemetry.sample import Telemetry

  telemetry = Telemetry()
  fixed = {f'workload.property_{i}': i * 0.1 for i in range(40)}
  seconds: list[float] = []
  with tempfile.TemporaryDirectory(dir=HERE) as folder:
    recorder = Recorder(TrialFolder(Path(folder)))
    for step in range(num_rows):
      start = time.perf_counter()
      recorder.evaluation(
        {'global_step': step, 'loss': 1 / (step + 1), **fixed, **telemetry.read()}
      )
      seconds.append(time.perf_counter() - start)
    recorder.close()
  window = min(100, num_rows // 3)
  return {
    f'row {10 + window:,}': statistics.median(seconds[10 : 10 + window]),
    f'row {num_rows:,}': statistics.median(seconds[-window:]),
  }


def settings():
  """(processes, workload, batch size, steps by framework) of every comparison of speed."""
  for processes, table in ((1, THROUGHPUT), (2, SHARED)):
    for workload, (size, steps) in table.items():
      yield processes, workload, size, steps


def measure(repeats: int, smoke: bool) -> list[dict]:
  """All figures, a row each repeat."""
  rows: list[dict] = []

  def note(figure: str, setting: str, repeat: int, **values: float) -> None:
    rows.append({'figure': figure, 'setting': setting, 'repeat': repeat, **values})
    print(figure, setting, repeat, {k: round(v, 4) for k, v in values.items()}, flush=True)

  for repeat in range(repeats):
    for framework in ('jax', 'pytorch'):
      for processes, workload, size, steps in settings():
        pair, count = {}, 30 if smoke else steps[framework]
        # Which goes first alternates, so that a machine that slows down favours neither.
        for which in ('bare', 'bench') if repeat % 2 else ('bench', 'bare'):
          speed = bench_speed if which == 'bench' else bare_speed
          pair[which] = speed(framework, workload, size, count, processes)
        shared = ' 2 processes' * (processes - 1)
        note('steps_per_sec', f'{workload} {framework}{shared}', repeat, **pair)
      start = {'bench': bench_start(framework), 'bare': bare_start(framework)}
      note('start_sec', framework, repeat, **start)
    note('help_cpu_sec', '--helpshort', repeat, bench=help_cpu())
    for setting, seconds in row_costs(60 if smoke else 10_000).items():
      note('row_sec', setting, repeat, bench=seconds)
  return rows


def summarize(rows: list[dict]) -> None:
  """Prints the medians."""
  print()
  groups: dict[tuple[str, str], list[dict]] = {}
  for row in rows:
    groups.setdefault((row['figure'], row['setting']), []).append(row)
  for (figure, setting), members in groups.items():
    bench = statistics.median(row['bench'] for row in members)
    text = f'{figure:<14} {setting:<28} bench {bench:10.4f}'
    if 'bare' in members[0]:
      bare = statistics.median(row['bare'] for row in members)
      ratio = statistics.median(row['bench'] / row['bare'] for row in members)
      more = statistics.median(row['bench'] - row['bare'] for row in members)
      text += f'  bare {bare:10.4f}  ratio {ratio:.3f}  difference {more:+.3f}'
    print(text)


def main() -> None:
  """Measures and writes results.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  rows = measure(1 if arguments.smoke else arguments.repeats, arguments.smoke)
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, ['figure', 'setting', 'repeat', 'bench', 'bare'])
    writer.writeheader()
    writer.writerows(rows)
  summarize(rows)


if __name__ == '__main__':
  main()
