"""This file writes folders of logs as a test wants them: AlgoPerf's layout, or this bench's."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
  """A CSV; its folder is made."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('w', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(rows)
  return path


def algoperf(
  root: Path,
  place: str,
  times: Sequence[float],
  values: Sequence[float],
  metric: str = 'accuracy',
) -> Path:
  """A trial's eval_measurements.csv below `root`; a step is made every second."""
  columns = ['accumulated_submission_time', 'global_step', 'score', 'total_duration',
             f'validation/{metric}', 'validation/num_examples']  # fmt: skip
  rows = [[t, int(t), t, 2 * t, v, 100] for t, v in zip(times, values, strict=True)]
  return write_table(root / place / 'eval_measurements.csv', columns, rows)


def own(
  root: Path,
  place: str,
  times: Sequence[float],
  values: Sequence[float],
  joules: Sequence[float] | None = None,
  hparams: dict[str, object] | None = None,
) -> Path:
  """A trial's metrics.csv and hparams.json as this bench writes them, on two devices."""
  columns = ['global_step', 'accuracy', 'accumulated_submission_time', 'total_duration']
  rows: list[list[object]] = [[10 * t, v, t, t + 1] for t, v in zip(times, values, strict=True)]
  if joules:
    columns.append('energy.submission_joules')
    for row, value in zip(rows, joules, strict=True):
      row.append(value)
  path = write_table(root / place / 'metrics.csv', columns, rows)
  (path.parent / 'hparams.json').write_text(json.dumps(hparams or {}))
  (path.parents[1] / 'metadata.json').write_text(
    json.dumps({'num_devices': 2, 'submission_path': 'baselines/adamw/jax/submission.py'})
  )
  return path


def read_csv(path: Path) -> list[dict[str, str]]:
  """The rows of a table."""
  with path.open(newline='') as file:
    return list(csv.DictReader(file))
