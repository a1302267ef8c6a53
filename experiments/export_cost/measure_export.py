"""Measures what --export costs the run beside it; writes results.csv.

  python measure_export.py                     ten minutes; needs tensorboard, wandb, mlflow
  python measure_export.py --to=tensorboard    one program
  python measure_export.py --smoke             TensorBoard alone, in seconds

Whole runs of JAX on mnist's synthetic data, 40 evaluations each and telemetry at 2 Hz, in turns:
without an export, with each program, and with all of them. `cores=1` ties a run and its exporter to
one core, which they then have to share. Columns: steps a second of submission time between the
first row and the last, seconds of the command, and its processor seconds with the exporter's.
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
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BASELINE = ROOT / 'baselines' / 'mnist'
SETTING = {'learning_rate': 1e-3, 'one_minus_beta_1': 0.9, 'epsilon': 1e-8}
COLUMNS = ['cores', 'export', 'turn', 'steps_a_second', 'command_sec', 'processor_sec']
Row = dict[str, Any]


def run(export: str, cores: set[int], steps: int, folder: Path) -> Row:
  """One run, on these cores; raises SystemExit where it fails."""
  folder.mkdir(parents=True)
  (folder / 'space.json').write_text(json.dumps([SETTING]))
  flags = [
    '--workload=mnist', '--framework=jax', '--data=synthetic', '--rng_seed=0', '--device=cpu',
    f'--submission_path={BASELINE / "mnist_jax" / "submission.py"}',
    f'--tuning_search_space={folder / "space.json"}', f'--log_dir={folder / "logs"}',
    f'--max_global_steps={steps}', f'--eval_period_steps={max(steps // 40, 1)}',
    '--save_checkpoints=false', '--batch_size=256', *([f'--export={export}'] if export else []),
  ]  # fmt: skip
  os.sched_setaffinity(0, cores)  # of this process; its children inherit it
  began = time.monotonic()
  with (folder / 'output.txt').open('w') as output:
    process = subprocess.Popen(
      [sys.executable, str(ROOT / 'submission_runner.py'), *flags], stdout=output, stderr=output,
      env={**os.environ, 'WANDB_MODE': 'offline'},
    )  # fmt: skip
    _, status, usage = os.wait4(process.pid, 0)  # with all that it has waited for
    process.returncode = os.waitstatus_to_exitcode(status)
  seconds = time.monotonic() - began
  said = (folder / 'output.txt').read_text()
  if process.returncode or '; the record is whole' in said:
    raise SystemExit(f'--export={export}: the run failed.\n{said[-2000:]}')
  made = [(folder / 'logs' / 'exports' / name).is_dir() for name in export.split(',')]
  if export and not all(made):
    raise SystemExit(f'--export={export} made no export.\n{said[-2000:]}')
  records = folder / 'logs' / 'mnist_jax' / 'run_1' / 'metrics.jsonl'
  rows = [json.loads(line) for line in records.read_text().splitlines()]
  first, last = rows[0], rows[-1]
  trained = last['accumulated_submission_time'] - first['accumulated_submission_time']
  return {
    'cores': len(cores),
    'export': export or 'none',
    'steps_a_second': round((last['global_step'] - first['global_step']) / trained, 2),
    'command_sec': round(seconds, 3),
    'processor_sec': round(usage.ru_utime + usage.ru_stime, 3),
  }


def told(rows: list[Row]) -> None:
  """Medians over the turns, beside those of the run without an export in the same turn."""
  for cores, export in dict.fromkeys((row['cores'], row['export']) for row in rows):
    mine = [row for row in rows if (row['cores'], row['export']) == (cores, export)]
    bare = [row for row in rows if (row['cores'], row['export']) == (cores, 'none')]
    pairs = list(zip(mine, bare, strict=True))
    rates = sorted(m['steps_a_second'] / b['steps_a_second'] for m, b in pairs)
    later = statistics.median(m['command_sec'] - b['command_sec'] for m, b in pairs)
    spent = statistics.median(m['processor_sec'] - b['processor_sec'] for m, b in pairs)
    print(
      f'{cores} cores, {export:24} steps a second over none {statistics.median(rates):.3f} '
      f'({rates[0]:.3f} to {rates[-1]:.3f}), command {later:+.1f} s, processor {spent:+.1f} s'
    )


def main() -> None:
  """Writes results.csv and tells the medians."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--smoke', action='store_true', help='a small part of it, in seconds')
  parser.add_argument('--to', default='tensorboard,wandb,mlflow', metavar='NAMES')
  parser.add_argument('--steps', type=int, default=16_000)
  parser.add_argument('--turns', type=int, default=4)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  if given.smoke:
    given.to, given.steps, given.turns = 'tensorboard', 20, 1
  names = given.to.split(',')
  exports = ['', *names, *([given.to] if len(names) > 1 else [])]
  machine = sorted(os.sched_getaffinity(0))
  sets = [set(machine)] if given.smoke else [set(machine), {machine[0]}]
  rows: list[Row] = []
  with tempfile.TemporaryDirectory() as temporary:
    for turn in range(given.turns):
      for cores in sets:
        for export in exports:
          row = run(export, cores, given.steps, Path(temporary) / f'run_{len(rows)}')
          rows.append({'turn': turn + 1, **row})
          print(', '.join(f'{key} {rows[-1][key]}' for key in COLUMNS), flush=True)
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  told(rows)


if __name__ == '__main__':
  main()
