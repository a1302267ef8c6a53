"""Made-up records, as runs of the bench and of AlgoPerf leave them."""

import csv
import json
from pathlib import Path

START = 1_700_000_000.0


def row(step, **others):
  """One row of metrics.jsonl, strict JSON."""
  return {
    'workload': 'digits_jax', 'framework': 'jax', 'run_idx': 1, 'batch_size': 64,
    'hparam.learning_rate': 0.001, 'global_start_time': START, 'global_step': step,
    'accumulated_submission_time': 0.1 + step / 7, 'total_duration': step / 5,
    'recorded_at': START + 1 / 3 + step / 5, 'validation/loss': 1 / (1 + step),
    'goal_reached': step > 15, **others,
  }  # fmt: skip


def sample(second, **others):
  """One line of telemetry.jsonl."""
  return {
    'kind': 'sample', 'monotonic_sec': 50 + second, 'time': START + second,
    'gpu.0.power.watts': 100.5 + second, **others,
  }  # fmt: skip


def lines(objects):
  """JSON lines."""
  return ''.join(json.dumps(each) + '\n' for each in objects)


def trial(logs: Path, number=1, rows=None, samples=None, workload='digits_jax', **state):
  """A trial of a --log_dir; returns its folder."""
  folder = logs / workload / f'run_{number}'
  folder.mkdir(parents=True)
  metadata = {
    'workload': workload, 'datetime': '2026-01-02T03:04:05.678901', 'cpu_count': 2,
    'git_dirty': False, 'log_dir': str(logs),
  }  # fmt: skip
  (logs / workload / 'metadata.json').write_text(json.dumps(metadata))
  (folder / 'metrics.jsonl').write_text(lines([row(1), row(10), row(20)] if rows is None else rows))
  if samples is None:
    samples = [sample(0), sample(0.5), sample(1)]
  (folder / 'telemetry.jsonl').write_text(lines([{'kind': 'begin', 'time': START}, *samples]))
  (folder / 'hparams.json').write_text(json.dumps({'learning_rate': 0.001, 'opt': 'adam'}))
  ended = {
    'run_idx': number, 'status': 'complete', 'reason': 'both targets reached',
    'goal_reached': True, **state,
  }  # fmt: skip
  (folder / 'trial.json').write_text(json.dumps(ended))
  return folder


ALGOPERF = [
  {'accumulated_submission_time': str(10.5 * k), 'global_step': str(100 * k),
   'score': str(10.5 * k), 'total_duration': str(12.25 * k), 'validation/loss': str(1 / k),
   'validation/ssim': 'nan' if k == 2 else str(0.7 + k / 100)}
  for k in (1, 2, 3)
]  # fmt: skip


def algoperf_trial(study: Path, number=1, rows=None):
  """A trial of AlgoPerf's published logs, which is one file; returns its folder."""
  folder = study / 'fastmri_pytorch' / f'trial_{number}'
  folder.mkdir(parents=True)
  with (folder / 'eval_measurements.csv').open('w', newline='') as file:
    writer = csv.DictWriter(file, list(ALGOPERF[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(ALGOPERF if rows is None else rows)
  return folder


def numbers(recorded):
  """The numeric columns of a row, as JSON reads it: an independent word for what is exported."""
  found = {}
  for name, value in recorded.items():
    if value in ('NaN', 'Infinity', '-Infinity') or isinstance(value, bool | int | float):
      found[name] = float(value)
  return found
