"""This file writes the lines of a log that tools made for AlgoPerf's logs look for.

The log lies beside the workload's folder, as <workload>_<framework>_<MM-DD-YYYY-HH-MM-SS>.log.
"""

import datetime
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.records.appended_file import AppendedFile


class AlgoperfLog:
  """A command's log; each line is on the disk when the method returns.

  Args:
    folder: of the experiment.
    name: workload and framework, such as 'mnist_jax'.
  """

  def __init__(self, folder: Path, name: str) -> None:
    self._name = name
    self._file = AppendedFile(folder / f'{name}_{datetime.datetime.now():%m-%d-%Y-%H-%M-%S}.log')

  def begins(self, number: int, count: int) -> None:
    """Trial `number` of `count` begins, or goes on; counted from 1."""
    self._write(f'--- Tuning run {number}/{count} ---')

  def evaluated(self, seconds: float, step: int, results: Mapping[str, Any]) -> None:
    """An evaluation; `seconds` since the trial's start."""
    self._write(f'Time since start: {seconds:.2f}s, \tStep: {step}, \t{dict(results)}')

  def ended(
    self,
    number: int,
    count: int,
    point: Mapping[str, Any],
    results: Sequence[tuple[int, Mapping[str, Any]]],
    step: int,
    submission_sec: float,
  ) -> None:
    """A trial has ended, with these evaluations."""
    metrics = {'eval_results': [(at, dict(found)) for at, found in results], 'global_step': step}
    self._write(f'Tuning trial {number}/{count}')
    self._write(f'Hyperparameters: {dict(point)}')
    self._write(f'Metrics: {metrics}')
    self._write(f'Timing: {submission_sec}')
    self._write(f'Total number of evals: {len(results)}')
    self._write('=' * 20)

  def final(self, score: float) -> None:
    """The study's score: the least submission time of a trial that reached both targets, or inf."""
    self._write(f'Final {self._name} score: {score}')

  def close(self) -> None:
    """Closes the file."""
    self._file.close()

  def _write(self, text: str) -> None:
    now = datetime.datetime.now()
    self._file.append(f'I{now:%m%d %H:%M:%S.%f} {os.getpid()} submission_runner.py] {text}\n')
