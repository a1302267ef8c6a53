"""Measures what launching costs a trial, and how many trials go through an engine; results.csv.

  python measure_launching.py --engines=processes,docker       --image=… for docker
  python measure_launching.py --parts=hundred --engines=slurm --more='--slurm_wait'
  python measure_launching.py --smoke                          processes only, in seconds

first_step: seconds from the launcher's start of a job to its first recorded row (step 1,
            evaluated), and from a bare command to the same; runs alternate.
slots:      8 trials, one at a time and two at a time.
hundred:    100 trials of one step each, in which the training processes of a tenth are killed with
            SIGKILL at random moments; retries go on with them. Counted: trials a minute, trials
            lost (no finished record) and run twice (more attempts than kills that hit, or a step
            recorded twice).
"""

import argparse
import contextlib
import csv
import json
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

import psutil

from algorithmic_efficiency.launch.plan import Job
from algorithmic_efficiency.launch.plan_folder import PlanFolder

PARTS = ('first_step', 'slots', 'hundred')
BASELINE = ROOT / 'baselines' / 'mnist'
Row = dict[str, Any]


def plan_flags(framework: str, trials: int, steps: int) -> list[str]:
  """A plan of the launcher: digits, some steps, evaluated at the first and the last."""
  return [
    '--workloads=digits', f'--frameworks={framework}', f'--trials={trials}', '--seed=0',
    '--submission_path=baselines/mnist/mnist_{framework}/submission.py',
    '--tuning_search_space=baselines/mnist/tuning_search_space.json',
    f'--flag=max_global_steps={steps}', f'--flag=eval_period_steps={steps}',
  ]  # fmt: skip


class Launcher:
  """Starts launch.py in one engine."""

  def __init__(self, engine: str, more: list[str]) -> None:
    self.engine, self._more = engine, more

  def start(self, logs: Path, plan: list[str], slots: int) -> subprocess.Popen[str]:
    """Starts a plan; its output is kept beside the logs."""
    command = [sys.executable, str(ROOT / 'scripts' / 'launch.py'), f'--log_dir={logs}', *plan]
    command += [f'--engine={self.engine}', f'--slots={slots}', *self._more]
    out = logs.with_suffix('.out').open('w')
    return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)

  def run(self, logs: Path, plan: list[str], slots: int) -> float:
    """Runs a plan to its end; the seconds it took."""
    began = time.time()
    if self.start(logs, plan, slots).wait():
      raise SystemExit(logs.with_suffix('.out').read_text())
    return time.time() - began


def first_row(path: Path, timeout_sec: float = 300.0) -> float:
  """When the first row of a record is there, by the system's clock."""
  until = time.monotonic() + timeout_sec
  while time.monotonic() < until:
    if path.exists() and path.stat().st_size:
      return time.time()
    time.sleep(0.005)
  raise SystemExit(f'{path} had no row after {timeout_sec:.0f} s.')


def bare_first_step(folder: Path, framework: str) -> float:
  """Seconds from the bare command to its first row."""
  flags = [
    f'--workload=digits_{framework}', f'--framework={framework}', f'--log_dir={folder}',
    f'--submission_path={BASELINE}/mnist_{framework}/submission.py', '--rng_seed=0',
    f'--tuning_search_space={BASELINE}/tuning_search_space.json', '--max_global_steps=1',
  ]  # fmt: skip
  began = time.time()
  process = subprocess.Popen(
    [sys.executable, str(ROOT / 'submission_runner.py'), *flags], stdout=subprocess.DEVNULL
  )
  seconds = first_row(folder / f'digits_{framework}' / 'run_1' / 'metrics.jsonl') - began
  process.wait()
  return seconds


def launched_first_step(launcher: Launcher, folder: Path, framework: str) -> float:
  """Seconds from the launcher's start of a job, as it records it, to the job's first row."""
  process = launcher.start(folder, plan_flags(framework, 1, 1), 1)
  row = folder / 'mnist' / 'study_1' / f'digits_{framework}' / 'run_1' / 'metrics.jsonl'
  seen = first_row(row)
  process.wait()
  plan = PlanFolder(folder)
  return seen - plan.attempts(plan.load().jobs()[0])[0]['started']


def measure_first_step(launchers: list[Launcher], repeats: int, folder: Path) -> Iterator[Row]:
  """A bare run and one by each engine, in turns."""
  for repeat in range(repeats):
    for framework in ('jax', 'pytorch'):
      name = f'{framework}_{repeat}'
      seconds = bare_first_step(folder / f'bare_{name}', framework)
      yield {'part': 'first_step', 'engine': 'bare', 'case': framework, 'seconds': seconds}
      for launcher in launchers:
        place = folder / f'{launcher.engine}_{name}'
        seconds = launched_first_step(launcher, place, framework)
        yield {'part': 'first_step', 'engine': launcher.engine, 'case': framework,
               'seconds': seconds}  # fmt: skip


def measure_slots(launchers: list[Launcher], trials: int, folder: Path) -> Iterator[Row]:
  """The same trials over one slot and over two."""
  for launcher in launchers:
    for slots in (1, 2):
      logs = folder / f'{launcher.engine}_slots_{slots}'
      seconds = launcher.run(logs, plan_flags('jax', trials, 200), slots)
      yield {'part': 'slots', 'engine': launcher.engine, 'case': f'{slots} slots',
             'trials': trials, 'seconds': seconds}  # fmt: skip


class Killer(threading.Thread):
  """Kills the training of some of a plan's first attempts, each once, at random moments.

  A trial that is over before its moment has come is replaced by one that has not begun.
  """

  def __init__(self, logs: Path, trials: int, share: float) -> None:
    super().__init__(daemon=True)
    self._random, self._trials = random.Random(0), trials
    chosen = self._random.sample(range(trials), round(trials * share))
    self._delays = {index: self._delay() for index in chosen}
    self._logs, self.hits, self.over = logs, set[str](), threading.Event()

  def _delay(self) -> float:
    return self._random.uniform(0.1, 5.0)

  def run(self) -> None:
    """Until `over` is set."""
    folder = PlanFolder(self._logs)
    while not self.over.wait(0.1):
      if not folder.plan_file.exists():
        continue
      jobs = folder.load().jobs()
      for index, delay in list(self._delays.items()):
        attempts = folder.attempts(jobs[index])
        if attempts and time.time() - attempts[0]['started'] > delay:
          del self._delays[index]
          if 'ended' not in attempts[0] and _kill(folder, jobs[index]):
            self.hits.add(jobs[index].name)
          else:
            self._choose_another(folder, jobs)

  def _choose_another(self, folder: PlanFolder, jobs: Sequence[Job]) -> None:
    waiting = [i for i in range(self._trials) if not folder.attempts(jobs[i])]
    if waiting := [i for i in waiting if i not in self._delays]:
      self._delays[self._random.choice(waiting)] = self._delay()


def _kill(folder: PlanFolder, job: Job) -> bool:
  """SIGKILL to the process that trains a job, in a container or not; whether there was one."""
  flags = {f'--log_dir={folder.run_root(job)}', f'--hparam_start_index={job.trial}'}
  hit = False
  for process in psutil.process_iter(['cmdline']):
    words = process.info['cmdline'] or []
    if 'python' in Path(words[0] if words else '').name and flags <= set(words):
      with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
        hit = True
  return hit


def measure_hundred(
  launchers: list[Launcher], trials: int, share: float, folder: Path
) -> Iterator[Row]:
  """Many trials, a share of them killed."""
  for launcher in launchers:
    logs = folder / f'{launcher.engine}_hundred'
    killer = Killer(logs, trials, share)
    killer.start()
    seconds = launcher.run(logs, [*plan_flags('jax', trials, 1), '--retries=3'], 2)
    killer.over.set()
    killer.join()
    counts = count(PlanFolder(logs), killer.hits)
    yield {'part': 'hundred', 'engine': launcher.engine, 'case': 'jax', 'trials': trials,
           'seconds': seconds, 'kills': len(killer.hits), **counts}  # fmt: skip


def count(folder: PlanFolder, hits: set[str]) -> Row:
  """Trials without a finished record, and trials that were run more often than they were killed."""
  lost = twice = 0
  for job in folder.load().jobs():
    state = folder.finished(job)
    lost += state is None or state['status'] != 'complete'
    rows = folder.trial(job).metrics_jsonl.read_text().splitlines() if state else []
    steps = [json.loads(row)['global_step'] for row in rows]
    more = len(folder.attempts(job)) > 1 + (job.name in hits)
    twice += more or len(set(steps)) < len(steps)
  return {'lost': lost, 'twice': twice}


def main() -> None:
  """Measures and writes."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--engines', default='processes')
  parser.add_argument('--parts', default=','.join(PARTS))
  parser.add_argument('--repeats', type=int, default=5)
  parser.add_argument('--trials', type=int, default=100, help='of hundred')
  parser.add_argument('--image', help='for docker')
  parser.add_argument('--more', default='', help='further flags of launch.py')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  parser.add_argument('--smoke', action='store_true')
  given = parser.parse_args()
  if given.smoke:
    given.repeats, given.trials, given.parts = 1, 4, 'hundred'
    given.output = Path(tempfile.mkdtemp()) / 'results.csv'
  more = shlex.split(given.more) + ([f'--image={given.image}'] if given.image else [])
  launchers = [Launcher(engine, more) for engine in given.engines.split(',')]
  rows: list[Row] = []
  with tempfile.TemporaryDirectory(prefix='launch') as name:
    folder = Path(name)
    parts = {
      'first_step': measure_first_step(launchers, given.repeats, folder),
      'slots': measure_slots(launchers, 8, folder),
      'hundred': measure_hundred(launchers, given.trials, 0.5 if given.smoke else 0.1, folder),
    }
    for part in given.parts.split(','):
      for row in parts[part]:
        print(*(f'{key}={value}' for key, value in row.items()), flush=True)
        rows.append(row)
  write(rows, given.output)
  for engine in sorted({row['engine'] for row in rows if row['part'] == 'first_step'}):
    for case in ('jax', 'pytorch'):
      wanted = ('first_step', engine, case)
      seconds = [r['seconds'] for r in rows if (r['part'], r['engine'], r['case']) == wanted]
      if seconds:
        print(f'{engine} {case}: first row after {statistics.median(seconds):.2f} s (median)')


def write(rows: list[Row], path: Path) -> None:
  """Adds the rows to a table; those of the same part and engine that were there go."""
  columns: tuple[str, ...] = (
    'part',
    'engine',
    'case',
    'seconds',
    'trials',
    'kills',
    'lost',
    'twice',
  )
  new = {(row['part'], row['engine']) for row in rows}
  kept: list[Row] = []
  if path.exists():
    with path.open(newline='', encoding='utf-8') as file:
      kept = [row for row in csv.DictReader(file) if (row['part'], row['engine']) not in new]
  with path.open('w', newline='', encoding='utf-8') as file:
    writer: csv.DictWriter[str] = csv.DictWriter(file, columns, restval='')
    writer.writeheader()
    writer.writerows([*kept, *rows])
  print(f'table: {path}')


if __name__ == '__main__':
  main()
