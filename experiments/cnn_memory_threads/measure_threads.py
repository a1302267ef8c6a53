"""Working set, speed and reuse of a CNN that trains on 1, 2, 4 … cores.

  python measure_threads.py            eight minutes on two cores; the same command goes on
  python measure_threads.py --smoke    half a minute

Each trial trains three times for --seconds in one process: without a tracer, which tells the speed;
in windows of 0.5 s (refs), which tell the working set; and in chunks of 64 KiB in windows of 0.2 s
(refs_split), which tell reuse distances. Writes results.csv.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import Table, Trial

PHASES = ('none', 'refs:0.5', 'refs_split:0.2')


def main() -> None:
  """Measures what was not measured, and writes the table."""
  smoke = {'seconds': 4, 'repeats': 1, 'images': 5_000, 'batch_size': 16}
  given = tracing_cnn.parse(tracing_cnn.parser(__doc__, 12, 2, HERE), smoke)
  trials = [
    Trial(framework, given.batch_size, threads, given.images, given.seconds, PHASES)
    for framework in given.frameworks
    for threads in tracing_cnn.core_counts()
  ]
  table: Table = []
  for done in tracing_cnn.measured(tracing_cnn.in_drawn_order(trials, given.repeats), given.traces):
    untraced, timed, cut = done.told['phases']
    sets, chunks = (tracing_cnn.read_phase(done, number) for number in (1, 2))
    table.append(
      {
        'framework': done.trial.framework,
        'threads': done.trial.threads,
        'repeat': done.trial.repeat,
        'step_sec': tracing_cnn.step_sec(untraced),
        'refs_step_sec': tracing_cnn.step_sec(timed),
        'refs_split_step_sec': tracing_cnn.step_sec(cut),
        **tracing_cnn.sizes(sets),
        'split_windows': len(chunks.steady),
        'split_window_sec': tracing_cnn.sizes(chunks)['window_sec'],
        **tracing_cnn.reuses(chunks),
      }
    )
  table.sort(key=lambda row: (row['framework'], row['threads'], row['repeat']))
  tracing_cnn.write_table(given.output / 'results.csv', table)


if __name__ == '__main__':
  main()
