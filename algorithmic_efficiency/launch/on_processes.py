"""This file runs jobs as plain processes of this machine, in the environment of the launcher."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping
from typing import IO, Any

import psutil

from algorithmic_efficiency.launch import command
from algorithmic_efficiency.launch.endings import Exit
from algorithmic_efficiency.launch.engine import CannotStart
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

_GRACE_SEC = 20.0
_VISIBLE = {'cuda': 'CUDA_VISIBLE_DEVICES', 'hpu': 'HABANA_VISIBLE_MODULES'}


class Processes:
  """The engine; each job is a process group, so that all of it can be ended."""

  name = 'processes'

  def __init__(self, plan: Plan, folder: PlanFolder) -> None:
    self._plan, self._folder = plan, folder

  def prepare(self) -> None:
    """Ends what a killed launcher of this plan left running; its trials are saved, and go on."""
    left = [found for job in self._plan.jobs() if (found := self._left_by(job)) is not None]
    for process in left:
      process.terminate()
    _, deaf = psutil.wait_procs(left, timeout=_GRACE_SEC)
    for process in deaf:
      process.kill()
    psutil.wait_procs(deaf, timeout=_GRACE_SEC)

  def _left_by(self, job: Job) -> psutil.Process | None:
    """The process of a job's last attempt, if it still runs here without a launcher."""
    last = (self._folder.attempts(job) or [{}])[-1]
    if 'ended' in last or 'pid' not in last or last.get('host') != socket.gethostname():
      return None
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
      process = psutil.Process(last['pid'])
      # Its number may be another's by now.
      if f'--log_dir={self._folder.run_root(job)}' in process.cmdline():
        return process
    return None

  def command(self, job: Job, slot: Slot, attempt: int) -> str:
    """As it could be typed in the project's tree."""
    del attempt
    added = [f'{name}={value}' for name, value in self._added(slot).items()]
    return shlex.join([*added, *self._words(job, slot)])

  def start(self, job: Job, slot: Slot, attempt: int) -> 'Process':
    """Starts it with its output appended to the job's log."""
    del attempt
    log = self._folder.log(job).open('ab')
    try:
      process = subprocess.Popen(
        self._words(job, slot), cwd=command.ROOT, env={**os.environ, **self._added(slot)},
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
    except OSError as error:
      log.close()
      raise CannotStart(f'the command cannot be started ({error})') from error
    return Process(process, log)

  def _words(self, job: Job, slot: Slot) -> list[str]:
    bound = ['taskset', '--cpu-list', ','.join(map(str, slot.cores))] if slot.cores else []
    return [*bound, *command.words(self._plan, job, self._folder)]

  def _added(self, slot: Slot) -> Mapping[str, str]:
    if not slot.devices:
      return {}
    return {_VISIBLE[self._plan.resources.accelerator]: ','.join(slot.devices)}


class Process:
  """One of them."""

  def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    self._process, self._log = process, log
    self.facts: dict[str, Any] = {'host': socket.gethostname(), 'pid': process.pid}

  def poll(self) -> Exit | None:
    """How it ended, or None."""
    code = self._process.poll()
    return None if code is None else Exit(code)

  def ask_to_stop(self) -> None:
    """SIGTERM to the command alone; it ends what it started."""
    if self._process.poll() is None:
      self._process.terminate()

  def kill(self) -> None:
    """SIGKILL to the whole group."""
    self._signal_group(signal.SIGKILL)

  def release(self) -> None:
    """Ends what the command left behind in its group, and closes the log."""
    self._process.wait()
    self._signal_group(signal.SIGKILL)
    self._log.close()

  def abandon(self) -> None:
    """Processes have no engine to lose."""
    self.release()

  def _signal_group(self, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # nobody of it is left
      os.killpg(self._process.pid, number)
