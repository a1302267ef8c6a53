"""Measures how long scripts/score.py takes, and its memory, by the number of trials; results.csv.

  python measure_scoring.py                        400 to 4,000 made-up trials
  python measure_scoring.py --logs=FOLDER          copies of submissions' folders, under other names
  python measure_scoring.py --smoke                40 trials, in seconds

Made-up trials have the columns of AlgoPerf's tables and 158 evaluations each, as many as those of
its published logs have on average. The command is timed as a user starts it, imports, bootstrap,
tables and all.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from algorithmic_efficiency.scoring import editions

COLUMNS = (
  'accumulated_eval_time', 'accumulated_logging_time', 'accumulated_submission_time',
  'global_step', 'preemption_count', 'score', 'test/{metric}', 'test/loss', 'test/num_examples',
  'total_duration', 'train/{metric}', 'train/loss', 'validation/{metric}', 'validation/loss',
  'validation/num_examples',
)  # fmt: skip
NUM_EVALUATIONS = 158
NUM_STUDIES = 5


def make_submission(folder: Path, rng: np.random.Generator) -> int:
  """A submission's 70 tables, of five studies of edition 0.5; returns how many."""
  edition = editions.load('0.5')
  names = (*edition.base_workloads, *edition.held_out_workloads)
  for study in range(1, NUM_STUDIES + 1):
    for workload in names:
      goal = edition.goals[workload]
      times = np.cumsum(rng.uniform(100.0, 200.0, NUM_EVALUATIONS))
      values = goal.target * (1.0 + np.linspace(-0.5, 0.1, NUM_EVALUATIONS) * (
        -1.0 if goal.lower_is_better else 1.0
      ))  # fmt: skip
      table = rng.random((NUM_EVALUATIONS, len(COLUMNS)))
      table[:, [2, 5]] = times[:, None]
      table[:, 3] = np.arange(1, NUM_EVALUATIONS + 1) * 100
      table[:, 9] = 2.0 * times
      table[:, 12] = values
      path = folder / f'study_{study}' / f'{workload}_jax' / 'trial_1' / 'eval_measurements.csv'
      path.parent.mkdir(parents=True)
      header = ','.join(COLUMNS).format(metric=goal.metric)
      np.savetxt(path, table, delimiter=',', header=header, comments='', fmt='%.17g')
  return NUM_STUDIES * len(names)


def score(logs: Path, output: Path) -> tuple[float, float, str]:
  """(seconds, MB at the peak of any one process, what was printed) of the command."""
  peak = Path(f'{output}.peak')
  code = (
    'import resource, runpy, sys; sys.argv = sys.argv[2:]; code = 0\n'
    'try: runpy.run_path(sys.argv[0], run_name="__main__")\n'
    'except SystemExit as error: code = error.code\n'
    f'most = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, '
    'resource.RUSAGE_CHILDREN))\n'
    f'open({str(peak)!r}, "w").write(str(most)); sys.exit(code)'
  )
  begin = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', code, '--', ROOT / 'scripts' / 'score.py', logs, '--edition=0.5',
     '--tuning_ruleset=self', f'--output_dir={output}'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  return time.monotonic() - begin, int(peak.read_text()) / 1024, done.stdout


def main() -> None:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--smoke', action='store_true', help='few trials')
  parser.add_argument('--logs', type=Path, help='a folder of submissions, copied under other names')
  parser.add_argument('--repeats', type=int, default=3)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  copies = (1,) if given.smoke else (1, 2, 5, 10)
  rows = []
  with tempfile.TemporaryDirectory() as place:
    logs, trials, rng = Path(place) / 'logs', 0, np.random.default_rng(0)
    for copy in range(1, max(copies) + 1):
      if given.logs:
        for folder in sorted(path for path in given.logs.iterdir() if path.is_dir()):
          shutil.copytree(folder, logs / f'{folder.name}_{copy}')
        trials = sum(1 for _ in logs.rglob('eval_measurements.csv'))
      else:
        for number in range(1 if given.smoke else 6):
          trials += make_submission(logs / f'submission_{copy}_{number}', rng)
      if copy not in copies:
        continue
      for repeat in range(1 if given.smoke else given.repeats):
        seconds, megabytes, _ = score(logs, Path(place) / 'scores')
        rows.append({
          'logs': 'published' if given.logs else 'made up', 'trials': trials, 'repeat': repeat + 1,
          'seconds': round(seconds, 3), 'megabytes': round(megabytes, 1),
          'cores': len(os.sched_getaffinity(0)),
        })  # fmt: skip
        print(', '.join(f'{key} {value}' for key, value in rows[-1].items()), flush=True)
  with given.output.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


if __name__ == '__main__':
  main()
