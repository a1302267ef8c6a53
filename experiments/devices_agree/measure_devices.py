"""Runs one training on one device and on several; writes results.csv, prints them side by side.

  python measure_devices.py            digits, and a few steps of cifar (minutes on a CPU)
  python measure_devices.py --smoke    digits alone, few steps

JAX has one process with four CPU devices, and two processes with one each. PyTorch has torchrun's
one, two and four processes. The global batch is the same everywhere. Every row is a recorded
evaluation: its step, its losses, and how many examples it counted.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]

import launching

COLUMNS = ('train/loss', 'validation/loss', 'test/loss')
SPLITS = ('train', 'validation', 'test')

# (devices, processes, variables) of each way to run, by framework; the first is compared with.
WAYS = {
  'jax': (
    ('1 device', 1, {}),
    ('4 devices', 1, {'XLA_FLAGS': '--xla_force_host_platform_device_count=4'}),
    ('2 processes', 2, {}),
  ),
  'pytorch': (('1 device', 1, {}), ('2 processes', 2, {}), ('4 processes', 4, {})),
}


def run(workload: str, framework: str, way: tuple, steps: int, batch_size: int) -> list[dict]:
  """The rows of one run."""
  name, processes, variables = way
  baseline = ROOT / 'baselines' / 'mnist'
  with tempfile.TemporaryDirectory() as folder:
    launching.run(
      [
        str(ROOT / 'submission_runner.py'),
        f'--framework={framework}',
        f'--workload={workload}',
        f'--submission_path={baseline}/mnist_{framework}/submission.py',
        f'--tuning_search_space={baseline}/tuning_search_space.json',
        f'--log_dir={folder}',
        f'--max_global_steps={steps}',
        f'--eval_period_steps={max(1, steps // 6)}',
        f'--batch_size={batch_size}',
        '--rng_seed=0',
        '--data=synthetic',
      ],
      framework,
      processes,
      **variables,
    )
    path = Path(folder) / f'{workload}_{framework}' / 'run_1' / 'metrics.csv'
    with path.open(newline='', encoding='utf-8') as file:
      rows = list(csv.DictReader(file))
  kept = ('global_step', *COLUMNS, *(f'{split}/num_examples' for split in SPLITS))
  by_steps = [row for row in rows if int(row['global_step']) % max(1, steps // 6) == 0]
  return [
    {'workload': workload, 'framework': framework, 'devices': name, **{k: row[k] for k in kept}}
    for row in by_steps
  ]


def show(rows: list[dict]) -> None:
  """The validation losses side by side, and the largest difference of any loss."""
  for workload, framework in dict.fromkeys((r['workload'], r['framework']) for r in rows):
    runs = [r for r in rows if (r['workload'], r['framework']) == (workload, framework)]
    ways = list(dict.fromkeys(r['devices'] for r in runs))
    print(f'\n{workload} {framework}: validation/loss')
    print(f'{"step":>6}', *(f'{way:>20}' for way in ways))
    columns = [[r for r in runs if r['devices'] == way] for way in ways]
    worst = 0.0
    for first, *others in zip(*columns, strict=True):
      losses = (r['validation/loss'] for r in (first, *others))
      print(f'{first["global_step"]:>6}', *(f'{float(loss):>20.9f}' for loss in losses))
      for other in others:
        assert all(other[f'{s}/num_examples'] == first[f'{s}/num_examples'] for s in SPLITS)
        worst = max(worst, *(abs(float(other[c]) / float(first[c]) - 1) for c in COLUMNS))
    counted = ', '.join(f'{s} {runs[0][f"{s}/num_examples"]}' for s in SPLITS)
    print(f'largest relative difference {worst:.1e}; examples counted everywhere: {counted}')


def main() -> None:
  """Measures and writes results.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  rows: list[dict] = []
  settings = [('digits', 12, 64)] if arguments.smoke else [('digits', 120, 64), ('cifar', 6, 16)]
  for workload, steps, batch_size in settings:
    for framework, ways in WAYS.items():
      for way in ways:
        rows += run(workload, framework, way, steps, batch_size)
        print(workload, framework, way[0], 'done', flush=True)
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
  show(rows)


if __name__ == '__main__':
  main()
