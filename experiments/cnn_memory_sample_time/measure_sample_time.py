"""Working set of a CNN by the length of a window, on one core and on all.

  python measure_sample_time.py            ten minutes on two cores; the same command goes on
  python measure_sample_time.py --smoke    half a minute

Each trial is a process that is traced with windows of 0.2, 0.5, 1, 2, 4 and 8 s (refs), one length
after the other, and then in chunks of 64 KiB in windows of 0.2 s (refs_split), of which the longer
ones are made by joining. Writes results.csv.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import MIB, Done, Table, Trial

from algorithmic_efficiency.memory_trace import rebin

TIMES = (0.2, 0.5, 1, 2, 4, 8)
FINE_SEC = 0.2
SIZES = tuple(f'working_set_{name}_mib' for name in ('mean', 'p5', 'p95'))
JOINED = (1, 2, 3, 5, 10, 20, 40)  # of the fine windows


def main() -> None:
  """Measures what was not measured, and writes the table."""
  made = tracing_cnn.parser(__doc__, 3, 2, HERE)
  made.add_argument('--times', default=','.join(f'{time:g}' for time in TIMES))
  made.add_argument(
    '--kept', action='store_true', help='keep freed memory mapped, as it is seen then'
  )
  made.add_argument('--fine_seconds', type=float, default=20)
  smoke = {'seconds': 2, 'repeats': 1, 'images': 5_000, 'batch_size': 16, 'times': '0.2,0.5,1',
           'fine_seconds': 5}  # fmt: skip
  given = tracing_cnn.parse(made, smoke)
  times = [float(time) for time in given.times.split(',')]
  fine = f'refs_split:{FINE_SEC}@{given.fine_seconds:g}'
  kept = '+kept' if given.kept else ''
  phases = tuple(f'{phase}{kept}' for phase in (*(f'refs:{time:g}' for time in times), fine))
  counts = tracing_cnn.core_counts()
  trials = [
    Trial(framework, given.batch_size, threads, given.images, given.seconds, phases)
    for framework in given.frameworks
    for threads in sorted({counts[0], counts[-1]})
  ]
  table: Table = []
  for done in tracing_cnn.measured(tracing_cnn.in_drawn_order(trials, given.repeats), given.traces):
    table += rows_of(done, times)
  table.sort(key=lambda row: (row['framework'], row['threads'], row['repeat']))
  tracing_cnn.write_table(given.output / 'results.csv', table)


def rows_of(done: Done, times: list[float]) -> Table:
  """A row for each length, measured or joined."""
  trial = done.trial
  whose = {'framework': trial.framework, 'threads': trial.threads, 'repeat': trial.repeat}
  table: Table = []
  for number, time in enumerate(times):
    found = tracing_cnn.sizes(tracing_cnn.read_phase(done, number))
    table.append({
      **whose, 'how': 'measured', 'asked_sec': time, **chosen_cells(found)
    })  # fmt: skip
  joined = [rebin.by_count(count) for count in JOINED]
  fine = tracing_cnn.read_phase(done, len(times), joined)
  found = tracing_cnn.sizes(fine)
  table.append({**whose, 'how': 'fine, pages', 'asked_sec': FINE_SEC, **chosen_cells(found)})
  for count, each in zip(JOINED, joined, strict=True):
    row = each.table_row(0)
    if row is not None:
      table.append({
        **whose, 'how': 'joined', 'asked_sec': round(count * FINE_SEC, 3),
        'windows': row['unions'], 'window_sec': round(row['seconds_each'], 4),
        **{f'working_set_{name}_mib': round(row[f'{name}_bytes'] / MIB, 3)
           for name in ('mean', 'p5', 'p95')},
      })  # fmt: skip
  return table


def chosen_cells(sizes: dict[str, Any]) -> dict[str, Any]:
  """Of `tracing_cnn.sizes` those that are in the table."""
  return {name: sizes[name] for name in ('windows', 'window_sec', *SIZES)}


if __name__ == '__main__':
  main()
