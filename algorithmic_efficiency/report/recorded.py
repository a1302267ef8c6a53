"""This file reads what the trials of a folder recorded besides their results.

Nothing of it is needed for a score: where it is missing, as in AlgoPerf's logs, the page says so.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.records.trial_lock import any_is_alive

_TAIL_BYTES = 1 << 16
_NOT_ENTERED = ('checkpoints', 'traces')
_ACCOUNTS = {  # of AlgoPerf's columns
  'accumulated_submission_time': 'submission',
  'accumulated_eval_time': 'evaluation',
  'accumulated_logging_time': 'recording',
}


@dataclass(frozen=True)
class Trial:
  """What one trial recorded of itself.

  Attributes:
    path: below the folder of logs, as it is told.
    folder: where it is.
    status, reason: how it ended; 'killed' where it never told and nobody runs it any more.
    seconds: by account of the clock, the submission's split into what the host did.
    error: the end of its traceback.
    problem: what of its record could not be read.
  """

  path: str
  folder: TrialFolder
  status: str = ''
  reason: str = ''
  seconds: dict[str, float] = field(default_factory=dict[str, float])
  error: str = ''
  problem: str = ''

  @property
  def has_failed(self) -> bool:
    """Whether something went wrong."""
    return self.status in ('failed', 'interrupted', 'killed') or bool(self.problem)


@dataclass(frozen=True)
class Study:
  """How the trials of one folder were run.

  Attributes:
    path: below the folder of logs.
    metadata: metadata.json, or AlgoPerf's flags and meta data; empty where there is none.
    packages: versions of the packages that matter, by name.
    problem: what could not be read.
  """

  path: str
  metadata: dict[str, Any]
  packages: dict[str, str] = field(default_factory=dict[str, str])
  problem: str = ''


def find(root: Path) -> Iterator[Path]:
  """The folders of trials below `root`, in the order of their names; links are followed once."""
  seen = set[tuple[int, int]]()
  for folder, names, files in os.walk(root, followlinks=True, onerror=_refuse):
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in seen:
      names.clear()
      continue
    seen.add((status.st_dev, status.st_ino))
    names[:] = sorted(
      (n for n in names if n not in _NOT_ENTERED and not n.startswith(('checkpoint_', '.'))),
      key=_natural,
    )
    if {'trial.json', 'metrics.jsonl', 'eval_measurements.csv'} & set(files):
      yield Path(folder)


def _refuse(error: OSError) -> None:
  raise UsageError(
    f'{error.filename!r} cannot be read ({error.strerror}); mend its permissions or leave it out.'
  )


def _natural(name: str) -> list[tuple[int, str]]:
  return [(int(p), '') if p.isdigit() else (0, p) for p in name.replace('-', '_').split('_')]


def trials(root: Path, tell: Callable[[int], None] = lambda done: None) -> list[Trial]:
  """All trials below `root`; `tell` is called with the number read so far."""
  found = list[Trial]()
  for folder in find(root):
    found.append(_trial(folder, root))
    tell(len(found))
  return found


def _trial(path: Path, root: Path) -> Trial:
  folder = TrialFolder(path, algoperf=path.name.startswith('trial_'))
  name = str(path.relative_to(root)) if path != root else path.name
  try:
    state = _object(folder.state)
    last = _last_row(folder)
    error = _tail_text(folder.error)
  except (OSError, ValueError) as fault:
    return Trial(name, folder, problem=f'its record cannot be read: {fault}')
  status, reason = str(state.get('status', '')), str(state.get('reason', ''))
  if status == 'running' and not any_is_alive([folder.lock]):
    status = 'killed'
    reason = 'it never told its end, and nobody runs it any more; --resume goes on with it'
  return Trial(name, folder, status, reason, _seconds(state, last), error)


def _seconds(state: dict[str, Any], last: dict[str, Any]) -> dict[str, float]:
  """Seconds by account: those of the trial's end, or of its last row."""
  accounts = state.get('seconds')
  spent: dict[str, float] = {}
  if isinstance(accounts, dict) and accounts:
    spent = {str(k): float(v) for k, v in cast('dict[str, Any]', accounts).items()}
  elif 'accumulated_submission_time' in last:
    spent = {name: float(last[column]) for column, name in _ACCOUNTS.items() if column in last}
    rest = float(last.get('total_duration', 0.0)) - sum(spent.values())
    if rest > 0:
      spent['other'] = rest
  return _split_submission(spent, last)


def _split_submission(spent: dict[str, float], last: dict[str, Any]) -> dict[str, float]:
  """The submission's account as the host's phases, and what is left: waiting for the device."""
  parts = {
    name: float(last[f'phase.{name}_sec'])
    for name in ('data', 'step', 'prepare_for_eval')
    if f'phase.{name}_sec' in last
  }
  if 'submission' not in spent or not parts:
    return spent
  rest = max(spent['submission'] - sum(parts.values()), 0.0)
  split: dict[str, float] = {}
  for name, seconds in spent.items():
    if name == 'submission':
      split |= {**parts, 'submission_rest': rest}
    else:
      split[name] = seconds
  return split


def _object(path: Path) -> dict[str, Any]:
  """A JSON object; {} where there is no file."""
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return {}
  if not isinstance(value, dict):
    raise ValueError(f'{path.name} holds no object')
  return cast('dict[str, Any]', value)


def _last_row(folder: TrialFolder) -> dict[str, Any]:
  """The last whole row of the trial's table; {} where it has none."""
  lines = _tail(folder.metrics_jsonl).splitlines(keepends=True)
  whole = [line for line in lines[-2:] if line.endswith(b'\n')]
  if whole:
    return cast('dict[str, Any]', json.loads(whole[-1]))
  try:
    with folder.eval_measurements_csv.open(encoding='utf-8', newline='') as file:
      header = next(csv.reader(file), [])
  except FileNotFoundError:
    return {}
  rows = list(csv.reader(_tail(folder.eval_measurements_csv).decode(errors='replace').splitlines()))
  if len(rows) < 2 or len(rows[-1]) != len(header):
    return {}
  wanted = (*_ACCOUNTS, 'total_duration')
  return {n: float(v) for n, v in zip(header, rows[-1], strict=True) if n in wanted and v}


def _tail(path: Path, size: int = _TAIL_BYTES) -> bytes:
  try:
    with path.open('rb') as file:
      file.seek(max(0, file.seek(0, 2) - size))
      return file.read()
  except FileNotFoundError:
    return b''


def _tail_text(path: Path) -> str:
  text = _tail(path, 6_000).decode(errors='replace')
  return text if len(text) < 6_000 else f'…{text[-5_900:]}'


def studies(found: list[Trial], root: Path) -> list[Study]:
  """The folders that hold the trials, each with how it was run."""
  folders = dict.fromkeys(trial.folder.path.parent for trial in found)
  return [_study(folder, root) for folder in folders]


def _study(folder: Path, root: Path) -> Study:
  inside = folder == root or root in folder.parents
  path = str(folder.relative_to(root)) if inside and folder != root else folder.name
  try:
    metadata = _object(folder / 'metadata.json') or _of_algoperf(folder)
    return Study(path, metadata, _packages(folder / 'packages.txt'))
  except (OSError, ValueError) as fault:
    return Study(path, {}, problem=f'its metadata cannot be read: {fault}')


def _of_algoperf(folder: Path) -> dict[str, Any]:
  """Flags and meta data of the first trial that has them."""
  for flags in sorted(folder.glob('trial_*/flags_0.json'))[:1]:
    given = {f'--{name}': value for name, value in _object(flags).items() if value is not None}
    return _object(flags.with_name('meta_data_0.json')) | given
  return {}


_SHOWN_PACKAGES = (
  'numpy', 'jax', 'jaxlib', 'flax', 'optax', 'torch', 'scipy', 'jax-cuda13-plugin', 'triton',
)  # fmt: skip


def _packages(path: Path) -> dict[str, str]:
  """The versions of those that matter most; all are in the file."""
  try:
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
  except FileNotFoundError:
    return {}
  versions = dict(line.split('==', 1) for line in lines if line.count('==') == 1)
  return {name: versions[name] for name in _SHOWN_PACKAGES if name in versions}
