"""This file writes a plan as Kubernetes manifests, and applies them if it is asked to.

The launcher does not wait for the cluster: what becomes of the trials is in their record on the
volume, which --status reads.
"""

import argparse
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import PurePosixPath

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import manifests
from algorithmic_efficiency.launch.containers import LABEL
from algorithmic_efficiency.launch.manifests import Manifest, Settings
from algorithmic_efficiency.launch.plan import Plan
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_KUBECTL_SEC = 120
_LABEL_NAME = re.compile(r'([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?')
_LABEL_VALUE = re.compile(r'([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?')
_DNS = re.compile(r'[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*')


def add_flags(group: argparse._ArgumentGroup) -> None:
  """Those of this engine."""
  group.add_argument(
    '--kubernetes_claim', type=_claim, metavar='NAME[/FOLDER]',
    help='PersistentVolumeClaim for the record, and the folder of this plan in it',
  )  # fmt: skip
  group.add_argument(
    '--kubernetes_data_claim', type=_object_name, metavar='NAME',
    help='PersistentVolumeClaim with data sets, mounted read-only at data_dir, or at /data',
  )  # fmt: skip
  group.add_argument('--kubernetes_namespace', type=_object_name, metavar='NAME')
  group.add_argument(
    '--kubernetes_user', type=_user, metavar='UID[:GID]',
    help='whom runs run as and files belong to (default: you, unless you are root)',
  )  # fmt: skip
  group.add_argument(
    '--kubernetes_pull', choices=('Always', 'IfNotPresent', 'Never'), default='IfNotPresent',
    help='when images are pulled',
  )  # fmt: skip
  group.add_argument(
    '--kubernetes_node', type=_label, action='append', default=[], metavar='KEY=VALUE',
    help='label that nodes must have; may be given many times',
  )  # fmt: skip
  group.add_argument(
    '--kubernetes_toleration', type=_toleration, action='append', default=[],
    metavar='KEY[=VALUE]', help='taint that does not matter; may be given many times',
  )  # fmt: skip
  group.add_argument(
    '--kubernetes_apply', action='store_true', help='apply the manifests with kubectl'
  )


def run(
  given: argparse.Namespace, plan: Plan, folder: PlanFolder, say: Callable[[str], None]
) -> int:
  """Writes the manifests, or prints them with --dry_run. Raises UsageError, MeasurementError."""
  if given.slots is not None and plan.resources.nodes > 1:
    raise UsageError(
      f'--slots={given.slots} cannot hold back trials of several nodes, which are a Job each; '
      "leave that to the cluster's quota and drop it."
    )
  finished = [job.index for job in plan.jobs() if folder.finished(job) is not None]
  files = manifests.of_plan(plan, settings(given), finished)
  texts = {name: _yaml(objects) for name, objects in files.items()}
  if given.dry_run:
    say('---\n'.join(texts.values()).rstrip('\n'))
    return 0
  if not texts:
    say('nothing to do: every trial has ended')
    return 0
  where = folder.engine_file('kubernetes')
  try:
    where.mkdir(exist_ok=True)
    for old in where.glob('*.yaml'):
      old.unlink()
    for name, text in texts.items():
      (where / name).write_text(text, encoding='utf-8')
  except OSError as error:
    raise MeasurementError(
      f'{str(where)!r} cannot be written to ({error.strerror}); choose another --log_dir.'
    ) from error
  count = sum(len(objects) for objects in files.values())
  say(f'{count} objects in {len(texts)} files in {where}')
  if given.kubernetes_apply:
    _apply(plan, str(where), given.kubernetes_namespace, say)
  else:
    say(f'submit them with kubectl apply -f {where}, or with --resume --kubernetes_apply')
  return 0


def settings(given: argparse.Namespace) -> Settings:
  """What the flags say of the cluster. Raises UsageError if something is missing."""
  if given.kubernetes_claim is None:
    raise UsageError(
      '--engine=kubernetes needs --kubernetes_claim=NAME, a PersistentVolumeClaim that every node '
      'may write to, for the record.'
    )
  user = given.kubernetes_user
  if user is None:
    user = (os.getuid(), os.getgid())
    if user[0] == 0:
      raise UsageError(
        'You are root, and runs in a cluster should not be; name who they run as with '
        '--kubernetes_user=UID:GID (0:0 if you mean it).'
      )
  claim, log_folder = given.kubernetes_claim
  return Settings(
    claim=claim,
    log_folder=log_folder,
    user=user,
    data_claim=given.kubernetes_data_claim,
    namespace=given.kubernetes_namespace,
    pull=given.kubernetes_pull,
    node_labels=dict(given.kubernetes_node),
    tolerations=tuple(given.kubernetes_toleration),
    parallelism=given.slots,
  )


def _yaml(objects: list[Manifest]) -> str:
  try:
    import yaml
  except ImportError as error:
    raise UsageError(
      'PyYAML is not installed; pip install "algorithmic-efficiency[launch]".'
    ) from error

  class Plain(yaml.SafeDumper):
    """Without anchors, which readers of manifests do not expect; long text line by line."""

    def ignore_aliases(self, data: object) -> bool:
      del data
      return True

  def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    style = '|' if '\n' in data else None
    return dumper.represent_scalar('tag:yaml.org,2002:str', data, style=style)

  Plain.add_representer(str, text)
  return yaml.dump_all(objects, Dumper=Plain, sort_keys=False, width=100)


def _apply(plan: Plan, where: str, namespace: str | None, say: Callable[[str], None]) -> None:
  """Submits; what of this plan ended before is removed first, since a Job cannot be changed."""
  of_plan = f'--selector={LABEL}.plan={plan.id}'
  jobs = json.loads(_kubectl(['get', 'jobs', of_plan, '--output=json'], namespace))['items']
  running = [job['metadata']['name'] for job in jobs if not _has_ended(job)]
  if running:
    raise UsageError(
      f'{len(running)} Jobs of this plan still run in the cluster ({", ".join(running[:3])}…); '
      f'wait for them, or kubectl delete jobs {of_plan}.'
    )
  if jobs:
    _kubectl(['delete', 'jobs', of_plan], namespace)
  for line in _kubectl(['apply', f'--filename={where}'], namespace).splitlines():
    say(line)
  say(f'kubectl get jobs {of_plan} tells how far they are; --status what became of the trials')


def _has_ended(job: Manifest) -> bool:
  conditions = job.get('status', {}).get('conditions') or []
  return any(c['type'] in ('Complete', 'Failed') and c['status'] == 'True' for c in conditions)


def _kubectl(words: list[str], namespace: str | None) -> str:
  words = ['kubectl', *([f'--namespace={namespace}'] if namespace else []), *words]
  try:
    done = subprocess.run(
      words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_KUBECTL_SEC
    )
  except FileNotFoundError as error:
    raise UsageError(
      'There is no kubectl on the PATH; install it, or drop --kubernetes_apply and submit the '
      'manifests from where there is one.'
    ) from error
  except subprocess.TimeoutExpired as error:
    raise MeasurementError(
      f'kubectl {words[-2]} did not end in {_KUBECTL_SEC} s; does kubectl get nodes answer?'
    ) from error
  if done.returncode != 0:
    said = ' '.join(done.stderr.split())[:400]
    raise MeasurementError(f'kubectl could not do it: {said}; the manifests are written.')
  return done.stdout


def _object_name(text: str) -> str:
  if len(text) > 253 or not _DNS.fullmatch(text):
    raise argparse.ArgumentTypeError(
      f'{text!r} is no name of a Kubernetes object: lower-case letters, digits, - and .'
    )
  return text


def _claim(text: str) -> tuple[str, str]:
  named, _, path = text.partition('/')
  if path and (path != str(PurePosixPath(path)) or path[0] == '/' or '..' in path.split('/')):
    raise argparse.ArgumentTypeError(f'{path!r} is no folder within a volume, such as plans/digits')
  return _object_name(named), path


def _user(text: str) -> tuple[int, int]:
  match = re.fullmatch(r'(\d{1,10})(?::(\d{1,10}))?', text)
  if match is None or max(int(match[1]), int(match[2] or 0)) >= 1 << 31:
    raise argparse.ArgumentTypeError(f'{text!r} is not UID or UID:GID, in numbers')
  return int(match[1]), int(match[2] or match[1])


def _label(text: str) -> tuple[str, str]:
  key, equals, value = text.partition('=')
  if not equals or not _LABEL_NAME.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
    raise argparse.ArgumentTypeError(f'{text!r} is not KEY=VALUE as labels have it')
  return key, value


def _toleration(text: str) -> tuple[str, str | None]:
  if '=' in text:
    return _label(text)
  return _label(f'{text}=')[0], None
