"""Working set of a CNN by its batch size, in windows of time and in windows of steps.

  python measure_batch_size.py            twelve minutes on two cores; the same command goes on
  python measure_batch_size.py --smoke    half a minute

Steps of large batches are longer than a window of half a second, which then holds a part of a step,
while one of small batches holds many. So each trial, a process on one core, is traced (refs)
in three ways, one after the other: windows of 0.5 s, of a step, and of as many steps as make 1,024
images. Writes results.csv.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import Table, Trial

SIZES = (16, 32, 64, 128, 256, 512, 1024)
IMAGES = 1024  # of a window of the third kind


def main() -> None:
  """Measures what was not measured, and writes the table."""
  made = tracing_cnn.parser(__doc__, 4, 2, HERE)
  made.add_argument('--batch_sizes', default=','.join(map(str, SIZES)))
  smoke = {'seconds': 2, 'repeats': 1, 'images': 5_000, 'batch_sizes': '64,256'}
  given = tracing_cnn.parse(made, smoke)
  trials = [
    Trial(framework, size, 1, given.images, given.seconds, tuple(kinds(size).values()))
    for framework in given.frameworks
    for size in map(int, given.batch_sizes.split(','))
  ]
  table: Table = []
  for done in tracing_cnn.measured(tracing_cnn.in_drawn_order(trials, given.repeats), given.traces):
    trial = done.trial
    for number, kind in enumerate(kinds(trial.batch_size)):
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


def kinds(batch_size: int) -> dict[str, str]:
  """The phases of a trial; a batch may be of so many images itself, and is then measured twice."""
  steps = max(IMAGES // batch_size, 1)
  return {'0.5 s': 'refs:0.5', '1 step': 'refs:1steps', '1,024 images': f'refs:{steps}steps'}


if __name__ == '__main__':
  main()
