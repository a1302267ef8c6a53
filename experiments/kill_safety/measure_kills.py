"""Kills runs with SIGKILL at random moments and reads what they left; writes results.csv.

  python measure_kills.py              20 kills
  python measure_kills.py --smoke      2 kills

A run says each evaluation on its standard output once the row is on disk. After the kill every
row it has told of must be in metrics.jsonl and in metrics.csv, whole, and all other JSON files
must be readable; concatenation must take what is there.
"""

import argparse
import csv
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency.logging_utils import concatenate_csvs


def start(framework: str, folder: Path) -> subprocess.Popen:
  """A run that evaluates after every fifth step, so that a kill often meets a row."""
  baseline = ROOT / 'baselines' / 'mnist'
  command = [
    sys.executable,
    str(ROOT / 'submission_runner.py'),
    f'--framework={framework}',
    '--workload=digits',
    '--data=synthetic',
    f'--submission_path={baseline}/mnist_{framework}/submission.py',
    f'--tuning_search_space={baseline}/tuning_search_space.json',
    '--num_tuning_trials=100',
    '--max_global_steps=200',
    '--eval_period_steps=5',
    f'--log_dir={folder}',
  ]
  output = (folder / 'console_output.log').open('w')
  return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def kill_one(framework: str, seconds: float, folder: Path) -> dict:
  """Kills a run that many seconds after its first row; returns what was told and found."""
  process = start(framework, folder)
  console = folder / 'console_output.log'
  while ' step ' not in console.read_text():
    if process.poll() is not None:
      raise RuntimeError(f'the run ended by itself: {console.read_text()[-500:]}')
    time.sleep(0.01)
  time.sleep(seconds)
  process.send_signal(signal.SIGKILL)
  process.wait()
  return {'framework': framework, 'seconds': round(seconds, 3), **check(folder, console)}


def check(folder: Path, console: Path) -> dict:
  """Compares the rows on disk with those told of. Raises on any that is missing or broken."""
  told = re.findall(r'^trial (\d+)/100  step +([\d,]+) ', console.read_text(), flags=re.M)
  told = {(int(trial), int(step.replace(',', ''))) for trial, step in told}
  in_jsonl, in_csv = set(), set()
  for run in (path for path in folder.glob('*/run_*') if (path / 'metrics.jsonl').exists()):
    text = (run / 'metrics.jsonl').read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    assert not text or text.endswith('\n'), f'{run}: a torn line'
    in_jsonl |= {(row['run_idx'], row['global_step']) for row in rows}
    with (run / 'metrics.csv').open(newline='') as file:
      rows = list(csv.DictReader(file, strict=True))
    assert all(None not in row and None not in row.values() for row in rows), f'{run}: short row'
    in_csv |= {(int(row['run_idx']), int(row['global_step'])) for row in rows}
  assert told <= in_csv <= in_jsonl, f'lost: {sorted(told - in_csv)}'
  for path in folder.glob('*/**/*.json'):
    json.loads(path.read_text())
  with concatenate_csvs(folder).open(newline='') as file:
    joined = sum(1 for _ in csv.DictReader(file))
  assert joined == len(in_csv)
  return {'rows_told': len(told), 'rows_in_csv': len(in_csv), 'rows_in_jsonl': len(in_jsonl)}


def main() -> None:
  """Kills, checks and writes the table."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--kills', type=int, default=20)
  parser.add_argument('--longest', type=float, default=4.0, help='seconds a run may have')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  draw = random.Random(arguments.seed)
  results = []
  for number in range(2 if arguments.smoke else arguments.kills):
    seconds = draw.uniform(0, 0.5 if arguments.smoke else arguments.longest)
    with tempfile.TemporaryDirectory() as folder:
      found = kill_one(('jax', 'pytorch')[number % 2], seconds, Path(folder))
    results.append({'kill': number + 1, **found})
    print(results[-1], flush=True)
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(results[0]))
    writer.writeheader()
    writer.writerows(results)
  rows = sum(result['rows_told'] for result in results)
  print(f'{len(results)} kills, {rows:,} rows told of, every one of them readable')


if __name__ == '__main__':
  main()
