"""Trains digits with every baseline in both frameworks, and scores each framework's together.

  python measure_baselines.py            5 trials x 3 studies each, about ten minutes on two cores
  python measure_baselines.py --smoke    two baselines, two trials, two studies: seconds

Writes runs/<baseline>_<framework>/study_<s>/ and, from it, the tables of scripts/score.py into
jax/ and pytorch/. `python scripts/report.py runs -o report.html` makes a page of the runs.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]

import side_by_side

FRAMEWORKS = ('jax', 'pytorch')
STEPS = 2_000  # the workload's step hint, at which every schedule has come to zero


def command(
  path: Path, framework: str, study: int, trials: int, steps: int, logs: Path
) -> list[str]:
  """A study of one baseline; both frameworks draw the same points from one seed."""
  return [
    'submission_runner.py', f'--framework={framework}', f'--workload=digits_{framework}',
    f'--submission_path={path}', f'--log_dir={logs}', f'--num_tuning_trials={trials}',
    f'--tuning_search_space={path.parents[1] / "tuning_search_space.json"}',
    f'--rng_seed={study}', f'--max_global_steps={steps}', '--eval_period_steps=20',
    '--save_checkpoints=false', '--telemetry=row', '--device=cpu',
  ]  # fmt: skip


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--smoke', action='store_true', help='a small part of it, in seconds')
  parser.add_argument('--runs', type=Path, default=HERE / 'runs', help='where runs are written')
  parser.add_argument('--output', type=Path, default=HERE, help='where the tables are written')
  parser.add_argument('--slots', type=int, help='runs at a time; default: one for each core')
  given = parser.parse_args()
  found = side_by_side.baselines()
  studies, trials, steps = (2, 2, 300) if given.smoke else (3, 5, STEPS)
  if given.smoke:
    found = {name: found[name] for name in ('adamw', 'sgd_nesterov')}
  shutil.rmtree(given.runs, ignore_errors=True)
  jobs = [
    (
      f'{name} {framework} study {study}',
      command(paths[framework], framework, study, trials, steps,
              given.runs.resolve() / f'{name}_{framework}' / f'study_{study}'),
    )
    for study in range(1, studies + 1)
    for name, paths in found.items()
    for framework in FRAMEWORKS
    if not given.smoke or framework == 'jax'
  ]  # fmt: skip
  seconds = side_by_side.run_all(jobs, given.slots)
  print(f'{len(jobs)} studies of {trials} trials in {seconds:.0f} s\n')
  for framework in FRAMEWORKS:
    names = [f'{name}_{framework}' for name in found]
    if any((given.runs / name).exists() for name in names):
      score(given.runs, names, given.output / framework)


def score(runs: Path, names: list[str], output: Path) -> None:
  """The tables of some submissions, relative to each other."""
  subprocess.run(
    [sys.executable, ROOT / 'scripts' / 'score.py', runs, '--mode=exact',
     f'--include={",".join(names)}', f'--output_dir={output}'],
    check=True,
  )  # fmt: skip


if __name__ == '__main__':
  main()
