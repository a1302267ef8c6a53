"""This file runs the process of one job: its output, its signals, and who had its trial before."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from algorithmic_efficiency.launch import command
from algorithmic_efficiency.launch.command import Place
from algorithmic_efficiency.launch.endings import Exit
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_ALIVE_SEC = 60.0  # the runner holds a trial for its owner's for so long after a sign of life
_SAVING_SEC = 30.0  # so long may an owner that was told to stop take to save itself
_TOUCHED_SEC = 5.0  # owners touch their locks every second
_LOOK_SEC = 0.5


def run(
  plan: Plan, job: Job, folder: PlanFolder, place: Place, launched: bool
) -> tuple[Exit, bool]:
  """Runs a job's command with its output in the job's log; signals that come are handed on.

  Returns how it ended, and whether there was such a signal.
  """
  name = folder.log(job) if place.node == 0 else folder.log(job).with_suffix(f'.{place.node}.log')
  came: list[int] = []
  process: subprocess.Popen[bytes] | None = None

  def hand_on(number: int, _: Any) -> None:
    came.append(number)
    if process is not None:
      process.terminate()

  before = {number: signal.signal(number, hand_on) for number in _SIGNALS}
  parent = os.getppid()
  try:
    with name.open('ab') as log:
      process = subprocess.Popen(
        command.words(plan, job, folder, place=place), cwd=command.ROOT,
        env={**os.environ, **command.variables(job, place)}, stdin=subprocess.DEVNULL,
        stdout=log, stderr=subprocess.STDOUT,
        start_new_session=not launched,  # a launcher's worker ends the group of this process
      )  # fmt: skip
      if came:  # before there was anybody to hand it to
        process.terminate()
      if launched:
        _end_with_parent(process, parent)
      return Exit(process.wait()), bool(came)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)


def _end_with_parent(process: subprocess.Popen[bytes], parent: int) -> None:
  """Returns when a process has ended; asks it to when this one's parent is gone, then makes it."""
  lost_at = None
  while process.poll() is None:
    if lost_at is None and os.getppid() != parent:
      lost_at = time.monotonic()
      process.terminate()
    if lost_at is not None and time.monotonic() - lost_at > _SAVING_SEC:
      process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(_LOOK_SEC)


def wait_for_the_dead(lock: Path, name: str, say: Callable[[str], None]) -> None:
  """Waits until a trial's former owner is gone or taken for dead.

  On another machine flock does not reach for sure, so the runner holds a lock that was touched in
  the last minute for one that is held. An owner that goes on touching it may be saving itself just
  now; if it still does after half a minute it is alive, and the runner will say so.
  """
  until = time.monotonic() + _SAVING_SEC
  told, first = False, None
  while True:
    try:
      touched, text = lock.stat().st_mtime, lock.read_text()
      owner = json.loads(text or '{}')
    except (FileNotFoundError, ValueError):
      return
    here, age = owner.get('host') == socket.gethostname(), time.time() - touched
    if age > (_TOUCHED_SEC if here else _ALIVE_SEC) or (here and not _is_alive(owner.get('pid'))):
      return
    first = touched if first is None else first
    if touched > first and time.monotonic() > until:
      return
    if not told:
      say(f'{name}: was run on {owner.get("host")} a moment ago; waits until that is over')
      told = True
    time.sleep(_LOOK_SEC if here else _TOUCHED_SEC)


def _is_alive(pid: Any) -> bool:
  return isinstance(pid, int) and Path(f'/proc/{pid}').exists()
