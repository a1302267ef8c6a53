"""This file is what runs on Ray's workers; it travels there whole, so it imports nothing of ours.

A worker may have another copy of the project, or none, and may not see the log folder: both are
found out before a run is started, and told in a sentence.
"""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

_LOOK_SEC = 0.2
_TASK = 'algorithmic_efficiency.launch.task'


def trouble(log_dir: str, plan_id: str, tree: str) -> str:
  """What keeps this machine from running jobs of a plan, in a sentence; '' if nothing does."""
  host = socket.gethostname()
  path = Path(log_dir) / 'plan.json'
  try:
    found = json.loads(path.read_text(encoding='utf-8'))['id']
  except (OSError, ValueError, KeyError, TypeError) as error:
    why = error.strerror if isinstance(error, OSError) else 'it is no plan'
    return (
      f'the node {host} does not see the plan at {str(path)!r} ({why}); every node must have '
      'the log folder at the same path'
    )
  if found != plan_id:
    return (
      f'the node {host} has another plan at {str(path)!r} ({found}, not {plan_id}); every node '
      'must have the same log folder at that path'
    )
  there = Path(tree) / 'algorithmic_efficiency' / 'launch' / 'task.py'
  if not there.exists() and importlib.util.find_spec('algorithmic_efficiency') is None:
    return (
      f'the node {host} has no copy of the project, neither at {tree!r} nor installed for '
      f'{sys.executable}; pip install it there'
    )
  return ''


def run(log_dir: str, plan_id: str, tree: str, index: int, log: str) -> dict[str, Any]:
  """Runs a job to its end in a process of its own: its 'code', and 'trouble' if it was not begun.

  KeyboardInterrupt, which is how Ray cancels a task, is handed to the run as SIGTERM.
  """
  import ray

  # Ray cancels by it, and a cluster that was started in the background has it ignored.
  if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
  node = ray.get_runtime_context().get_node_id()
  facts: dict[str, Any] = {'host': socket.gethostname(), 'ray_node': node, 'code': 1}
  facts['trouble'] = trouble(log_dir, plan_id, tree)
  if facts['trouble']:
    return facts
  words = [sys.executable, '-m', _TASK, f'--log_dir={log_dir}', f'--index={index}']
  cwd = tree if Path(tree).is_dir() else None
  process = None
  try:
    with Path(log).open('ab') as output:
      process = subprocess.Popen(
        [*words, '--engine=ray', '--launched'], cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
      )  # fmt: skip
    while process.poll() is None:
      time.sleep(_LOOK_SEC)  # not wait(): an interrupt reaches Python code only
  except OSError as error:
    facts['trouble'] = f'the job cannot be started on {facts["host"]} ({error})'
  except KeyboardInterrupt:
    facts['code'] = 143
  finally:  # what ends this function otherwise ends the run too: SystemExit, for example
    if process is not None:
      facts['code'] = _ended(process)
  return facts


def _ended(process: subprocess.Popen[bytes]) -> int:
  """The exit code of a process, which is asked to end if it has not; its group is gone then."""
  if process.poll() is None:
    process.terminate()
  while process.poll() is None:
    time.sleep(_LOOK_SEC)
  with contextlib.suppress(ProcessLookupError):  # nobody of its group is left
    os.killpg(process.pid, signal.SIGKILL)
  return int(process.returncode)
