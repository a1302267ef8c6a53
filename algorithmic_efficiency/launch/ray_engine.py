"""This file runs jobs as tasks of a Ray cluster, for the dispatcher: one slot, one task at a time.

Ray decides where. It never tries a task again by itself: the dispatcher counts attempts.
"""

import socket
import time
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import command, ray_worker
from algorithmic_efficiency.launch.endings import Exit
from algorithmic_efficiency.launch.engine import EngineLost
from algorithmic_efficiency.launch.plan import Job, Plan, Resources
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import Slot

_LOOK_SEC = 0.1  # between two questions to Ray
_BEGUN_SEC = 1.0  # between two looks at the logs of tasks that have not begun
_ALIVE_SEC = 3.0  # between two questions whether the cluster is there
_SILENT_SEC = 20.0  # Ray ends a driver, without a word, whose cluster was away for a minute
_PROBE_SEC = 120.0  # for every node to start a worker


def need(resources: Resources) -> dict[str, float]:
  """What a trial needs, by Ray's names for resources."""
  wanted: dict[str, float] = {'CPU': resources.cpus or 1.0}
  if resources.accelerator != 'cpu':
    wanted[{'cuda': 'GPU', 'hpu': 'HPU'}[resources.accelerator]] = float(resources.devices)
  if resources.memory_bytes is not None:
    wanted['memory'] = float(resources.memory_bytes)
  return wanted


def options(wanted: dict[str, float]) -> dict[str, Any]:
  """The same as options of a Ray task, which is not tried again by Ray."""
  ours = {'CPU': 'num_cpus', 'GPU': 'num_gpus', 'memory': 'memory'}
  given: dict[str, Any] = {ours[name]: n for name, n in wanted.items() if name in ours}
  custom = {name: n for name, n in wanted.items() if name not in ours}
  return {**given, 'max_retries': 0, **({'resources': custom} if custom else {})}


def room(nodes: list[dict[str, float]], wanted: dict[str, float]) -> int:
  """How many trials fit into a cluster at a time, by the resources of each of its nodes."""
  return sum(min(int(node.get(n, 0.0) / count) for n, count in wanted.items()) for node in nodes)


class Ray:
  """The engine.

  Args:
    ray: the module, connected.
    plan: whose jobs they are.
    folder: its records; every node sees it.
    timeout_sec: so long nothing may run and nothing begin, because nodes are taken.
  """

  name = 'ray'

  def __init__(self, ray: Any, plan: Plan, folder: PlanFolder, timeout_sec: float) -> None:
    self._ray, self._plan, self._folder = ray, plan, folder
    self._timeout_sec = timeout_sec
    self.wanted = need(plan.resources)
    ray.cloudpickle.register_pickle_by_value(ray_worker)
    self._run = ray.remote(ray_worker.run).options(**options(self.wanted))
    self._tasks: dict[Any, RayTask] = {}
    self._done: set[Any] = set()
    self._looked = self._answered = self._moved = time.monotonic()
    self._asked = self._asked_begun = 0.0

  def prepare(self) -> None:
    """Checks that some node can run a trial, and that those which can see what it needs."""
    nodes = [node for node in self._nodes() if room([node['Resources']], self.wanted)]
    if not nodes:
      raise UsageError(self._nowhere())
    strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
    look = self._ray.remote(ray_worker.trouble)
    where = (str(self._folder.root), self._plan.id, str(command.ROOT))
    asked = [
      look.options(
        num_cpus=0, max_retries=1, scheduling_strategy=strategy(node['NodeID'], soft=False)
      ).remote(*where)
      for node in nodes
    ]
    ended, silent = self._ray.wait(asked, num_returns=len(asked), timeout=_PROBE_SEC)
    if silent:
      raise UsageError(
        f'{len(silent)} of {len(nodes)} nodes of the Ray cluster started no worker in '
        f'{_PROBE_SEC:.0f} s; ray status tells of them.'
      )
    for reference in ended:
      reason = self._ray.get(reference)
      if reason:
        raise UsageError(f'The plan cannot be run on this Ray cluster: {reason}.')

  def room(self) -> int:
    """How many trials run at a time where nobody else uses the cluster."""
    return room([node['Resources'] for node in self._nodes()], self.wanted)

  def _nodes(self) -> list[dict[str, Any]]:
    return [node for node in self._ray.nodes() if node['Alive']]

  def _nowhere(self) -> str:
    nodes = [node['Resources'] for node in self._nodes()]
    largest = max(nodes, key=lambda node: [node.get(name, 0.0) for name in reversed(self.wanted)])
    return (
      f'A trial needs {shown(self.wanted)}, and no node of the Ray cluster has that: the largest '
      f'has {shown({name: largest.get(name, 0.0) for name in self.wanted})}; ask for less, or '
      'add a larger node.'
    )

  def command(self, job: Job, slot: Slot, attempt: int) -> str:
    """What a worker runs, and what for."""
    del slot, attempt
    return f'{job.name}: {shown(self.wanted)}: {line(self._folder, job)}'

  def start(self, job: Job, slot: Slot, attempt: int) -> 'RayTask':
    """Gives it to Ray, which begins it as soon as a node has room."""
    del slot, attempt
    if self._folder.finished(job) is not None:  # it failed, and is tried again
      self._folder.trial(job).begin_anew()
    log = self._folder.log(job)
    log.touch()
    reference = self._run.remote(
      str(self._folder.root), self._plan.id, str(command.ROOT), job.index, str(log)
    )
    task = RayTask(self, reference, log.stat().st_size)
    task.log = log
    self._tasks[reference] = task
    return task

  def look(self) -> set[Any]:
    """The tasks that have ended, as of a moment ago. Raises EngineLost, or if nothing begins."""
    now = time.monotonic()
    if now - self._looked > _LOOK_SEC:
      waiting = [reference for reference in self._tasks if reference not in self._done]
      if waiting:
        ended, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0, fetch_local=False)
        self._done |= set(ended)
        self._moved = now if ended else self._moved
      self._looked = now
      self._check_cluster(now)
      self._check_begun(now)
    return self._done

  def _check_cluster(self, now: float) -> None:
    """Finds out that a cluster is gone before Ray does, which would end this process."""
    if now - self._asked > _ALIVE_SEC:
      self._asked = now
      if self._ray_answers():
        self._answered = now
    if now - self._answered > _SILENT_SEC:
      raise EngineLost(
        f'The Ray cluster has not answered for {_SILENT_SEC:.0f} s; start it again, then go on '
        'with --resume.'
      )

  def _ray_answers(self) -> bool:
    host, _, port = self._ray.get_runtime_context().gcs_address.rpartition(':')
    try:
      socket.create_connection((host, int(port)), timeout=2.0).close()
    except OSError:
      return False
    return True

  def _check_begun(self, now: float) -> None:
    if now - self._asked_begun < _BEGUN_SEC:
      return
    self._asked_begun = now
    there = [t for reference, t in self._tasks.items() if reference not in self._done]
    for task in there:
      if not task.begun and task.log is not None and task.log.stat().st_size > task.log_from:
        task.begun, self._moved = True, now
    if there and not any(t.begun for t in there) and now - self._moved > self._timeout_sec:
      raise MeasurementError(
        f'No node of the Ray cluster had {shown(self.wanted)} free for {self._timeout_sec:.0f} s; '
        'wait for others to end (ray status), or give more time with --ray_timeout_sec.'
      )

  def outcome(self, task: 'RayTask') -> Exit:
    """How a task that has ended did. Raises UsageError if its node cannot run the plan at all."""
    errors = self._ray.exceptions
    try:
      facts = self._ray.get(task.reference)
    except errors.TaskCancelledError:
      return Exit(143, note='its Ray task was cancelled')
    except errors.OutOfMemoryError:
      return Exit(137, out_of_memory=True)
    except errors.NodeDiedError:
      return Exit(137, note='the Ray node that it ran on is gone')
    except errors.WorkerCrashedError:
      return Exit(137, note='the Ray worker that it ran in was killed')
    except errors.RayError as error:
      return Exit(137, note=f'Ray says {" ".join(str(error).split())[:300]!r}')
    task.facts |= {'host': facts['host'], 'ray_node': facts['ray_node']}
    if facts['trouble']:
      raise UsageError(f'The plan cannot go on on this Ray cluster: {facts["trouble"]}.')
    return Exit(facts['code'])

  def cancel(self, task: 'RayTask', force: bool) -> None:
    """Interrupts it; with `force` ends its worker, and the run is stopped for want of it."""
    self._ray.cancel(task.reference, force=force)

  def forget(self, task: 'RayTask') -> None:
    """Lets go of a task that has ended."""
    self._tasks.pop(task.reference, None)
    self._done.discard(task.reference)


class RayTask:
  """One of them."""

  def __init__(self, engine: Ray, reference: Any, log_from: int) -> None:
    self._engine, self.reference, self.log_from = engine, reference, log_from
    self.log: Any = None
    self.begun = False
    self.facts: dict[str, Any] = {'ray_task': reference.task_id().hex()}

  def poll(self) -> Exit | None:
    """How it ended, or None. Raises EngineLost; UsageError if its node cannot run the plan."""
    if self.reference not in self._engine.look():
      return None
    return self._engine.outcome(self)

  def ask_to_stop(self) -> None:
    """The run is told by SIGTERM."""
    self._engine.cancel(self, force=False)

  def kill(self) -> None:
    """Ends its worker."""
    self._engine.cancel(self, force=True)

  def release(self) -> None:
    """Nothing is held but Ray's reference to its answer."""
    self._engine.forget(self)

  def abandon(self) -> None:
    """The same: it asks nobody."""
    self.release()


def line(folder: PlanFolder, job: Job) -> str:
  """What a worker runs for a job, as it could be typed."""
  return (
    f'python3 -m algorithmic_efficiency.launch.task --log_dir={folder.root} --index={job.index} '
    '--engine=ray'
  )


def shown(resources: dict[str, float]) -> str:
  """Resources for people: '2 CPU, 1 GPU, 8 GiB memory'."""
  words = [
    f'{count / (1 << 30):g} GiB memory' if name == 'memory' else f'{count:g} {name}'
    for name, count in resources.items()
  ]
  return ', '.join(words)
