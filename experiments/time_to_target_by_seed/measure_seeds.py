"""Trains digits with every baseline at its own default point, from many seeds; results.csv.

  python measure_seeds.py            20 seeds each, some ten minutes on two cores
  python measure_seeds.py --smoke    two baselines, three seeds, JAX: seconds

Nothing but the seed differs between the trials of a baseline: it draws the initial weights, the
order of the examples and dropout.
"""

import argparse
import csv
import importlib
import json
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]

import side_by_side

from algorithmic_efficiency.scoring import editions, logs, time_to_target

FRAMEWORKS = ('jax', 'pytorch')


def command(path: Path, framework: str, space: Path, trials: int, folder: Path) -> list[str]:
  """As many trials at one point; each has a seed of its own."""
  return [
    'submission_runner.py', f'--framework={framework}', f'--workload=digits_{framework}',
    f'--submission_path={path}', f'--tuning_search_space={space}', f'--log_dir={folder}',
    f'--num_tuning_trials={trials}', '--rng_seed=0', '--max_global_steps=2000',
    '--eval_period_steps=10', '--save_checkpoints=false', '--telemetry=off', '--device=cpu',
  ]  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--smoke', action='store_true', help='a small part of it, in seconds')
  parser.add_argument('--seeds', type=int, default=20, help='trials of each; default %(default)s')
  parser.add_argument('--runs', type=Path, default=HERE / 'runs', help='where runs are written')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  found, seeds, frameworks = side_by_side.baselines(), given.seeds, FRAMEWORKS
  if given.smoke:
    found = {name: found[name] for name in ('adamw', 'sgd_nesterov')}
    seeds, frameworks = 3, ('jax',)
  shutil.rmtree(given.runs, ignore_errors=True)
  given.runs.mkdir(parents=True)
  jobs = []
  for name, paths in found.items():
    defaults = importlib.import_module(f'baselines.{name}.defaults').DEFAULTS
    space = given.runs.resolve() / f'{name}.json'
    space.write_text(json.dumps([defaults._asdict()] * seeds))
    for framework in frameworks:
      folder = given.runs.resolve() / f'{name}_{framework}'
      call = command(paths[framework], framework, space, seeds, folder)
      jobs.append((f'{name} {framework}', call))
  side_by_side.run_all(jobs)
  write(given.runs, given.output)


def write(runs: Path, output: Path) -> None:
  """A row for each trial: the steps and seconds to its target."""
  edition = editions.load('1.0')
  goal = edition.goal('digits')
  assert goal is not None
  with output.open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(['submission', 'framework', 'trial', 'steps', 'seconds'])
    for trial in logs.read(runs, edition).trials:
      found = time_to_target.reached(trial, goal)
      name = trial.submission.removesuffix(f'_{trial.framework}')
      writer.writerow([name, trial.framework, trial.number, found.step, found.time_sec])
  print(f'table: {output}')


if __name__ == '__main__':
  main()
