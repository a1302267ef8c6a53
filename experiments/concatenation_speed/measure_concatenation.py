"""Measures how long it takes to join many metrics tables, with this package and with pandas.

Each measurement runs in a process of its own, so that neither method profits from what the other
has loaded and the peak of its memory is its own. The two methods take turns.
"""

import argparse
import concurrent.futures
import csv
import multiprocessing
import os
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
# One table in so many has two columns more, or another order of columns.
ODD_ONE_EVERY = 40


def main() -> None:
  options = parse_options()
  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    megabytes = write_tables(folder, options.files, options.rows, options.columns)
    print(f'{options.files} files of {options.rows} rows and {options.columns} columns, ', end='')
    print(f'{megabytes:.0f} MB')
    results = measure(folder, options.repeats)
    run_alone(check_tables_are_equal, folder)
  for method in JOINERS:
    seconds = median_of(results, method, 'seconds')
    print(f'{method}: {seconds:.2f} s, {median_of(results, method, "peak_megabytes"):.0f} MB')
  ratio = median_of(results, 'pandas', 'seconds') / median_of(results, 'ours', 'seconds')
  print(f'ours is {ratio:.1f} times as fast; both tables are equal')
  if not options.smoke:
    write_results(HERE / 'results.csv', results)


def parse_options() -> argparse.Namespace:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--files', type=int, default=2000)
  parser.add_argument('--rows', type=int, default=100, help='rows of each file')
  parser.add_argument('--columns', type=int, default=60, help='columns of most files')
  parser.add_argument('--repeats', type=int, default=3, help='measurements of each method')
  parser.add_argument('--smoke', action='store_true', help='a tiny run that writes no results')
  options = parser.parse_args()
  if options.smoke:
    options.files, options.rows, options.columns, options.repeats = 80, 5, 12, 1
  return options


def write_tables(folder: Path, files: int, rows: int, columns: int) -> float:
  """Writes what `files` trials would have written; returns their size in megabytes."""
  generator = random.Random(1)
  written = 0
  for index in range(files):
    header = ['workload', 'goal_reached', *(f'measure.{i}' for i in range(columns - 2))]
    if index % ODD_ONE_EVERY == 1:
      header += ['gpu.0.compute.util', 'gpu.0.mem.util']
    elif index % ODD_ONE_EVERY == 2:
      header.reverse()
    lines = [','.join(header)]
    for row in range(rows):
      cells = {'workload': 'mnist', 'goal_reached': 'TRUE' if row > rows // 2 else 'FALSE'}
      lines.append(','.join(cells.get(name) or f'{generator.random():.7f}' for name in header))
    path = folder / f'mnist_jax_{index // 100}' / f'run_{index % 100 + 1}' / 'metrics.csv'
    path.parent.mkdir(parents=True)
    written += path.write_text('\n'.join(lines) + '\n')
  os.sync()
  return written / 1e6


def join_with_ours(folder: Path) -> float:
  from algorithmic_efficiency import logging_utils

  start = time.perf_counter()
  logging_utils.concatenate_csvs(folder)
  return time.perf_counter() - start


def join_with_pandas(folder: Path) -> float:
  import pandas

  start = time.perf_counter()
  tables = [
    pandas.read_csv(path).assign(source=path.relative_to(folder).as_posix())
    for path in list_tables(folder)
  ]
  joined = pandas.concat(tables, ignore_index=True)
  joined[[*joined.columns.drop('source'), 'source']].to_csv(folder / 'pandas.csv', index=False)
  return time.perf_counter() - start


JOINERS: dict[str, Callable[[Path], float]] = {'ours': join_with_ours, 'pandas': join_with_pandas}


def list_tables(folder: Path) -> list[Path]:
  def number_of(part: str) -> int:
    return int(part.rpartition('_')[2])

  return sorted(
    folder.glob('*/*/metrics.csv'),
    key=lambda path: (number_of(path.parts[-3]), number_of(path.parts[-2])),
  )


def measure(folder: Path, repeats: int) -> list[dict[str, Any]]:
  """One row for each method and repeat; the method that goes first changes every time."""
  results: list[dict[str, Any]] = []
  for repeat in range(1, repeats + 1):
    for method in list(JOINERS)[:: 1 if repeat % 2 else -1]:
      seconds, megabytes = run_alone(join_once, folder, method)
      measured = {'seconds': round(seconds, 4), 'peak_megabytes': round(megabytes, 1)}
      results.append({'method': method, 'repeat': repeat, **measured})
  return results


def join_once(folder: Path, method: str) -> tuple[float, float]:
  seconds = JOINERS[method](folder)
  return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def check_tables_are_equal(folder: Path) -> None:
  import pandas

  ours, theirs = (pandas.read_csv(folder / name) for name in ('all_metrics.csv', 'pandas.csv'))
  pandas.testing.assert_frame_equal(ours, theirs, check_exact=True)


def run_alone(function: Callable[..., Any], *arguments: Any) -> Any:
  context = multiprocessing.get_context('spawn')
  with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
    return pool.submit(function, *arguments).result()


def median_of(results: list[dict[str, Any]], method: str, column: str) -> float:
  return statistics.median(row[column] for row in results if row['method'] == method)


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, fieldnames=list(results[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(results)


if __name__ == '__main__':
  main()
