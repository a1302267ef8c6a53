"""This file turns a plan into Kubernetes manifests, as dictionaries that YAML can hold.

Trials of one node: an indexed Job for each image, whose completion index counts the jobs of that
framework. Trials of several nodes: an indexed Job for each trial, whose completion index is the
node, and a headless Service by which node 0 is found. The plan itself is a ConfigMap.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch.containers import LABEL, SOURCE
from algorithmic_efficiency.launch.nodes import PREFIX
from algorithmic_efficiency.launch.plan import Job, Plan

LOGS = '/logs'
DATA = '/data'
PLAN = '/plan'
SHM = '/dev/shm'
_GRACE_SEC = 60  # the runner waits up to 12 s for the end of a step, then saves
_PORT = 29_500  # in a pod's own network nobody else listens
_INDEX = f'{PREFIX}INDEX'
_DEVICES = {'cuda': 'nvidia.com/gpu', 'hpu': 'habana.ai/gaudi'}
_LONGEST = 63  # of a DNS label


@dataclass(frozen=True)
class Settings:
  """What the cluster's people decide.

  Attributes:
    claim: PersistentVolumeClaim for the record, mounted at /logs.
    log_folder: the plan's folder in it, relative; '' for its root.
    data_claim: PersistentVolumeClaim with data sets, or None.
    namespace: or None for that of kubectl's context.
    user: uid and gid that runs have.
    pull: of images: 'Always', 'IfNotPresent' or 'Never'.
    node_labels: that a node must have.
    tolerations: taints that do not matter; value None for any.
    parallelism: trials of an image at a time, or None for all.
  """

  claim: str
  user: tuple[int, int]
  log_folder: str = ''
  data_claim: str | None = None
  namespace: str | None = None
  pull: str = 'IfNotPresent'
  node_labels: Mapping[str, str] = field(default_factory=dict[str, str])
  tolerations: tuple[tuple[str, str | None], ...] = ()
  parallelism: int | None = None


Manifest = dict[str, Any]


def of_plan(plan: Plan, settings: Settings, finished: Iterable[int] = ()) -> dict[str, list]:
  """The manifests by file name; files are applied in the order of their names.

  Args:
    plan: all jobs.
    settings: of the cluster.
    finished: indices of jobs that need no run. Where an index stands for a job, it still does.
  """
  plan = dataclasses.replace(plan, data_dir=_data_dir(plan, settings))
  _check_paths(plan, settings)
  done = set(finished)
  files: dict[str, list] = {}
  for framework in plan.frameworks:
    jobs = [job for job in plan.jobs() if job.framework == framework]
    left = [job for job in jobs if job.index not in done]
    if not left:
      continue
    if plan.resources.nodes == 1:
      files[f'1-{framework}.yaml'] = [_job_of_framework(plan, settings, framework, len(jobs))]
    else:
      files[f'1-{framework}.yaml'] = [
        part for job in left for part in _trial_of_nodes(plan, settings, job)
      ]
  return {'0-plan.yaml': [_config_map(plan, settings)], **files} if files else {}


def name(plan: Plan, *parts: str, room: int = _LONGEST) -> str:
  """A DNS label that no other object of any plan has.

  >>> name(Plan('Digits, long', (), (), (), id='0123456789ab'), 'jax')
  'ae-0123456789ab-digits-long-jax'
  """
  words = '-'.join((plan.name, *parts))
  plain = re.sub(r'[^a-z0-9]+', '-', words.lower()).strip('-')
  whole = f'ae-{plan.id}-{plain}'.rstrip('-')
  if len(whole) <= room:
    return whole
  digest = hashlib.sha256(words.encode()).hexdigest()[:8]
  return f'{whole[: room - 9].rstrip("-")}-{digest}'


def _data_dir(plan: Plan, settings: Settings) -> str | None:
  if settings.data_claim is not None:
    path = PurePosixPath(plan.data_dir or DATA)
    for taken in (LOGS, PLAN, SHM, SOURCE):
      if path.is_relative_to(taken) or PurePosixPath(taken).is_relative_to(path):
        raise UsageError(
          f'The data cannot be mounted at data_dir {str(path)!r}, where it would hide {taken!r} '
          'of the container; give another, such as /data.'
        )
    return str(path)
  if plan.data_dir is not None:
    raise UsageError(
      f'The plan reads data at {plan.data_dir!r}, which no volume holds; name one with '
      '--kubernetes_data_claim, or drop data_dir.'
    )
  return None


def _check_paths(plan: Plan, settings: Settings) -> None:
  """A pod sees its image's tree and the volumes, nothing of this machine."""
  for framework in plan.frameworks:
    for algorithm in plan.algorithms:
      for path in algorithm.paths(framework):
        if path is None or not PurePosixPath(path).is_absolute():
          continue
        if settings.data_claim and PurePosixPath(path).is_relative_to(str(plan.data_dir)):
          continue
        raise UsageError(
          f'The submission {algorithm.name!r} names {path!r}, which no pod sees; put it into the '
          "project's tree and build the image anew, or onto the volume of "
          '--kubernetes_data_claim below data_dir.'
        )


def _labels(plan: Plan, job: str) -> dict[str, str]:
  return {f'{LABEL}.plan': plan.id, f'{LABEL}.job': job}


def _object(kind: str, version: str, named: str, plan: Plan, settings: Settings) -> Manifest:
  place = {'namespace': settings.namespace} if settings.namespace else {}
  metadata = {'name': named, **place, 'labels': _labels(plan, named)}
  return {'apiVersion': version, 'kind': kind, 'metadata': metadata}


def _config_map(plan: Plan, settings: Settings) -> Manifest:
  """plan.json, as every pod finds it in /plan."""
  named = name(plan, 'plan')
  return {
    **_object('ConfigMap', 'v1', named, plan, settings),
    'data': {'plan.json': plan.to_json()},
  }


def _job_of_framework(plan: Plan, settings: Settings, framework: str, count: int) -> Manifest:
  """An indexed Job with a pod for each trial; an index that fails is tried again by itself."""
  named = name(plan, framework, room=_LONGEST - len(f'-{count - 1}'))
  job = _object('Job', 'batch/v1', named, plan, settings)
  job['spec'] = {
    'completionMode': 'Indexed',
    'completions': count,
    'parallelism': min(settings.parallelism or count, count),
    'backoffLimitPerIndex': plan.retries,
    'maxFailedIndexes': count,  # a trial that fails does not keep others from being run
    'podReplacementPolicy': 'Failed',  # not before the former pod is surely gone
    'podFailurePolicy': {
      'rules': [
        *_not_counted(),
        # The command is wrong: trying again is of no use.
        {'action': 'FailIndex', 'onExitCodes': {'operator': 'In', 'values': [2]}},
      ]
    },
    'template': _pod(plan, settings, framework, named, ['--only_framework=' + framework]),
  }
  return job


def _trial_of_nodes(plan: Plan, settings: Settings, job: Job) -> list[Manifest]:
  """A headless Service and an indexed Job with a pod for each node of one trial.

  When a pod fails, the frameworks end the others: no process can go on without its fellows. The
  Job starts each again, they meet under the same names and go on from the newest checkpoint. So
  every time costs as many failures as there are nodes.
  """
  nodes = plan.resources.nodes
  named = name(plan, job.name, room=_LONGEST - len(f'-{nodes - 1}'))
  service = _object('Service', 'v1', named, plan, settings)
  service['spec'] = {
    'clusterIP': 'None',
    'publishNotReadyAddresses': True,  # pods look for node 0 before it is ready
    'selector': _labels(plan, named),
    'ports': [{'name': 'coordinator', 'port': _PORT, 'protocol': 'TCP'}],
  }
  made = _object('Job', 'batch/v1', named, plan, settings)
  template = _pod(plan, settings, job.framework, named, [])
  spec = template['spec']
  spec['subdomain'] = named
  container = spec['containers'][0]
  container['args'][-1] = f'--index={job.index}'
  container['env'] = [variable for variable in container['env'] if variable['name'] != _INDEX]
  container['env'] += [
    {'name': f'{PREFIX}NODE', 'valueFrom': _completion_index()},
    {'name': f'{PREFIX}NODES', 'value': str(nodes)},
    {'name': f'{PREFIX}COORDINATOR', 'value': f'{named}-0.{named}'},
    {'name': f'{PREFIX}PORT', 'value': str(_PORT)},
  ]
  container['ports'] = [{'name': 'coordinator', 'containerPort': _PORT, 'protocol': 'TCP'}]
  made['spec'] = {
    'completionMode': 'Indexed',
    'completions': nodes,
    'parallelism': nodes,
    'backoffLimit': plan.retries * nodes,
    'podReplacementPolicy': 'Failed',
    'podFailurePolicy': {
      'rules': [
        *_not_counted(),
        {'action': 'FailJob', 'onExitCodes': {'operator': 'In', 'values': [2]}},
      ]
    },
    'template': template,
  }
  return [service, made]


def _not_counted() -> list[Manifest]:
  """Ends that are no fault of the trial: its node was drained, or it was told to stop and saved."""
  return [
    {'action': 'Ignore', 'onPodConditions': [{'type': 'DisruptionTarget', 'status': 'True'}]},
    {'action': 'Ignore', 'onExitCodes': {'operator': 'In', 'values': [75]}},
  ]


def _completion_index() -> Manifest:
  path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
  return {'fieldRef': {'fieldPath': path}}


def _pod(plan: Plan, settings: Settings, framework: str, named: str, more: list[str]) -> Manifest:
  """The template of a Job's pods; --index is the last of their arguments."""
  uid, gid = settings.user
  spec: Manifest = {
    'restartPolicy': 'Never',
    'terminationGracePeriodSeconds': _GRACE_SEC,
    'automountServiceAccountToken': False,
    'enableServiceLinks': False,
    'securityContext': {
      'runAsNonRoot': uid != 0,
      'runAsUser': uid,
      'runAsGroup': gid,
      'fsGroup': gid,
      'fsGroupChangePolicy': 'OnRootMismatch',  # else a large volume is gone through each time
      'seccompProfile': {'type': 'RuntimeDefault'},
    },
    'containers': [_container(plan, settings, framework, more)],
    'volumes': _volumes(plan, settings),
  }
  if settings.node_labels:
    spec['nodeSelector'] = dict(settings.node_labels)
  if settings.tolerations:
    spec['tolerations'] = [
      {'key': key, 'operator': 'Exists'}
      if value is None
      else {'key': key, 'operator': 'Equal', 'value': value}
      for key, value in settings.tolerations
    ]
  return {'metadata': {'labels': _labels(plan, named)}, 'spec': spec}


def _container(plan: Plan, settings: Settings, framework: str, more: list[str]) -> Manifest:
  image = plan.images[framework]
  log_dir = '/'.join(part for part in (LOGS, settings.log_folder) if part)
  container: Manifest = {
    'name': 'trial',
    'image': image,
    'imagePullPolicy': settings.pull,
    # The image's entrypoint runs words that are no flags as they are.
    'args': [
      'python3', '-m', 'algorithmic_efficiency.launch.task', f'--log_dir={log_dir}',
      f'--plan={PLAN}/plan.json', '--engine=kubernetes', *more, f'--index=$({_INDEX})',
    ],
    'env': [
      {'name': _INDEX, 'valueFrom': _completion_index()},
      {'name': f'{PREFIX}IMAGE', 'value': image},
    ],
    'volumeMounts': _mounts(plan, settings),
    'securityContext': {'allowPrivilegeEscalation': False, 'capabilities': {'drop': ['ALL']}},
  }  # fmt: skip
  limits = _limits(plan)
  if limits:
    container['resources'] = {'requests': limits, 'limits': dict(limits)}
  return container


def _limits(plan: Plan) -> dict[str, str]:
  resources = plan.resources
  limits: dict[str, str] = {}
  if resources.cpus is not None:
    limits['cpu'] = f'{max(1, round(resources.cpus * 1000))}m'
  if resources.memory_bytes is not None:
    limits['memory'] = str(resources.memory_bytes)
  if resources.accelerator in _DEVICES:
    limits[_DEVICES[resources.accelerator]] = str(resources.devices)
  return limits


def _volumes(plan: Plan, settings: Settings) -> list[Manifest]:
  volumes: list[Manifest] = [
    {'name': 'plan', 'configMap': {'name': name(plan, 'plan')}},
    {'name': 'logs', 'persistentVolumeClaim': {'claimName': settings.claim}},
  ]
  if settings.data_claim is not None:
    claim = {'claimName': settings.data_claim, 'readOnly': True}
    volumes.append({'name': 'data', 'persistentVolumeClaim': claim})
  if plan.resources.shm_bytes is not None:
    memory = {'medium': 'Memory', 'sizeLimit': str(plan.resources.shm_bytes)}
    volumes.append({'name': 'shm', 'emptyDir': memory})
  return volumes


def _mounts(plan: Plan, settings: Settings) -> list[Manifest]:
  mounts: list[Manifest] = [
    {'name': 'plan', 'mountPath': PLAN, 'readOnly': True},
    {'name': 'logs', 'mountPath': LOGS},
  ]
  if settings.data_claim is not None:
    mounts.append({'name': 'data', 'mountPath': str(plan.data_dir), 'readOnly': True})
  if plan.resources.shm_bytes is not None:
    mounts.append({'name': 'shm', 'mountPath': SHM})
  return mounts
