"""Kills runs at random moments, goes on with --resume, and compares with runs that were left alone.

  python measure_resume.py            40 kills by SIGKILL; some minutes
  python measure_resume.py --smoke    4

Both frameworks, alone and as two processes (all of them are killed). What must be the same to the
last digit: every metric of every row, the steps, and how many rows there are. Writes results.csv,
a line per kill.
"""

import argparse
import contextlib
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE.parent)]

import launching

STEPS = {1: 4000, 2: 1200}  # by processes; far from the budget of time, which would end a run
PERIOD = 40
POINT = {'learning_rate': 1e-5, 'one_minus_beta_1': 0.1, 'epsilon': 1e-8}  # reaches no goal
# (framework, processes)
SETTINGS = (('jax', 1), ('pytorch', 1), ('jax', 2), ('pytorch', 2))
# Of a row, what does not depend on the time it took or on the machine's state.
SAME = ('train/', 'validation/', 'test/', 'global_step', 'epoch', 'goal_reached', 'trial_seed')


def command(framework: str, count: int, folder: Path, resume: bool) -> list[str]:
  """The arguments of a run."""
  baseline = ROOT / 'baselines' / 'mnist'
  space = folder.parent / 'space.json'
  space.write_text(json.dumps([POINT]))
  return [
    str(ROOT / 'submission_runner.py'),
    f'--framework={framework}',
    '--workload=digits',
    f'--submission_path={baseline}/mnist_{framework}/submission.py',
    f'--tuning_search_space={space}',
    f'--log_dir={folder}',
    f'--max_global_steps={STEPS[count]}',
    f'--eval_period_steps={PERIOD}',
    '--rng_seed=7',
    *(['--resume'] if resume else []),
  ]


def rows_of(folder: Path, framework: str) -> list[dict]:
  """What the record holds, of the rows as they are read by people."""
  with (folder / f'digits_{framework}' / 'run_1' / 'metrics.csv').open(newline='') as file:
    rows = list(csv.DictReader(file))
  return [{n: v for n, v in row.items() if n.startswith(SAME)} for row in rows]


def kill(processes: list[subprocess.Popen]) -> None:
  """SIGKILL to each and to those that it started."""
  family: list[psutil.Process] = []
  for process in processes:
    with contextlib.suppress(psutil.NoSuchProcess):
      family += [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
  for member in family:
    with contextlib.suppress(psutil.NoSuchProcess):
      member.kill()
  for process in processes:
    process.communicate()


def main() -> None:
  """Measures and writes results.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  generator = random.Random(arguments.seed)
  lines: list[dict] = []
  for framework, count in SETTINGS:
    kills = 1 if arguments.smoke else (14 if count == 1 else 6)
    with tempfile.TemporaryDirectory() as temporary:
      lines += torture(framework, count, kills, generator, Path(temporary))
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(lines[0]))
    writer.writeheader()
    writer.writerows(lines)
  wrong = [line for line in lines if line['same'] != 'yes']
  print(f'{len(lines)} kills, {len(lines) - len(wrong)} records the same to the last digit')
  sys.exit(1 if wrong else 0)


def torture(
  framework: str, count: int, kills: int, generator: random.Random, folder: Path
) -> list[dict]:
  """The lines of one setting: runs that are killed until `kills` is reached."""
  began = time.monotonic()
  launching.run(command(framework, count, folder / 'alone', resume=False), framework, count)
  alone_sec = time.monotonic() - began
  expected = rows_of(folder / 'alone', framework)
  lines: list[dict] = []
  run = 0
  while len(lines) < kills:
    run += 1
    target = folder / f'run_{run}'
    of_run: list[dict] = []
    # Of a run some kills, each at a moment drawn from all that it takes.
    for number in range(min(4, kills - len(lines))):
      after = generator.uniform(0.3, 0.9) * alone_sec
      arguments = command(framework, count, target, resume=number > 0)
      processes = launching.start(arguments, framework, count)
      time.sleep(after)
      running = any(process.poll() is None for process in processes)
      kill(processes)
      if not running:  # it had come to its end already
        break
      of_run.append({
        'framework': framework,
        'processes': count,
        'run': run,
        'killed_after_sec': round(after, 2),
        **left_behind(target, framework),
      })  # fmt: skip
    launching.run(command(framework, count, target, resume=True), framework, count)
    found = rows_of(target, framework)
    state = json.loads((target / f'digits_{framework}' / 'run_1' / 'trial.json').read_text())
    for line in of_run:
      line['same'] = 'yes' if found == expected else 'NO'
      line['rows'], line['rows_expected'] = len(found), len(expected)
      line['ended_by'] = state['reason']
      line['lost_sec'] = round(state['seconds'].get('lost', 0.0), 2)
      print(*line.values(), flush=True)
    lines += of_run
  return lines


def left_behind(folder: Path, framework: str) -> dict:
  """What the killed run had on the disk: rows, and the step of its newest checkpoint."""
  trial = folder / f'digits_{framework}' / 'run_1'
  rows = trial / 'metrics.jsonl'
  steps = [int(p.name.split('_')[1]) for p in trial.glob('checkpoints/step_*')]
  return {
    'rows_at_kill': len(rows.read_text().splitlines()) if rows.exists() else 0,
    'checkpoint_at_kill': max(steps, default=0),
  }


if __name__ == '__main__':
  main()
