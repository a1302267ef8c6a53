"""This file says what one container is given, in the engine's terms and as a `docker run` line."""

import os
import shlex
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import command
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

LABEL = 'algorithmic_efficiency'  # every label of ours begins with it
IMAGE_VARIABLE = 'ALGORITHMIC_EFFICIENCY_IMAGE'  # the record's container.image
SOURCE = '/opt/algorithmic_efficiency'  # where an image holds the project

# Folders that a mount would hide from the container's own programs.
_SYSTEM = tuple(Path(path) for path in (
  '/', '/bin', '/dev', '/etc', '/lib', '/lib64', '/opt', '/proc', '/run', '/sbin', '/sys', '/tmp',
  '/usr', '/var', SOURCE,
))  # fmt: skip


@dataclass(frozen=True)
class Container:
  """What one is made of.

  Attributes:
    name: no other container of the engine has it.
    image: name and tag.
    words: the command, after the image's entrypoint.
    labels: tell it from containers that are not ours.
    user: 'uid:gid' that its files will belong to.
    mounts: (path, writable), the same path inside and outside.
    environment: variables.
    limits: cpus, memory_bytes, shm_bytes, cores; absent ones are not limited.
    gpus: NVIDIA GPUs by UUID or index.
    runtime: an engine's runtime by name, or ''.
    network: an engine's network by name, or '' for its default.
  """

  name: str
  image: str
  words: tuple[str, ...]
  labels: Mapping[str, str]
  user: str
  mounts: tuple[tuple[str, bool], ...]
  environment: Mapping[str, str]
  limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
  gpus: tuple[str, ...] = ()
  runtime: str = ''
  network: str = ''

  def line(self) -> str:
    """As a person would type it."""
    words = ['docker', 'run', '--detach', f'--name={self.name}', f'--hostname={_host()}']
    words += [f'--user={self.user}']
    words += [f'--label={name}={value}' for name, value in self.labels.items()]
    words += [
      f'--mount=type=bind,source={path},target={path}{"" if writable else ",readonly"}'
      for path, writable in self.mounts
    ]
    words += [f'--env={name}={value}' for name, value in self.environment.items()]
    limits = self.limits
    if 'cpus' in limits:
      words += [f'--cpus={limits["cpus"]:g}']
    if 'cores' in limits:
      words += [f'--cpuset-cpus={limits["cores"]}']
    if 'memory_bytes' in limits:
      words += [f'--memory={limits["memory_bytes"]}', f'--memory-swap={limits["memory_bytes"]}']
    if 'shm_bytes' in limits:
      words += [f'--shm-size={limits["shm_bytes"]}']
    if self.gpus:
      words += [f'--gpus="device={",".join(self.gpus)}"']
    if self.runtime:
      words += [f'--runtime={self.runtime}']
    if self.network:
      words += [f'--network={self.network}']
    return shlex.join([*words, self.image, *self.words])

  def arguments(self) -> dict[str, Any]:
    """The same for `docker.DockerClient.containers.create`."""
    from docker.types import DeviceRequest, Mount

    limits = self.limits
    memory = limits.get('memory_bytes')
    given = {
      'nano_cpus': round(limits['cpus'] * 1e9) if 'cpus' in limits else None,
      'cpuset_cpus': limits.get('cores'),
      'mem_limit': memory,
      'memswap_limit': memory,  # no swap beyond it: a trial that swaps measures the disk
      'shm_size': limits.get('shm_bytes'),
      'runtime': self.runtime or None,
      'network': self.network or None,
      'device_requests': [DeviceRequest(device_ids=list(self.gpus), capabilities=[['gpu']])]
      if self.gpus
      else None,
    }
    return {
      'image': self.image,
      'command': list(self.words),
      'name': self.name,
      'hostname': _host(),
      'user': self.user,
      'labels': dict(self.labels),
      'environment': dict(self.environment),
      'mounts': [Mount(p, p, type='bind', read_only=not writable) for p, writable in self.mounts],
      **{name: value for name, value in given.items() if value is not None},
    }


def _host() -> str:
  # The machine's own: a trial's lock then knows an earlier holder, on this machine, to be dead.
  return socket.gethostname()


def of_job(
  plan: Plan, folder: PlanFolder, job: Job, slot: Slot, attempt: int, network: str = ''
) -> Container:
  """The container for an attempt at a job. Raises UsageError for a path that cannot be mounted."""
  resources = plan.resources
  words = command.words(plan, job, folder, python='python3')
  alone = not command.several_processes(plan, job)
  limits = {
    'cpus': resources.cpus if not slot.cores else None,
    'cores': ','.join(map(str, slot.cores)) or None,
    'memory_bytes': resources.memory_bytes,
    'shm_bytes': resources.shm_bytes,
  }
  environment = {IMAGE_VARIABLE: plan.images[job.framework]}
  if resources.accelerator == 'hpu':
    environment['HABANA_VISIBLE_DEVICES'] = ','.join(slot.devices)
  return Container(
    name=f'{LABEL}-{plan.id}-{job.name}-{attempt}',
    image=plan.images[job.framework],
    words=tuple(words[3:] if alone else words),  # the entrypoint takes the run's flags as they are
    labels={f'{LABEL}.plan': plan.id, f'{LABEL}.job': job.name, f'{LABEL}.attempt': str(attempt)},
    user=f'{os.getuid()}:{os.getgid()}',
    mounts=mounts(plan, job, folder),
    environment=environment,
    limits={name: value for name, value in limits.items() if value is not None},
    gpus=slot.devices if resources.accelerator == 'cuda' else (),
    runtime='habana' if resources.accelerator == 'hpu' else '',
    network=network,
  )


def mounts(plan: Plan, job: Job, folder: PlanFolder) -> tuple[tuple[str, bool], ...]:
  """(path, writable) of all that a job's container needs: the log folder, data, submission.

  A submission is mounted with the git checkout it is in, if it is in one: it may import its
  neighbours. Folders within a mounted one are not mounted again.
  """
  submission, space = job.algorithm.paths(job.framework)
  read_only = [_with_neighbours(Path(submission))] if Path(submission).is_absolute() else []
  read_only += [Path(space).parent] if space is not None and Path(space).is_absolute() else []
  if plan.data_dir is not None and Path(plan.data_dir).is_dir():
    read_only.append(Path(plan.data_dir))
  root = folder.root.resolve()
  outer: list[Path] = []
  for path in sorted({path.resolve() for path in read_only}):
    if not any(path.is_relative_to(known) for known in outer):
      outer.append(path)
  for path in (root, *outer):
    if path in _SYSTEM:
      raise UsageError(
        f'{str(path)!r} cannot be mounted into a container, where it would hide its own; '
        'move what the plan needs into a folder of its own.'
      )
  # The log folder last: within another, it stays writable.
  return (*((str(path), False) for path in outer), (str(root), True))


def _with_neighbours(path: Path) -> Path:
  folder = path if path.is_dir() else path.parent
  checkouts = [parent for parent in (folder, *folder.parents) if (parent / '.git').exists()]
  return checkouts[0] if checkouts else folder
