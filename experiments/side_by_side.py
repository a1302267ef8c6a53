"""Runs commands side by side, each on a core of its own, and tells how far they are."""

import os
import queue
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def baselines() -> dict[str, dict[str, Path]]:
  """Each baseline's submission files by framework: baselines/<name>/<framework>/submission.py."""
  found: dict[str, dict[str, Path]] = {}
  for path in sorted((ROOT / 'baselines').glob('*/*/submission.py')):
    if path.parent.name in ('jax', 'pytorch'):
      found.setdefault(path.parents[1].name, {})[path.parent.name] = path
  return found


def run_all(commands: Sequence[tuple[str, list[str]]], slots: int | None = None) -> float:
  """Runs (name, arguments of Python) each; returns the seconds that all took.

  Args:
    slots: how many at a time, at most one for each core; None for all cores.

  Raises SystemExit with the last words of a command that failed.
  """
  cores = sorted(os.sched_getaffinity(0))[:slots]
  free: queue.SimpleQueue[int] = queue.SimpleQueue()
  for core in cores:
    free.put(core)
  begin = time.monotonic()
  with ThreadPoolExecutor(len(cores)) as pool:
    started = [pool.submit(_run, name, command, free) for name, command in commands]
    for done, future in enumerate(as_completed(started), start=1):
      if error := future.exception():
        pool.shutdown(cancel_futures=True)
        raise SystemExit(str(error))
      seconds = time.monotonic() - begin
      print(f'[{done}/{len(started)}] {seconds:5.0f} s  {future.result()}', flush=True)
  return time.monotonic() - begin


def _run(name: str, command: list[str], free: 'queue.SimpleQueue[int]') -> str:
  """A command on a free core; its name."""
  core = free.get()
  try:
    os.sched_setaffinity(0, {core})  # of this thread; its children inherit it
    done = subprocess.run(
      [sys.executable, *command], cwd=ROOT, env={**os.environ, 'OMP_NUM_THREADS': '1'},
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
  finally:
    free.put(core)
  if done.returncode:
    raise RuntimeError(f'{name} failed with exit code {done.returncode}:\n{done.stdout[-2000:]}')
  return name
