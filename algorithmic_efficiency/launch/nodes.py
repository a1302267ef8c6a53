"""This file finds out which of the nodes that train one trial together this one is.

SLURM tells by its own variables (sbatch(1), srun(1)); everybody else by four of ours, which the
manifests for Kubernetes fill in:

  ALGORITHMIC_EFFICIENCY_NODE, …_NODES, …_COORDINATOR (name or address of node 0), …_PORT

Below SLURM …_COORDINATOR alone is heeded too: a node's name there need not resolve.
"""

import re
import socket
import time
from collections.abc import Callable, Mapping

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch.command import ALONE, Place

PREFIX = 'ALGORITHMIC_EFFICIENCY_'
_NAMED_SEC = 300.0  # so long may a cluster take to make node 0's name known
_PORTS = range(20_000, 32_000)  # below what Linux gives to outgoing connections


def this_node(environ: Mapping[str, str], nodes: int) -> Place:
  """Where this node stands among `nodes`. Raises UsageError if that cannot be told."""
  if nodes == 1:
    return ALONE
  if f'{PREFIX}NODES' in environ:
    place = _from_ours(environ)
  elif 'SLURM_NODEID' in environ:
    place = _from_slurm(environ)
  else:
    raise UsageError(
      f'The plan has {nodes} nodes to a trial, and nothing tells which of them this is; start it '
      f'by SLURM or Kubernetes, or set {PREFIX}NODE, {PREFIX}NODES, {PREFIX}COORDINATOR and '
      f'{PREFIX}PORT.'
    )
  if place.nodes != nodes:
    raise UsageError(
      f'The plan has {nodes} nodes to a trial, and it was started on {place.nodes}; give it as '
      'many as it asks for.'
    )
  return place


def _from_ours(environ: Mapping[str, str]) -> Place:
  try:
    node, nodes, port = (int(environ[PREFIX + name]) for name in ('NODE', 'NODES', 'PORT'))
    return Place(node, nodes, environ[f'{PREFIX}COORDINATOR'], port)
  except (KeyError, ValueError) as error:
    raise UsageError(
      f'The variables {PREFIX}NODE, NODES, COORDINATOR and PORT do not fit together ({error}); '
      'set all four, three of them to numbers.'
    ) from error


def _from_slurm(environ: Mapping[str, str]) -> Place:
  """SLURM numbers the nodes of a step and lists them in that order."""
  names = environ.get('SLURM_STEP_NODELIST') or environ['SLURM_JOB_NODELIST']
  count = environ.get('SLURM_STEP_NUM_NODES') or environ['SLURM_JOB_NUM_NODES']
  # All nodes must choose the same port without asking each other: the job's number decides.
  # A restarted job takes another: its former one may not be free yet.
  number = int(environ['SLURM_JOB_ID']) * 7 + int(environ.get('SLURM_RESTART_COUNT') or 0)
  first = environ.get(f'{PREFIX}COORDINATOR') or first_host(names)
  return Place(int(environ['SLURM_NODEID']), int(count), first, _PORTS[number % len(_PORTS)])


def first_host(names: str) -> str:
  """The first of SLURM's host list.

  >>> first_host('gpu[03-07,11],login')
  'gpu03'
  """
  match = re.match(r'([^\[,]+)(?:\[(\w+)[^\]]*\]([^,\[]*))?', names)
  if match is None:
    raise UsageError(f'The list of nodes {names!r} names none; is SLURM_JOB_NODELIST right?')
  return match[1] + (match[2] or '') + (match[3] or '')


def wait_for_coordinator(place: Place, say: Callable[[str], None]) -> None:
  """Returns when node 0's name is known here: a cluster's DNS learns it only when it has begun.

  Raises UsageError if it does not become known.
  """
  if place.node == 0:
    return
  until, told = time.monotonic() + _NAMED_SEC, False
  while True:
    try:
      socket.getaddrinfo(place.coordinator, place.port)
      return
    except socket.gaierror as error:
      if time.monotonic() > until:
        raise UsageError(
          f'No host is called {place.coordinator!r}, where node 0 should be ({error.strerror}); '
          'is it running, and does the cluster name its pods?'
        ) from error
    if not told:
      say(f'waits for the name {place.coordinator}')
      told = True
    time.sleep(2.0)
