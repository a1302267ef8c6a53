"""This file runs a plan on a Ray cluster that is there already; it never starts one.

What Ray prints goes to LOG_DIR/jobs/ray.log, whichever way it takes: it warns of other people's
nodes too.
"""

import argparse
import importlib
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import progress, ray_engine
from algorithmic_efficiency.launch.dispatch import Dispatcher
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

_START = 'ray start --head on one machine and ray start --address=HOST:6379 on the others start one'
_PROBE_SEC = 5.0


def add_flags(group: argparse._ArgumentGroup) -> None:
  """Those of this engine."""
  group.add_argument(
    '--ray_address', type=_address, default='auto', metavar='HOST:PORT',
    help='of a cluster that is there, which this machine is a node of (default: RAY_ADDRESS, or '
    'that of this machine)',
  )  # fmt: skip
  group.add_argument(
    '--ray_timeout_sec', type=_seconds, default=600.0, metavar='SECONDS',
    help='so long to wait for room in the cluster (default: 600)',
  )  # fmt: skip


def run(
  given: argparse.Namespace, plan: Plan, folder: PlanFolder, say: Callable[[str], None]
) -> int:
  """Runs what is left of the plan. Raises UsageError, MeasurementError, KeyboardInterrupt."""
  if plan.resources.nodes > 1:
    raise UsageError(
      f'The plan has {plan.resources.nodes} nodes to a trial, which --engine=ray cannot give; '
      'use --engine=slurm or --engine=kubernetes.'
    )
  jobs = plan.jobs()
  left = [job for job in jobs if _is_left(plan, folder, job)]
  if given.dry_run:
    wanted = ray_engine.shown(ray_engine.need(plan.resources))
    for job in left:
      say(f'{job.name} [{wanted}]: {ray_engine.line(folder, job)}')
    return 0
  before = len(jobs) - len(left)
  ray = _imported()
  with _apart(folder.jobs / 'ray.log') as tell, _connected(ray, given.ray_address):
    engine = ray_engine.Ray(ray, plan, folder, given.ray_timeout_sec)
    engine.prepare()
    slots = [Slot(i) for i in range(given.slots or engine.room())]
    tell(f'{plan.name}: {len(jobs)} trials, {before} ended before, {len(slots)} at a time')
    shown = progress.Lines(folder, len(jobs), before, tell)
    dispatcher = Dispatcher(plan, folder, engine, slots, shown, left)
    return 0 if progress.run(dispatcher, shown, before, tell) else 1


def _is_left(plan: Plan, folder: PlanFolder, job: Job) -> bool:
  state = folder.finished(job)
  if state is None:
    return True
  return state['status'] == 'failed' and len(folder.attempts(job)) <= plan.retries


def _seconds(text: str) -> float:
  try:
    seconds = float(text)
  except ValueError:
    seconds = 0.0
  if not 0 < seconds < float('inf'):
    raise argparse.ArgumentTypeError(f'{text!r} is not a number of seconds above 0')
  return seconds


def _address(text: str) -> str:
  if text != 'auto' and not re.fullmatch(r'([^\s/:]+|\[[0-9a-fA-F:]+\]):\d{1,5}', text):
    raise argparse.ArgumentTypeError(
      f'{text!r} is no HOST:PORT; give that of ray start --head, such as head:6379, or auto'
    )
  return text


def _imported() -> Any:
  """Ray, which is told first to report nothing home and to leave CUDA_VISIBLE_DEVICES alone."""
  os.environ['RAY_USAGE_STATS_ENABLED'] = '0'
  os.environ['RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO'] = '0'
  os.environ['RAY_ENABLE_UV_RUN_RUNTIME_ENV'] = '0'  # it would send the project's folder along
  try:
    ray = importlib.import_module('ray')
    importlib.import_module('ray.util.scheduling_strategies')
    return ray
  except ImportError as error:
    raise UsageError(
      'Ray is not installed; pip install "algorithmic-efficiency[ray]", in the version that the '
      'cluster has, or use another --engine.'
    ) from error


@contextmanager
def _connected(ray: Any, address: str) -> Generator[None, None, None]:
  """Raises UsageError if no cluster answers there."""
  if address != 'auto':
    host, _, port = address.rpartition(':')
    try:  # Ray itself would try for a minute
      socket.create_connection((host.strip('[]'), int(port)), timeout=_PROBE_SEC).close()
    except (OSError, OverflowError) as error:
      why = getattr(error, 'strerror', None) or str(error)
      raise UsageError(f'No Ray cluster answers at {address} ({why}); {_START}.') from error
  on_sigterm = signal.getsignal(signal.SIGTERM)
  try:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    signal.signal(signal.SIGTERM, on_sigterm)  # Ray puts its own there
  except Exception as error:  # Ray raises what comes to hand
    raise UsageError(_not_connected(address, error)) from error
  try:
    yield
  finally:
    ray.shutdown()


def _not_connected(address: str, error: Exception) -> str:
  said = ' '.join(str(error).split())
  if isinstance(error, ConnectionError) and address == 'auto':
    where = os.environ.get('RAY_ADDRESS')
    there = f'at RAY_ADDRESS={where}' if where else 'on this machine'
    return f'No Ray cluster runs {there}; {_START}.'
  if re.search(r'[Vv]ersion mismatch', said):
    return f'The Ray cluster has another version: {said[:300]}; install the same here.'
  if 'matched Raylet' in said or "Can't find a node" in said or 'find the node' in said:
    return (
      f'This machine is no node of the Ray cluster at {address}; run the launcher on one of them, '
      'or ray start --address=… here first.'
    )
  return (
    f'The Ray cluster at {address} cannot be used ({said[:300]}); is it Ray that listens there?'
  )


@contextmanager
def _apart(path: Path) -> Generator[Callable[[str], None], None, None]:
  """Sends what Ray prints to a file; yields what prints a line for the user."""
  for stream in (sys.stdout, sys.stderr):
    stream.flush()
  try:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
  except OSError as error:
    raise UsageError(
      f'{str(path)!r} cannot be written to ({error.strerror}); choose another --log_dir.'
    ) from error
  kept = {number: os.dup(number) for number in (1, 2)}
  for number in kept:
    os.dup2(file, number)
  os.close(file)
  try:
    yield lambda text: _write(kept[1], text)
  finally:
    for stream in (sys.stdout, sys.stderr):
      stream.flush()
    for number, copy in kept.items():
      os.dup2(copy, number)
      os.close(copy)


def _write(descriptor: int, text: str) -> None:
  data = f'{text}\n'.encode()
  while data:
    data = data[os.write(descriptor, data) :]
