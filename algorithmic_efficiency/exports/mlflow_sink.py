"""This file writes trials as runs of MLflow, into a data base of its own or on a server.

Without MLFLOW_TRACKING_URI the store is mlflow.db in the output folder, which `mlflow ui
--backend-store-uri sqlite:///…/mlflow.db` shows.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Before the import: MLflow reports its use to its makers, and tries a silent server for minutes.
os.environ.setdefault('MLFLOW_DISABLE_TELEMETRY', 'true')
os.environ.setdefault('MLFLOW_HTTP_REQUEST_MAX_RETRIES', '2')
os.environ.setdefault('MLFLOW_HTTP_REQUEST_TIMEOUT', '10')

import mlflow
from mlflow.entities import Metric, Param, RunTag

from algorithmic_efficiency.exports.trials import TELEMETRY, Point, Status, Trial

_KEY = 'algorithmic_efficiency.trial'
_AT_ONCE = 1000  # metrics that a server takes in one call
_PARAMS_AT_ONCE = 100
_LONGEST = 5000  # of a tag's value, in every store
_STATUS = {
  'failed': 'FAILED',
  'interrupted': 'KILLED',
  'killed': 'KILLED',
  'running': 'RUNNING',
}


class Sink:
  """An experiment of a tracking server or of a local store."""

  def __init__(self, folder: Path, project: str, say: Callable[[str], None]) -> None:
    del say
    for noisy in ('mlflow', 'alembic'):
      logging.getLogger(noisy).setLevel(logging.ERROR)
    given = os.environ.get('MLFLOW_TRACKING_URI')
    folder.mkdir(parents=True, exist_ok=True)
    self.place = given or f'sqlite:///{folder.absolute()}/mlflow.db'
    self._client: Any = mlflow.MlflowClient(tracking_uri=self.place)
    name = os.environ.get('MLFLOW_EXPERIMENT_NAME') or project
    experiment = self._client.get_experiment_by_name(name)
    if experiment is not None:
      self._experiment: str = experiment.experiment_id
    else:  # a local store would keep artifacts in whatever folder the command was given in
      artifacts = None if given else (folder.absolute() / 'artifacts').as_uri()
      self._experiment = self._client.create_experiment(name, artifact_location=artifacts)

  def open(self, trial: Trial, points: Sequence[Point]) -> 'MlflowExport':
    """Goes on with the trial's run; begins another where that has rows the record has not."""
    recorded = {_mark(point) for point in points if point.is_row}
    for run in self._client.search_runs([self._experiment], f"tags.`{_KEY}` = '{trial.key}'"):
      there = self._marks(run.info.run_id, 'global_step')
      if there <= recorded:
        self._client.update_run(run.info.run_id, status='RUNNING')
        samples = self._marks(run.info.run_id, f'{TELEMETRY}seconds')
        self._describe(run.info.run_id, trial)
        return MlflowExport(self._client, run.info.run_id, there, samples)
      self._client.delete_run(run.info.run_id)  # as MLflow deletes: it can be restored
    run = self._client.create_run(
      self._experiment,
      start_time=round(points[0].time * 1000) if points else None,
      run_name=trial.name,
      tags={_KEY: trial.key, 'group': trial.group},
    )
    self._describe(run.info.run_id, trial)
    return MlflowExport(self._client, run.info.run_id, set(), set())

  def _marks(self, run: str, name: str) -> set[tuple[int, int]]:
    return {(m.step, m.timestamp) for m in self._client.get_metric_history(run, name)}

  def _describe(self, run: str, trial: Trial) -> None:
    params = [Param(_allowed(n), _text(value)) for n, value in trial.hparams.items()]
    tags = [RunTag(_allowed(n), _text(value)[:_LONGEST]) for n, value in trial.metadata.items()]
    for batch in _batches(params, _PARAMS_AT_ONCE):
      self._client.log_batch(run, params=batch)
    for batch in _batches(tags, _PARAMS_AT_ONCE):
      self._client.log_batch(run, tags=batch)


class MlflowExport:
  """One run; what it has already is known by step and time."""

  def __init__(
    self, client: Any, run: str, rows: set[tuple[int, int]], samples: set[tuple[int, int]]
  ) -> None:
    self._client, self._run = client, run
    self._there = {True: rows, False: samples}
    self._last_ms: int | None = None

  def log(self, points: Sequence[Point]) -> None:
    """The metrics of the points that the run has not got."""
    metrics: list[Metric] = []
    for point in points:
      self._last_ms = round(point.time * 1000)
      if _mark(point) in self._there[point.is_row]:
        continue
      self._there[point.is_row].add(_mark(point))
      # The one that marks a point as there goes last: a kill in between costs no value.
      marks_it = 'global_step' if point.is_row else f'{TELEMETRY}seconds'
      names = sorted(point.values, key=lambda name: name == marks_it)
      metrics += [
        Metric(_allowed(n), float(point.values[n]), self._last_ms, point.step) for n in names
      ]
    for batch in _batches(metrics, _AT_ONCE):
      self._client.log_batch(self._run, metrics=batch)

  def close(self, status: Status) -> None:
    """Writes how the trial ended."""
    told = {'status': status.word, 'reason': status.reason, 'goal_reached': status.goal_reached}
    tags = [RunTag(f'trial.{n}', _text(value)) for n, value in told.items() if value is not None]
    self._client.log_batch(self._run, tags=tags)
    word = _STATUS.get(status.word, 'FINISHED')
    self._client.set_terminated(self._run, word, end_time=self._last_ms)


def _mark(point: Point) -> tuple[int, int]:
  return point.step, round(point.time * 1000)


def _allowed(name: str) -> str:
  """The name with nothing in it that MLflow forbids."""
  return re.sub(r'[^\w\-. :/]', '_', name, flags=re.ASCII)


def _text(value: Any) -> str:
  return value if isinstance(value, str) else json.dumps(value)


def _batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
  for start in range(0, len(items), size):
    yield items[start : start + size]
