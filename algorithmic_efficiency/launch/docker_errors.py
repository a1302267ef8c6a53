"""This file connects to a Docker engine and says in a sentence what its errors mean."""

import os
import re
from typing import Any

from algorithmic_efficiency.errors import UsageError

_DEFAULT = 'unix:///var/run/docker.sock'

# (what the engine says, what it means and what to do), the first that is found counts.
_MEANINGS = (
  (
    r'could not select device driver .*gpu',
    'the engine has no NVIDIA runtime, so it cannot give GPUs; install the NVIDIA Container '
    'Toolkit and start the engine again, or train on the CPU with --accelerator=cpu',
  ),
  (
    r'(?:Unknown runtime specified|unknown or invalid runtime name:?) (\S+)',
    r'the engine has no runtime {1}; install the container runtime of its vendor and start the '
    'engine again, or train on the CPU with --accelerator=cpu',
  ),
  (
    r'(?:device error: |unresolvable CDI devices )(\S+)',
    r'the engine knows no device {1}; nvidia-smi -L lists those there are, --devices chooses them',
  ),
  (
    r'nvidia-container-cli: (.*?)(?:: unknown|$)',
    r'the NVIDIA runtime says {1!r}; nvidia-smi on this machine tells whether its driver works',
  ),
  (
    r'container name "?/?([^" ]+)"? is already in use',
    r'a container named {1} is there that is not of this plan; remove or rename it',
  ),
  (
    r'(?:port is already allocated|address already in use)',
    'a port that the container wants is in use; end what uses it or choose another',
  ),
  (r'network (\S+) not found', r'the engine has no network {1}; docker network ls lists them'),
  (
    r'bind source path does not exist: (\S+)',
    r'{1} is not there for the engine; it must be on the machine that the engine runs on',
  ),
  (
    r'no space left on device',
    'the disk of the engine is full; docker system df shows what can be removed',
  ),
  (
    r'[Mm]inimum memory limit allowed is (\S+)',
    r'the engine allows no memory limit below {1}; give more with --memory',
  ),
  (
    r'[Rr]ange of CPUs is from (\S+) to (\S+),',
    r'the engine has CPUs for --cpus from {1} to {2}; choose within',
  ),
)


def connect(address: str | None = None) -> Any:
  """A client of the engine at an address, or where DOCKER_HOST says. Raises UsageError."""
  try:
    from docker.client import DockerClient
    from docker.errors import DockerException
  except ImportError as error:
    raise UsageError(
      'The docker package is not installed; pip install "algorithmic-efficiency[launch]", or use '
      'another --engine.'
    ) from error
  where = address or os.environ.get('DOCKER_HOST') or _DEFAULT
  try:
    client = DockerClient(base_url=address) if address else DockerClient.from_env()
    client.ping()
  except DockerException as error:
    raise UsageError(_not_reached(where, error)) from error
  return client


def _not_reached(where: str, error: Exception) -> str:
  causes = ' '.join(f'{type(e).__name__} {e}' for e in _chain(error))
  if 'PermissionError' in causes:
    return (
      f'You may not use the Docker engine at {where}; ask to be put into the group that owns its '
      'socket (usermod --append --groups docker USER, then log in again), or use another --engine.'
    )
  if 'FileNotFoundError' in causes:
    why = 'there is no such socket'
  elif 'ConnectionRefusedError' in causes:
    why = 'nobody listens there'
  else:
    why = _first_line(error)
  return (
    f'No Docker engine answers at {where} ({why}); start it, set DOCKER_HOST, or use another '
    '--engine.'
  )


def _chain(error: BaseException) -> list[BaseException]:
  found = [error]
  while (under := found[-1].__cause__ or found[-1].__context__) is not None and under not in found:
    found.append(under)
  return found


def explain(error: BaseException) -> str:
  """What an error of the engine means, in a sentence without a full stop."""
  if is_lost(error):
    return 'it does not answer any more'
  said = str(getattr(error, 'explanation', None) or error)
  for pattern, meaning in _MEANINGS:
    match = re.search(pattern, said)
    if match:
      return meaning.format('', *(group.strip('"\'.,:') for group in match.groups()))
  return f'the engine says {_first_line(said)!r}'


def _first_line(said: Any) -> str:
  return ' '.join(str(said).split())[:300]


def is_lost(error: BaseException) -> bool:
  """Whether an error means that the engine does not answer any more."""
  from docker.errors import APIError
  from requests.exceptions import RequestException

  # The SDK turns an answer into an APIError; what is left of requests' errors got no answer.
  return isinstance(error, RequestException) and not isinstance(error, APIError)
