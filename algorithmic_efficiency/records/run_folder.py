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
from typing import Any, cast

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.trial_lock import any_is_alive
from algorithmic_efficiency.records.whole_files import write_whole

FINISHED = ('complete', 'failed')  # statuses a trial is not taken up again from

# Everything that a run may leave in a trial's folder: half-written files and old attempts too.
_LEFT_BY_TRIAL = re.compile(
  r'\.?(?:metrics\.(?:csv|jsonl)|hparams\.json|trial\.json|error\.txt|(?:eval_)?measurements\.csv'
  r'|(?:meta_data|flags)_\d+\.json|(?:telemetry|phases)\.jsonl|checkpoints|traces'
  r'|checkpoint_\d+(?:_unevaluated)?(?:\.damaged_\d+)?)'
  r'(?:\.attempt_\d+|\.\d+\.tmp)?'
)


@dataclass(frozen=True)
class TrialFolder:
  """The paths of one trial; `algoperf` says which layout it has."""

  path: Path
  algoperf: bool = False

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

  @property
  def telemetry(self) -> Path:
    """What the hardware did: a line a sample."""
    return self.path / 'telemetry.jsonl'

  @property
  def phases(self) -> Path:
    """What the trial did when, on the clock of the samples."""
    return self.path / 'phases.jsonl'

  @property
  def traces(self) -> Path:
    """What a profiler has traced (--profile_steps)."""
    return self.path / 'traces'

  def trace(self, process: int = 0, num_processes: int = 1) -> 'TraceFolder':
    """The trace of a process: several have a folder each in `traces`."""
    return TraceFolder(self.traces / f'process_{process}' if num_processes > 1 else self.traces)

  def memory(self, process: int | None = None, number: int = 1) -> Path:
    """What memory was touched (--trace_memory), of a process, when it was taken up so often."""
    of_process = '' if process is None else f'_process_{process}'
    return self.path / f'memory{of_process}{"" if number == 1 else f"_{number}"}.jsonl'

  def checkpoint(self, step: int, evaluated: bool = True) -> Path:
    """The folder of a checkpoint, after the evaluation that was due at its step or before."""
    name = f'{step}{"" if evaluated else "_unevaluated"}'
    if self.algoperf:
      return self.path / f'checkpoint_{name}'
    return self.path / 'checkpoints' / f'step_{name}'

  def checkpoints(self) -> list[Path]:
    """The checkpoints there are, the newest first."""
    parent = self.checkpoint(0).parent
    pattern = re.compile(r'(?:step|checkpoint)_(\d+)(_unevaluated)?')
    paths = list(parent.iterdir()) if parent.is_dir() else []
    found = [(match, path) for path in paths if (match := pattern.fullmatch(path.name))]
    found.sort(key=lambda pair: (int(pair[0][1]), not pair[0][2]), reverse=True)
    return [path for _, path in found]

  @property
  def lock(self) -> Path:
    """Held by the process that runs the trial; beside the folder, which may not be there yet."""
    return self.path.with_name(f'.{self.path.name}.lock')

  def meta_data(self, preemptions: int) -> Path:
    """The metadata of the trial's k-th start, as AlgoPerf has it."""
    return self.path / f'meta_data_{preemptions}.json'

  def flags(self, preemptions: int) -> Path:
    """The flags of the trial's k-th start, as AlgoPerf has it."""
    return self.path / f'flags_{preemptions}.json'

  def num_rows(self) -> int:
    """Whole rows recorded so far."""
    try:
      return self.metrics_jsonl.read_bytes().count(b'\n')
    except FileNotFoundError:
      return 0

  def read_state(self) -> dict[str, Any] | None:
    """The trial's state, or None where it never started."""
    try:
      state = json.loads(self.state.read_text(encoding='utf-8'))
      if not isinstance(state, dict) or 'status' not in state:
        raise ValueError('it has no status')
    except FileNotFoundError:
      return None
    except (OSError, ValueError) as error:
      raise UsageError(
        f'{str(self.state)!r} cannot be read ({error}); delete the folder or use --overwrite.'
      ) from error
    return cast(dict[str, Any], state)

  def set_aside(self) -> str | None:
    """Renames what an unfinished attempt left so that a new one does not overwrite it.

    Returns the suffix given to the old files, or None where there was nothing.
    """
    left = [
      f for f in (self.metrics_csv, self.metrics_jsonl, self.state, self.error,
                  self.measurements_csv, self.eval_measurements_csv, self.telemetry,
                  self.phases, self.traces) if f.exists()
    ]  # fmt: skip
    if not left:
      return None
    attempt = self._next_attempt()
    for file in left:
      file.rename(file.with_name(f'{file.name}.attempt_{attempt}'))
    return f'attempt_{attempt}'

  def begin_anew(self) -> None:
    """Puts a failed trial's record aside, checkpoints too, so that it is run from the start."""
    aside = self.set_aside()
    checkpoints = self.path / 'checkpoints'
    if aside is not None and checkpoints.exists():
      checkpoints.rename(checkpoints.with_name(f'checkpoints.{aside}'))

  def keep_aside(self, lines: list[str]) -> None:
    """Keeps rows that were recorded after a checkpoint and will be recorded again."""
    if lines:
      attempt = self._next_attempt()
      write_whole(self.path / f'{self.metrics_jsonl.name}.attempt_{attempt}', ''.join(lines))

  def _next_attempt(self) -> int:
    attempt = 1
    while any(self.path.glob(f'*.attempt_{attempt}')):
      attempt += 1
    return attempt

  def clear(self) -> None:
    """Removes the trial's record; what somebody else put there stays, and the folder with it."""
    for path in list(self.path.iterdir()):
      if not _LEFT_BY_TRIAL.fullmatch(path.name):
        continue
      if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
      else:
        path.unlink()
    if not any(self.path.iterdir()):
      self.path.rmdir()


@dataclass(frozen=True)
class TraceFolder:
  """The paths of one process's trace.

  JAX's profiler names its own files: plugins/profile/<time>/<host>.xplane.pb, as TensorBoard has
  it.
  """

  path: Path

  @property
  def profile(self) -> Path:
    """What was traced, and on what."""
    return self.path / 'profile.json'

  def pytorch_trace(self, host: str, pid: int, unix_ns: int) -> Path:
    """A Chrome trace, named as TensorBoard's handler of PyTorch names it."""
    return self.path / f'{host}_{pid}.{unix_ns}.pt.trace.json.gz'

  def files(self) -> list[str]:
    """What the profiler wrote, relative to the folder."""
    found = [p for p in self.path.rglob('*') if p.is_file() and not p.name.startswith('.')]
    return sorted(p.relative_to(self.path).as_posix() for p in found if p != self.profile)

  def make_anew(self) -> None:
    """Makes the folder; one that is there already is put aside as *.attempt_<i>."""
    if self.path.exists():
      attempt = 1
      while (aside := self.path.with_name(f'{self.path.name}.attempt_{attempt}')).exists():
        attempt += 1
      self.path.rename(aside)
    self.path.mkdir(parents=True)

  def empty(self) -> None:
    """Removes all that is in it, as far as it can be removed."""
    for path in self.path.iterdir() if self.path.is_dir() else ():
      if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
      else:
        path.unlink(missing_ok=True)


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

  @property
  def exports(self) -> Path:
    """Where other programs find the run (--export); beside folders in which AlgoPerf's tools look.

    Those take every folder of a study for a workload.
    """
    return (
      self.root.with_name(f'{self.root.name}_exports') if self.algoperf else (self.root / 'exports')
    )

  def trial(self, index: int) -> TrialFolder:
    """The folder of a trial; `index` counts from 0."""
    name = f'{"trial" if self.algoperf else "run"}_{index + 1}'
    return TrialFolder(self.path / name, self.algoperf)

  def trials(self) -> dict[int, TrialFolder]:
    """The trials there are, by index from 0."""
    pattern = re.compile(r'(?:run|trial)_([1-9]\d*)')
    names = (pattern.fullmatch(p.name) for p in self.path.glob('*_*') if p.is_dir())
    indices = sorted(int(match[1]) - 1 for match in names if match)
    return {index: self.trial(index) for index in indices if self.trial(index).path.is_dir()}

  def locks(self) -> set[Path]:
    """The locks of trials that somebody runs, or ran until killed."""
    return set(self.path.glob('.*.lock'))

  def check_place(self) -> None:
    """Raises UsageError if the folder cannot be there or be written to; makes nothing."""
    try:
      nearest = next(part for part in (self.path, *self.path.parents) if part.exists())
    except OSError as error:
      raise self._no_place(error) from error
    if not nearest.is_dir():
      raise UsageError(f'{str(nearest)!r} is a file, not a folder; choose another --log_dir.')
    if not os.access(nearest, os.W_OK | os.X_OK):
      raise UsageError(f'{str(nearest)!r} cannot be written to; choose another --log_dir.')

  def make(self) -> None:
    """Makes the folder and proves that it can be written to. Raises UsageError."""
    try:
      self.path.mkdir(parents=True, exist_ok=True)
      with tempfile.TemporaryFile(dir=self.path) as probe:
        probe.write(b'x')
        probe.flush()
        os.fsync(probe.fileno())
    except OSError as error:
      raise self._no_place(error) from error

  def clear(self) -> None:
    """Removes this run's record, and nothing that is not part of one."""
    for trial in self.trials().values():
      trial.clear()
    for file in (self.metadata, self.packages):
      file.unlink(missing_ok=True)

  def _no_place(self, error: OSError) -> UsageError:
    return UsageError(
      f'{str(self.path)!r} cannot be written to ({error.strerror}); choose another --log_dir '
      'or mend its permissions or free space.'
    )

  def refuse_to_mix(self, indices: range) -> None:
    """Raises UsageError if a trial of `indices` is already there, telling what can be done."""
    here = [trial for index, trial in self.trials().items() if index in indices]
    states = {trial.path.name: trial.read_state() for trial in here}
    if self.metadata.exists() and not self.trials() and not any_is_alive(self.locks()):
      raise UsageError(
        f'{str(self.path)!r} already holds a run that did not begin its first trial; '
        '--resume goes on with it, --overwrite deletes it, or choose another --log_dir.'
      )
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
