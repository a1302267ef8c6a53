"""This file writes trials as runs of Weights & Biases, into its local files unless told otherwise.

A run goes to a server only where a key is configured and the server answers: nothing here asks a
question or waits for a network that is not there. Offline runs are uploaded by `wandb sync`.
"""

import contextlib
import netrc
import os
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import wandb

from algorithmic_efficiency.exports.trials import TELEMETRY, Point, Status, Trial

_SERVER = 'https://api.wandb.ai'
_CONNECT_SEC = 5.0
_INIT_SEC = 30.0
_FAILED = {'failed', 'interrupted', 'killed'}


class Sink:
  """A folder of offline runs, or a project on a server."""

  def __init__(self, folder: Path, project: str, say: Callable[[str], None]) -> None:
    os.environ.setdefault('WANDB_ERROR_REPORTING', 'false')  # no crash report leaves the machine
    self._folder = folder
    self._project = os.environ.get('WANDB_PROJECT') or project
    self._online, reason = _is_online()
    self.place = f'{_server()} (project {self._project})' if self._online else str(folder / 'wandb')
    if not self._online:
      say(f'wandb: offline ({reason}); upload with: wandb sync {folder}/wandb/offline-run-*')

  def open(self, trial: Trial, points: Sequence[Point]) -> 'WandbExport':
    """Offline begins the trial's run anew; online goes on with the one that the server has."""
    self._folder.mkdir(parents=True, exist_ok=True)
    if not self._online:
      for old in (self._folder / 'wandb').glob(f'offline-run-*-{trial.key}'):
        shutil.rmtree(old)
    settings = wandb.Settings(
      silent=True, console='off', disable_git=True, disable_code=True, init_timeout=_INIT_SEC,
      x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
    )  # fmt: skip
    run = wandb.init(
      project=self._project,
      dir=self._folder,
      id=trial.key,
      name=trial.name,
      group=trial.group or None,
      config={'hparams': trial.hparams, 'metadata': trial.metadata},
      mode='online' if self._online else 'offline',
      resume='allow' if self._online else None,
      reinit='create_new',  # others of this process may be open
      settings=settings,
    )
    return WandbExport(run, points[0].time if points else None)


class WandbExport:
  """One run, whose own step is the milliseconds since the trial's first point."""

  def __init__(self, run: Any, start: float | None) -> None:
    self._run = run
    self._start = start
    self._there: int = run.step  # the steps below are on the server already
    self._last = -1
    self._known: set[str] = set()

  def log(self, points: Sequence[Point]) -> None:
    """A row of the history a point."""
    for point in points:
      if self._start is None:
        self._start = point.time
      # A clock that was set back must not cost a row: W&B drops what comes below the last step.
      step = max(round((point.time - self._start) * 1000), self._last + 1)
      self._last = step
      if step < self._there:
        continue
      for name in point.values.keys() - self._known:
        self._define(name)
      self._run.log({**point.values, '_timestamp': point.time}, step=step)

  def close(self, status: Status) -> None:
    """Writes how the trial ended."""
    told = {'status': status.word, 'reason': status.reason, 'goal_reached': status.goal_reached}
    self._run.summary.update({f'trial/{n}': v for n, v in told.items() if v is not None})
    self._run.finish(exit_code=int(status.word in _FAILED))

  def _define(self, name: str) -> None:
    self._known.add(name)
    axis = f'{TELEMETRY}seconds' if name.startswith(TELEMETRY) else 'global_step'
    self._run.define_metric(name, step_metric=None if name == axis else axis)


def _is_online() -> tuple[bool, str]:
  """Whether runs go to a server, and if not, why."""
  mode = os.environ.get('WANDB_MODE', 'online')
  if mode != 'online':
    return False, f'WANDB_MODE={mode}'
  address = urllib.parse.urlsplit(_server())
  if not _has_key(address.hostname or ''):
    return False, 'no key is configured'
  if not urllib.request.getproxies():  # a proxy is asked by the program itself
    port = address.port or (80 if address.scheme == 'http' else 443)
    try:
      socket.create_connection((address.hostname or '', port), _CONNECT_SEC).close()
    except OSError as error:
      return False, f'{_server()} does not answer: {error.strerror or error}'
  return True, ''


def _server() -> str:
  return os.environ.get('WANDB_BASE_URL') or _SERVER


def _has_key(host: str) -> bool:
  """Whether `wandb login` or the environment left one, looked for where wandb does."""
  if os.environ.get('WANDB_API_KEY') or os.environ.get('WANDB_IDENTITY_TOKEN_FILE'):
    return True
  given = os.environ.get('NETRC')
  home = Path('~').expanduser()
  for path in [Path(given)] if given else [home / '.netrc', home / '_netrc']:
    with contextlib.suppress(OSError, netrc.NetrcParseError):
      if netrc.netrc(path).authenticators(host):
        return True
  return False
