"""Errors of all predictors at a table of measured operators, by layers that they never saw.

  python measure_predictors.py --table=PATH          results.csv: scores, nothing of the table
  python measure_predictors.py --smoke               on a small table made by a formula

The table is the public one of operators on an A30 (columns device, op, batch, in_c …), or one with
the columns of layer_power/columns.py.
"""

import argparse
import csv
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT)]
os.environ.setdefault('OMP_NUM_THREADS', '1')  # a process for each job

import made_table

from algorithmic_efficiency.layer_power import columns, tables, validation

TYPES = (columns.CONV, columns.DENSE, columns.POOLING)
SPLITS = ('floor', validation.BY_SHAPE, validation.RANDOM, validation.BY_FAMILY)
COLUMNS = ['device', 'layer_type', 'target', 'split', 'seed', 'model', 'rows', 'configurations',
           *validation.Metrics._fields, 'seen_pct', 'covered_pct', 'chosen']  # fmt: skip


def main() -> None:
  """Writes results.csv."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  what = parser.add_mutually_exclusive_group(required=True)
  what.add_argument('--table', type=Path)
  what.add_argument('--smoke', action='store_true')
  parser.add_argument('--seeds', type=int, default=2, help='ways to cut the folds')
  parser.add_argument('--jobs', type=int, default=2)
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  with tempfile.TemporaryDirectory() as scratch:
    path = given.table or Path(scratch) / 'made.csv'
    if given.smoke:
      made_table.write(path)
    jobs = [
      (path, kind, target, split, seed)
      for kind in TYPES
      for target in ('runtime', 'power')
      for split in SPLITS
      for seed in range(given.seeds if split == validation.BY_SHAPE else 1)
    ]
    if given.smoke:
      jobs = [job for job in jobs if job[1:3] == (columns.DENSE, 'runtime') and job[4] == 0]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(given.jobs) as pool:
      for done in as_completed([pool.submit(measure, *job) for job in jobs]):
        rows += done.result()
        if done.result():
          last = done.result()[-1]
          told = (last[name] for name in (*COLUMNS[1:6], 'rmspe_pct'))
          print(*told, flush=True)
  rows.sort(key=lambda r: (TYPES.index(r['layer_type']), r['target'], r['split'], r['seed']))
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)


def measure(path: Path, kind: str, target: str, split: str, seed: int) -> list[dict[str, Any]]:
  """The rows of one type, target and split; 'floor' is how well repeats tell each other."""
  rows = tables.read(path).rows
  rows = rows[rows['layer_type'] == kind].reset_index(drop=True)
  head = {'device': rows['device'].iloc[0], 'layer_type': kind, 'target': target, 'split': split,
          'seed': seed}  # fmt: skip
  if split == 'floor':
    floor = validation.repeat_floor(rows, target)
    found = {} if floor is None else {k: round(v, 4) for k, v in floor._asdict().items()}
    return [{**head, 'model': 'repeats', **found}] if found else []
  # The study's model is slow: once is enough for one so far off.
  lasso = split == validation.BY_SHAPE and seed == 0
  shown = []
  for score in validation.score(rows, target, split, seed, lasso):
    told = {**score._asdict(), **score.metrics._asdict()}
    kept = {name: told[name] for name in COLUMNS if name in told}
    shown.append({**head, **{k: round(v, 4) if isinstance(v, float) else v
                             for k, v in kept.items()}})  # fmt: skip
  return shown


if __name__ == '__main__':
  main()
