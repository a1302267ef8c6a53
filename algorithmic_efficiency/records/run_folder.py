"""This file owns every path of a run; nobody else joins paths.

Trials are counted from 0 in code and from 1 in folder names. Two layouts of one record:
  LOG_DIR/mnist_jax/run_1/…                       with --log_dir
  EXPERIMENT_DIR/NAME/mnist_jax/trial_1/…         with --experiment_dir, as AlgoPerf has it
"""

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError

FINISHED = ('complete', 'failed')  # statuses a trial is not taken up again from


@dataclass(frozen=True)
class TrialFolder:
  """The paths of one trial."""

  path: Path

  @property
  def metrics_csv(self) -> Path:
    """One row per evaluation: the view people read."""
    return self.path / 'metrics.csv'

  @property
  def metrics_jsonl(self) -> Path:
    """One JSON object per evaluation: the truth metrics.csv is a view of."""
    return self.path / 'metrics.jsonl'

  @property
  def hparams(self) -> Path:
    """The trial's hyperparameters."""
    return self.path / 'hparams.json'

  @property
  def state(self) -> Path:
    """The trial's seed, status and reason; replaced whole when they change."""
    return self.path / 'trial.json'

  @property
  def error(self) -> Path:
    """The traceback of a failed trial, for the submission's author."""
    return self.path / 'error.txt'

  @property
  def measurements_csv(self) -> Path:
    """What the submission logged through metrics_logger, and the evaluations (AlgoPerf's name)."""
    return self.path / 'measurements.csv'

  @property
  def eval_measurements_csv(self) -> Path:
    """The evaluations in AlgoPerf's columns."""
    return self.path / 'eval_measurements.csv'

  def meta_data(self, preemptions: int) -> Path:
    """The metadata of the trial's k-th start, as AlgoPerf has it."""
    return self.path / f'meta_data_{preemptions}.json'

  def flags(self, preemptions: int) -> Path:
    """The flags of the trial's k-th start, as AlgoPerf has it."""
    return self.path / f'flags_{preemptions}.json'

  def read_state(self) -> dict[str, Any] | None:
    """The trial's state, or None where it never started."""
    try:
      return json.loads(self.state.read_text(encoding='utf-8'))
    except FileNotFoundError:
      return None
    except ValueError as error:
      raise UsageError(
        f'{str(self.state)!r} is not JSON ({error}); delete the folder or use --overwrite.'
      ) from error

  def set_aside(self) -> str | None:
    """Renames what an unfinished attempt left so that a new one does not overwrite it.

    Returns the suffix given to the old files, or None where there was nothing.
    """
    left = [
      f for f in (self.metrics_csv, self.metrics_jsonl, self.state, self.error,
                  self.measurements_csv, self.eval_measurements_csv) if f.exists()
    ]  # fmt: skip
    if not left:
      return None
    attempt = 1
    while any(f.with_name(f'{f.name}.attempt_{attempt}').exists() for f in left):
      attempt += 1
    for file in left:
      file.rename(file.with_name(f'{file.name}.attempt_{attempt}'))
    return f'attempt_{attempt}'


@dataclass(frozen=True)
class RunFolder:
  """The paths of one workload's study.

  Attributes:
    root: the folder the user named; several workloads share it.
    name: workload and framework, such as 'mnist_jax'.
    algoperf: whether trials are laid out and recorded as AlgoPerf does too.
  """

  root: Path
  name: str
  algoperf: bool = False

  @property
  def path(self) -> Path:
    """The folder of this workload and framework."""
    return self.root / self.name

  @property
  def metadata(self) -> Path:
    """What was run, on what, with which settings."""
    return self.path / 'metadata.json'

  @property
  def packages(self) -> Path:
    """The packages of Python and of the operating system."""
    return self.path / 'packages.txt'

  def trial(self, index: int) -> TrialFolder:
    """The folder of a trial; `index` counts from 0."""
    return TrialFolder(self.path / f'{"trial" if self.algoperf else "run"}_{index + 1}')

  def trials(self) -> dict[int, TrialFolder]:
    """The trials there are, by index from 0."""
    pattern = re.compile(r'(?:run|trial)_([1-9]\d*)')
    names = (pattern.fullmatch(p.name) for p in self.path.glob('*_*') if p.is_dir())
    indices = sorted(int(match[1]) - 1 for match in names if match)
    return {index: self.trial(index) for index in indices if self.trial(index).path.is_dir()}

  def make(self) -> None:
    """Makes the folder and proves that it can be written to. Raises UsageError."""
    for part in (self.path, *self.path.parents):
      if part.exists() and not part.is_dir():
        raise UsageError(f'{str(part)!r} is a file, not a folder; choose another --log_dir.')
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path) as probe:
        probe.write(b'x')
        probe.flush()
        os.fsync(probe.fileno())
    except OSError as error:
      raise UsageError(
        f'{str(self.path)!r} cannot be written to ({error.strerror}); choose another --log_dir '
        'or mend its permissions or free space.'
      ) from error

  def clear(self) -> None:
    """Removes this run's record, and nothing that is not part of one."""
    for trial in self.trials().values():
      shutil.rmtree(trial.path)
    for file in (self.metadata, self.packages):
      file.unlink(missing_ok=True)

  def refuse_to_mix(self, indices: range) -> None:
    """Raises UsageError if a trial of `indices` is already there, telling what can be done."""
    here = [trial for index, trial in self.trials().items() if index in indices]
    states = {trial.path.name: trial.read_state() for trial in here}
    if not states:
      return
    unfinished = [n for n, s in states.items() if s is None or s['status'] not in FINISHED]
    if unfinished:
      raise UsageError(
        f'{str(self.path)!r} already holds a run that did not finish ({", ".join(unfinished)}); '
        '--resume goes on with it, --overwrite deletes it, or choose another --log_dir.'
      )
    raise UsageError(
      f'{str(self.path)!r} already holds a finished run ({", ".join(states)}); '
      'choose another --log_dir, or --overwrite deletes it.'
    )
