"""This file keeps where the output goes from deciding how a run ends."""

import contextlib
import logging
import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn, cast


def prepare() -> None:
  """A closed stream, a pipe without a reader or a letter that cannot be shown ends no run."""
  for name in ('stdout', 'stderr'):
    if getattr(sys, name) is None:  # started with >&-
      setattr(sys, name, Path(os.devnull).open('w', encoding='utf-8'))  # noqa: SIM115 - till the end
    cast(TextIOWrapper, getattr(sys, name)).reconfigure(errors='backslashreplace')
  logging.raiseExceptions = False  # a line of the log that cannot be shown is no traceback


def show(text: str) -> None:
  """Writes a text to stdout."""
  with contextlib.suppress(OSError):
    sys.stdout.write(text)


def complain(line: str) -> None:
  """Writes a line to stderr, after what stdout still holds; signal handlers may call it too."""
  with contextlib.suppress(OSError, RuntimeError):  # a signal in the middle of another write
    sys.stdout.flush()
  with contextlib.suppress(OSError):
    os.write(2, f'{line}\n'.encode(errors='backslashreplace'))


def leave(code: int) -> NoReturn:
  """Exits with this code, even if nobody reads stdout any more."""
  try:
    sys.stdout.flush()
  except OSError:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(code)


def leave_at_once(code: int) -> NoReturn:
  """Exits without waiting: JAX's threads that still compile would crash in Python's clean-up."""
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, RuntimeError):
      stream.flush()
  os._exit(code)
