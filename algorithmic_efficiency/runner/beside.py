"""This file runs a module of this package in a process of its own, beside the run's start-up."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import algorithmic_efficiency
from algorithmic_efficiency.errors import MeasurementError


def start(module: str, *arguments: str) -> Callable[[], str]:
  """Starts `python -m module arguments`; the returned function waits and gives what it printed.

  Calling it raises MeasurementError with the process's last words if it failed.
  """
  process = subprocess.Popen(
    [sys.executable, '-m', module, *arguments],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    start_new_session=True,  # a Ctrl-C is for the run, which needs this process no more
    cwd=Path(algorithmic_efficiency.__file__).parents[1],  # importable where it is not installed
  )

  def wait() -> str:
    try:
      out, err = process.communicate()
    finally:
      if process.poll() is None:
        process.kill()
        process.wait()
    if process.returncode:
      last = err.strip().splitlines()[-1] if err.strip() else f'exit code {process.returncode}'
      raise MeasurementError(f'{module} failed: {last.rstrip(".")}.')
    return out

  return wait
