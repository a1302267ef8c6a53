"""Working set of a CNN by its batch size, in windows of time and in windows of steps.

  python measure_batch_size.py            sixteen minutes on two cores; the same command goes on
  python measure_batch_size.py --smoke    half a minute

Steps of large batches are longer than a window of half a second, which then holds a part of a step,
while one of small batches holds many. So each trial, a process on one core, is traced (refs) one
way after the other: in windows of 0.5 s, of a step, and of as many steps as make 1,024 images. What
is unmapped before a window ends is not seen in it, and at the end of a step the large arrays are
freed; so steps are traced again while freed memory is kept mapped ('kept'). Writes results.csv.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import Table, Trial

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def main() -> None:
  """Measures what was not measured, and writes the table."""
  made = tracing_cnn.parser(__doc__, 3, 2, HERE)
  made.add_argument('--batch_sizes', default=','.join(map(str, SIZES)))
  made.add_argument('--window_images', type=int, default=1024, help='of a window of the third kind')
  smoke = {
    'seconds': 2,
    'repeats': 1,
    'images': 5_000,
    'batch_sizes': '16,64',
    'window_images': 128,
  }
  given = tracing_cnn.parse(made, smoke)
  trials = [
    Trial(framework, size, 1, given.images, given.seconds, phases(given, size))
    for framework in given.frameworks
    for size in map(int, given.batch_sizes.split(','))
  ]
  kinds = ('0.5 s', '1 step', '1 step, kept', f'{given.window_images:,} images, kept')
  table: Table = []
  for done in tracing_cnn.measured(tracing_cnn.in_drawn_order(trials, given.repeats), given.traces):
    trial = done.trial
    for number, kind in enumerate(kinds):
      phase = done.told['phases'][number]
      table.append(
        {
          'framework': trial.framework,
          'batch_size': trial.batch_size,
          'repeat': trial.repeat,
          'window': kind,
          'step_sec': tracing_cnn.step_sec(phase),
          **tracing_cnn.sizes(tracing_cnn.read_phase(done, number)),
        }
      )
  table.sort(key=lambda row: (row['framework'], row['batch_size'], row['repeat']))
  tracing_cnn.write_table(given.output / 'results.csv', table)


def phases(given: argparse.Namespace, size: int) -> tuple[str, ...]:
  """Of a trial; a step may be of as many images as a window of the third kind: two of them then."""
  steps = max(given.window_images // size, 1)
  return 'refs:0.5', 'refs:1steps', 'refs:1steps+kept', f'refs:{steps}steps+kept'


if __name__ == '__main__':
  main()
