"""Runs a script of the project as a command does, in the test's own process: in milliseconds."""

import contextlib
import importlib.util
import io
import sys
from pathlib import Path
from subprocess import CompletedProcess


def run(script: Path, *arguments: object) -> CompletedProcess[str]:
  """What the script printed, and its exit code."""
  spec = importlib.util.spec_from_file_location(f'script_{script.stem}', script)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  command = [str(script), *map(str, arguments)]
  out, errors = io.StringIO(), io.StringIO()
  before, path = sys.argv, list(sys.path)
  sys.argv = command
  try:
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
      try:
        spec.loader.exec_module(module)
        code = module.main()
      except SystemExit as error:  # argparse's
        code = error.code
  finally:
    sys.argv, sys.path[:] = before, path
  assert isinstance(code, int)
  return CompletedProcess(command, code, out.getvalue(), errors.getvalue())
