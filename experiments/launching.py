"""Starts a Python script as one process, or as several that train together."""

import os
import socket
import subprocess
import sys


def run(arguments: list[str], framework: str, processes: int = 1, **environment: str) -> str:
  """What the first process printed on stdout. CalledProcessError if one of them fails.

  Args:
    arguments: a script and its arguments.
    framework: decides how several processes find each other.
    processes: how many; each uses one thread if there are several.
    environment: more variables of theirs.
  """
  printed = [_finish(p) for p in start(arguments, framework, processes, **environment)]
  return printed[0]


def start(
  arguments: list[str], framework: str, processes: int = 1, **environment: str
) -> list[subprocess.Popen[str]]:
  """The processes that `run` waits for; for PyTorch the one that starts all others."""
  variables = {**os.environ, **environment}
  if processes == 1:
    return [_start([sys.executable, *arguments], variables)]
  variables['OMP_NUM_THREADS'] = '1'
  if framework == 'pytorch':
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    return [_start([sys.executable, *torchrun, *arguments], variables)]
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    variables['JAX_COORDINATOR_ADDRESS'] = f'127.0.0.1:{free.getsockname()[1]}'
  variables['JAX_NUM_PROCESSES'] = str(processes)
  return [
    _start([sys.executable, *arguments], {**variables, 'JAX_PROCESS_ID': str(index)})
    for index in range(processes)
  ]


def _start(command: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
  return subprocess.Popen(
    command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


def _finish(process: subprocess.Popen[str]) -> str:
  out, errors = process.communicate()
  if process.returncode:
    sys.stderr.write(errors)
    raise subprocess.CalledProcessError(process.returncode, process.args, out, errors)
  return out
