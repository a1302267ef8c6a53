"""What a checkpoint costs, and what going on from one costs; writes results.csv.

  python measure_checkpoints.py            some minutes; 4 GB of disk and of memory
  python measure_checkpoints.py --smoke    a small model, one repetition

- A model of 100 million parameters with two moments each (1.2 GB): seconds to save and to restore
  it, against a plain copy of the same bytes to the same disk, and against orbax in JAX and a bare
  torch.save in PyTorch. Everything waits until the disk has it.
- cifar through the command: seconds of its checkpoints, and on which account of the clock.
- Seconds from the command to the first step, fresh and with --resume.
"""

import argparse
import csv
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE.parent)]

BASELINE = ROOT / 'baselines' / 'mnist'

# Writes down when its first step begins, and ends the run by SIGTERM where it is told so.
WRAPPED = """
import importlib.util, os, pathlib, signal, time
spec = importlib.util.spec_from_file_location('of_the_baseline', {path!r})
baseline = importlib.util.module_from_spec(spec)
spec.loader.exec_module(baseline)
get_batch_size, data_selection = baseline.get_batch_size, baseline.data_selection
init_optimizer_state = baseline.init_optimizer_state
HERE = pathlib.Path(__file__).parent

def update_params(workload, current_param_container, current_params_types, model_state,
                  hyperparameters, batch, loss_type, optimizer_state, eval_results, global_step,
                  rng):
  mark = HERE / 'first'
  if not mark.exists():
    mark.write_text(repr(time.time()))
  if global_step == 50 and (HERE / 'stop').exists():
    signal.raise_signal(signal.SIGTERM)
  return baseline.update_params(
    workload, current_param_container, current_params_types, model_state, hyperparameters, batch,
    loss_type, optimizer_state, eval_results, global_step, rng)
"""


def timed(action: Any) -> float:
  """Seconds that it takes."""
  began = time.perf_counter()
  action()
  return time.perf_counter() - began


def large_model(framework: str, count: int, folder: Path) -> list[dict]:
  """Saving and restoring so many parameters, in a process of its own: its memory is new."""
  done = subprocess.run(
    [sys.executable, str(HERE / 'one_model.py'), framework, str(count), str(folder)],
    check=True, stdout=subprocess.PIPE, text=True,
  )  # fmt: skip
  return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{')]


def of_cifar(framework: str, folder: Path) -> list[dict]:
  """The checkpoints of three evaluations of cifar."""
  subprocess.run(
    [
      sys.executable,
      str(ROOT / 'submission_runner.py'),
      f'--framework={framework}',
      '--workload=cifar',
      '--data=synthetic',
      f'--submission_path={BASELINE}/mnist_{framework}/submission.py',
      f'--tuning_search_space={BASELINE}/tuning_search_space.json',
      f'--log_dir={folder}',
      '--batch_size=16',
      '--max_global_steps=3',
      '--eval_period_steps=1',
      '--rng_seed=0',
    ],
    check=True,
    stdout=subprocess.DEVNULL,
  )
  trial = folder / f'cifar_{framework}' / 'run_1'
  state = json.loads((trial / 'trial.json').read_text())
  size = sum(f.stat().st_size for f in (trial / 'checkpoints' / 'step_3').iterdir())
  seconds = state['seconds']
  rows = [{'what': 'cifar, one checkpoint', 'seconds': seconds['checkpoint'] / 3, 'bytes': size}]
  for account in ('submission', 'evaluation', 'recording', 'checkpoint'):
    rows.append({'what': f'cifar, account {account}', 'seconds': seconds[account], 'bytes': 0})
  return rows


def starts(framework: str, folder: Path, repeats: int) -> list[dict]:
  """Seconds from the command to the first step, fresh and resumed in turns."""
  path = BASELINE / f'mnist_{framework}' / 'submission.py'
  mine = folder / 'mine'
  mine.mkdir()
  (mine / 'submission.py').write_text(WRAPPED.format(path=str(path)))
  space = folder / 'space.json'
  space.write_text('[{"learning_rate": 1e-5, "one_minus_beta_1": 0.1, "epsilon": 1e-8}]')
  found: dict[str, list[float]] = {'fresh': [], 'resumed': []}
  for number in range(repeats):
    command = [
      sys.executable,
      str(ROOT / 'submission_runner.py'),
      f'--framework={framework}',
      '--workload=digits',
      f'--submission_path={mine}',
      f'--tuning_search_space={space}',
      f'--log_dir={folder}/logs_{number}',
      '--max_global_steps=60',
      '--rng_seed=0',
    ]
    for kind, expected in (('fresh', 75), ('resumed', 0)):
      (mine / 'first').unlink(missing_ok=True)
      (mine / 'stop').touch()
      resume = ['--resume'] if kind == 'resumed' else []
      if resume:
        (mine / 'stop').unlink()
      began = time.time()
      done = subprocess.run([*command, *resume], capture_output=True)
      assert done.returncode == expected, done.stderr
      found[kind].append(float((mine / 'first').read_text()) - began)
  return [
    {'what': f'command to first step, {kind}', 'seconds': statistics.median(times), 'bytes': 0}
    for kind, times in found.items()
  ]


def main() -> None:
  """Measures and writes results.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  count = 10**6 if arguments.smoke else 10**8
  rows: list[dict] = []
  for framework in ('jax', 'pytorch'):
    with tempfile.TemporaryDirectory() as temporary:
      folder = Path(temporary)
      found = starts(framework, folder, 1 if arguments.smoke else 5)
      found += large_model(framework, count, folder)
      if not arguments.smoke:
        found += of_cifar(framework, folder / 'cifar')
      shutil.rmtree(folder / 'saved', ignore_errors=True)
    for row in found:
      rows.append({'framework': framework, **row})
      speed = f'{row["bytes"] / row["seconds"] / 1e6:8,.0f} MB/s' if row['bytes'] else ''
      print(f'{framework:8} {row["what"]:36} {row["seconds"]:8.3f} s {speed}', flush=True)
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, ['framework', 'what', 'seconds', 'bytes'])
    writer.writeheader()
    writer.writerows(rows)


if __name__ == '__main__':
  main()
