"""This file runs jobs as containers of a Docker engine.

Only containers with this plan's label are ever touched. Attached to each, a thread writes what it
prints into the job's log.
"""

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import containers
from algorithmic_efficiency.launch.containers import LABEL
from algorithmic_efficiency.launch.docker_errors import connect, explain, is_lost
from algorithmic_efficiency.launch.endings import Exit
from algorithmic_efficiency.launch.engine import CannotStart, EngineLost
from algorithmic_efficiency.launch.plan import Job, Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

_GRACE_SEC = 20  # for containers that an earlier launcher left
_LOG_SEC = 30.0  # for the rest of a log
_LOOK_SEC = 0.1  # between two looks at all containers
_ENDED = ('exited', 'dead')


class Docker:
  """The engine.

  Args:
    plan: whose containers they are.
    folder: its records.
    network: of the containers, by the engine's name for it; '' for its default.
    address: of the engine, such as unix:///run/docker.sock; None for DOCKER_HOST or the default.
  """

  name = 'docker'

  def __init__(
    self, plan: Plan, folder: PlanFolder, network: str = '', address: str | None = None
  ) -> None:
    self._plan, self._folder, self._network, self._address = plan, folder, network, address
    self._client: Any = None
    self._image_ids: dict[str, str] = {}  # by image
    self._states: dict[str, str] = {}  # of our containers, by id
    self._looked = float('-inf')

  def prepare(self) -> None:
    """Finds engine and images, and removes what an earlier launcher of this plan left."""
    self._client = connect(self._address)
    for framework in self._plan.frameworks:
      self._check_image(framework)
    with self.lost_is_told():
      for container in self._client.containers.list(all=True, filters=self._ours()):
        if container.status == 'running':
          container.stop(timeout=_GRACE_SEC)  # its trial is saved, and goes on later
        container.remove(force=True)

  def _check_image(self, framework: str) -> None:
    from docker.errors import APIError, ImageNotFound

    image = self._plan.images[framework]
    try:
      self._image_ids[image] = self._client.images.get(image).id
    except ImageNotFound as error:
      accelerator = {'hpu': 'habana'}.get(self._plan.resources.accelerator)
      accelerator = accelerator or self._plan.resources.accelerator
      raise UsageError(
        f'The engine has no image {image!r} for {framework}; build it with bash docker/build.sh '
        f'{accelerator}{f" {framework}" if image.endswith(framework) else ""}, or name another '
        'with --image.'
      ) from error
    except APIError as error:
      raise UsageError(f'The image {image!r} cannot be used: {explain(error)}.') from error

  def command(self, job: Job, slot: Slot, attempt: int) -> str:
    """The `docker run` line."""
    return self._container(job, slot, attempt).line()

  def _container(self, job: Job, slot: Slot, attempt: int) -> containers.Container:
    made = containers.of_job(self._plan, self._folder, job, slot, attempt, self._network)
    if made.image not in self._image_ids:  # a dry run asks no engine
      return made
    name = {containers.IMAGE_VARIABLE: f'{made.image}@{self._image_ids[made.image]}'}
    return dataclasses.replace(made, environment={**made.environment, **name})

  def start(self, job: Job, slot: Slot, attempt: int) -> 'RunningContainer':
    """Creates and starts it; one that does not start is removed again."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    created: Any = None
    log: Any = None
    try:
      created = self._client.containers.create(**self._container(job, slot, attempt).arguments())
      log = self._folder.log(job).open('ab', buffering=0)
      running = RunningContainer(self, created, log)
      created.start()
      running.follow()
      self._looked = float('-inf')
      return running
    except (DockerException, RequestException, OSError) as error:
      if log is not None:
        log.close()
      if created is not None and not is_lost(error):
        self.remove(created)
      if is_lost(error):
        raise EngineLost(f'The Docker engine went away: {explain(error)}.') from error
      raise CannotStart(explain(error)) from error

  def state(self, container_id: str) -> str:
    """'running', 'exited', … of one of ours, as of a moment ago; 'gone' if it is not there."""
    if time.monotonic() - self._looked > _LOOK_SEC:
      with self.lost_is_told():
        found = self._client.api.containers(all=True, filters=self._ours())
      self._states = {c['Id']: c['State'] for c in found}
      self._looked = time.monotonic()
    return self._states.get(container_id, 'gone')

  def _ours(self) -> dict[str, str]:
    return {'label': f'{LABEL}.plan={self._plan.id}'}

  def remove(self, container: Any) -> None:
    """Removes one of ours, running or not."""
    from docker.errors import NotFound

    with self.lost_is_told(), suppress(NotFound):  # somebody else removed it
      container.remove(force=True)

  @contextmanager
  def lost_is_told(self) -> Iterator[None]:
    """Makes EngineLost of an engine that does not answer."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
      yield
    except (DockerException, RequestException) as error:
      raise EngineLost(
        f'The Docker engine went away: {explain(error)}; start it again, then go on with --resume.'
      ) from error


class RunningContainer:
  """One container and the thread that writes its log."""

  def __init__(self, engine: Docker, container: Any, log: IO[bytes]) -> None:
    self._engine, self._container, self._log = engine, container, log
    self._unwritten: OSError | None = None
    self._follower = threading.Thread(target=self._write_log, name=container.name, daemon=True)
    self.facts: dict[str, Any] = {
      'host': socket.gethostname(), 'container': container.id, 'image': container.image.id,
    }  # fmt: skip

  def follow(self) -> None:
    """Begins to write the log."""
    self._follower.start()

  def _write_log(self) -> None:
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
      for chunk in self._container.logs(stream=True, follow=True):
        self._log.write(chunk)
    except (DockerException, RequestException):
      pass  # an engine that went away: poll() tells
    except OSError as error:
      self._unwritten = error

  def poll(self) -> Exit | None:
    """How it ended, or None. Raises EngineLost; MeasurementError if its log cannot be written."""
    state = self._engine.state(self._container.id)
    if self._unwritten is not None:
      error, self._unwritten = self._unwritten, None
      raise MeasurementError(
        f'{self._log.name!r} cannot be written to ({error.strerror}); free space, then go on '
        'with --resume.'
      )
    if state == 'gone':
      return Exit(137, note='somebody else removed its container')
    if state not in _ENDED:
      return None
    with self._engine.lost_is_told():
      self._container.reload()
    end = self._container.attrs['State']
    return Exit(end['ExitCode'], out_of_memory=end['OOMKilled'])

  def ask_to_stop(self) -> None:
    """SIGTERM, which the image's entrypoint hands to the run."""
    self._send('SIGTERM')

  def kill(self) -> None:
    """SIGKILL."""
    self._send('SIGKILL')

  def _send(self, name: str) -> None:
    from docker.errors import APIError

    with self._engine.lost_is_told():
      try:
        self._container.kill(name)
      except APIError as error:
        if error.status_code not in (404, 409):  # it has ended meanwhile
          raise

  def release(self) -> None:
    """Waits for the rest of the log, and removes the container."""
    self._follower.join(timeout=_LOG_SEC)
    self._engine.remove(self._container)
    self._log.close()

  def abandon(self) -> None:
    """Closes its log; the container is removed by whoever goes on."""
    self._follower.join(timeout=1.0)
    self._log.close()
