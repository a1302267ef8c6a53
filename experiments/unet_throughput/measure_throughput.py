"""Seconds and joules of an epoch of unet by batch size, image size and processes.

  python measure_throughput.py                 ten minutes on two cores; results.csv
  python measure_throughput.py --device=cuda   on a GPU
  python measure_throughput.py --smoke         one small setting a framework

An epoch is 3,143 slices; the slices are made up and lie in memory, so there are no loading workers
to vary. Joules are those of the devices that tell them (`energy.source`); none on most CPUs.
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import launching

# (image size, batch size, processes)
SETTINGS = [(32, 16, 1), (64, 16, 1), (64, 32, 1), (128, 8, 1), (64, 16, 2)]
SMOKE = [(16, 4, 1)]
COLUMNS = ['framework', 'device', 'image_size', 'batch_size', 'processes', 'epoch_sec',
           'slices_per_sec', 'epoch_joules', 'energy_source']  # fmt: skip


def main() -> None:
  """Writes results.csv line by line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--steps', type=int, default=5)
  parser.add_argument('--device', default='auto')
  parser.add_argument('--frameworks', default='jax,pytorch')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  given = parser.parse_args()
  steps = 3 if given.smoke else given.steps
  with given.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    for framework in given.frameworks.split(','):
      for size, batch, processes in SMOKE if given.smoke else SETTINGS:
        row = measure(framework, size, batch, processes, steps, given.device)
        writer.writerow(row)
        file.flush()
        print(', '.join(f'{name} {value}' for name, value in row.items()), flush=True)


def measure(
  framework: str, size: int, batch: int, processes: int, steps: int, device: str
) -> dict[str, object]:
  """One setting: from the first step's end to the last's."""
  with tempfile.TemporaryDirectory() as folder:
    arguments = [str(HERE / 'one_run.py'), framework, size, batch, steps, device, folder]
    printed = launching.run([str(a) for a in arguments], framework, processes)
  found = json.loads(printed.splitlines()[-1])
  if found['status'] != 'complete':
    raise SystemExit(f'{framework} {size} {batch}: {found}')
  epochs = found['global_step'] / found['steps_per_epoch']
  seconds = found['accumulated_submission_time'] / epochs
  joules = found.get('energy.submission_joules')
  return {
    'framework': framework,
    'device': device,
    'image_size': size,
    'batch_size': batch,
    'processes': processes,
    'epoch_sec': round(seconds, 2),
    'slices_per_sec': round(found['steps_per_epoch'] * batch / seconds, 2),
    'epoch_joules': '' if joules is None else round(joules / epochs, 1),
    'energy_source': found['energy.source'],
  }


if __name__ == '__main__':
  main()
