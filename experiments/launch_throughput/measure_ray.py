#!/usr/bin/env python3
"""Trials a minute through a Ray cluster of this machine, with processes killed at random.

  python experiments/launch_throughput/measure_ray.py --trials=100 --kill=0.1 --out=ray.json

The cluster is made here and removed. Of the trials' processes a part is killed by SIGKILL while it
runs: the run, the task that started it, or the Ray worker that started that. The table says whether
every trial was completed, and whether two processes ever ran one at the same time.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency.launch.plan_folder import PlanFolder

_LOOK_SEC = 0.1


class Killer(threading.Thread):
  """Looks at the runs there are, and kills some of them within five seconds."""

  def __init__(self, log_dir: Path, part: float) -> None:
    super().__init__(daemon=True)
    self._marker, self._part = str(log_dir), part
    self._random = random.Random(0)
    self._seen: set[int] = set()
    self.killed: Counter[str] = Counter()
    self.twice: list[str] = []
    self.done = threading.Event()

  def run(self) -> None:
    """Until it is done."""
    while not self.done.wait(_LOOK_SEC):
      runs = self._runs()
      trials = Counter(runs.values())
      self.twice += [trial for trial, count in trials.items() if count > 1]
      for process in runs:
        if process.pid not in self._seen:
          self._seen.add(process.pid)
          if self._random.random() < self._part:
            threading.Timer(self._random.uniform(0.0, 5.0), self._kill, [process]).start()

  def _runs(self) -> dict[psutil.Process, str]:
    """Those that hold or want a trial: its first hyperparameter point names it."""
    found = {}
    for process in psutil.process_iter(['cmdline']):
      words = process.info['cmdline'] or []
      if 'algorithmic_efficiency.submission_runner' in words and self._marker in ' '.join(words):
        wanted = ('--log_dir=', '--workload=', '--hparam_start_index=')
        found[process] = ' '.join(word for word in words if word.startswith(wanted))
    return found

  def _kill(self, process: psutil.Process) -> None:
    which = self._random.choice(('run', 'task', 'worker'))
    try:
      chain = {'run': process, 'task': process.parent()}
      chain['worker'] = chain['task'].parent() if chain['task'] else None
      victim = chain[which]
      if victim is not None and process.is_running():
        victim.kill()
        self.killed[which] += 1
    except psutil.NoSuchProcess:
      pass  # it had ended


def main() -> int:
  """The command."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--trials', type=int, default=100)
  parser.add_argument('--kill', type=float, default=0.1, help='part of the runs')
  parser.add_argument('--steps', type=int, default=5)
  parser.add_argument('--cpus', type=int, default=os.cpu_count(), help='of the cluster')
  parser.add_argument('--out', type=Path, default=Path('ray.json'))
  parser.add_argument('--smoke', action='store_true', help='four trials')
  given = parser.parse_args()
  trials = 4 if given.smoke else given.trials
  with tempfile.TemporaryDirectory() as folder:
    row = measure(Path(folder), trials, given.kill, given.steps, given.cpus)
  given.out.write_text(json.dumps(row, indent=2) + '\n')
  print(json.dumps(row))
  return 0 if row['complete'] == trials and not row['ran_twice'] else 1


def measure(folder: Path, trials: int, part: float, steps: int, cpus: int) -> dict[str, object]:
  """One plan, on a cluster of its own."""
  os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
  from ray.cluster_utils import Cluster

  cluster = Cluster(
    initialize_head=True, head_node_args={'num_cpus': cpus, 'include_dashboard': False}
  )
  log_dir = folder / 'logs'
  killer = Killer(log_dir, part)
  killer.start()
  began = time.monotonic()
  try:
    code = subprocess.run([
      sys.executable, str(ROOT / 'scripts' / 'launch.py'), '--engine=ray',
      f'--ray_address={cluster.address}', f'--log_dir={log_dir}', '--workloads=digits',
      '--frameworks=jax', f'--trials={trials}', '--retries=3', f'--flag=max_global_steps={steps}',
      '--flag=telemetry=off', '--submission_path=baselines/mnist/mnist_{framework}/submission.py',
      '--tuning_search_space=baselines/mnist/tuning_search_space.json',
    ]).returncode  # fmt: skip
  finally:
    killer.done.set()
    cluster.shutdown()
  seconds = time.monotonic() - began
  record = PlanFolder(log_dir)
  jobs = record.load().jobs()
  states = Counter(str((record.finished(job) or {}).get('status')) for job in jobs)
  return {
    'engine': 'ray', 'exit_code': code, 'trials': trials, 'slots': cpus,
    'seconds': round(seconds, 1), 'trials_per_minute': round(60 * trials / seconds, 2),
    'complete': states['complete'], 'killed': dict(killer.killed),
    'attempts': sum(len(record.attempts(job)) for job in jobs), 'ran_twice': len(killer.twice),
  }  # fmt: skip


if __name__ == '__main__':
  sys.exit(main())
