"""Manifests: what the schemas of Kubernetes say of them, what they mean, and that they run."""

import collections
import json
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import kubelet
import psutil
import pytest
import scripts_in_process
import yaml

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import manifests, task, task_process
from algorithmic_efficiency.launch.plan import Algorithm, Plan, Resources, from_json
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.records.trial_lock import all_taken

ROOT = Path(__file__).resolve().parents[2]
PLAN = (
  '--engine=kubernetes', '--workloads=digits', '--kubernetes_claim=logs/plans/one',
  '--kubernetes_user=1000:100', '--submission_path=baselines/mnist/mnist_{framework}/submission.py',
  '--tuning_search_space=baselines/mnist/tuning_search_space.json',
)  # fmt: skip
BOTH = (*PLAN, '--frameworks=jax,pytorch', '--trials=3', '--studies=2')
SHAPES = {
  'cpu': BOTH,
  'two of each at a time': (*BOTH, '--slots=2'),
  'everything for GPUs': (
    *BOTH, '--accelerator=cuda', '--devices_per_trial=4', '--cpus=1.5', '--memory=8g',
    '--shm_size=1g', '--retries=2', '--kubernetes_data_claim=data', '--kubernetes_namespace=bench',
    '--kubernetes_pull=Always', '--kubernetes_node=pool=a100', '--kubernetes_node=zone=b',
    '--kubernetes_toleration=nvidia.com/gpu', '--kubernetes_toleration=who=us',
  ),
  'Gaudis': (*PLAN, '--frameworks=pytorch', '--accelerator=hpu', '--devices_per_trial=8'),
  'two nodes to a trial': (
    *BOTH, '--accelerator=cuda', '--nodes_per_trial=2', '--retries=1', '--memory=8g',
  ),
  'long names': (
    *PLAN, '--frameworks=jax,pytorch', '--nodes_per_trial=12', '--trials=2',
    '--name=Every_Workload_there_is_and_then_some_more',
  ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _signals_are_as_before():
  before = signal.getsignal(signal.SIGTERM)
  yield
  signal.signal(signal.SIGTERM, before)


def launch(log_dir: Path, *words: object) -> subprocess.CompletedProcess[str]:
  return scripts_in_process.run(ROOT / 'scripts' / 'launch.py', f'--log_dir={log_dir}', *words)


def written(log_dir: Path, *words: object) -> list[dict]:
  done = launch(log_dir, *words)
  assert done.returncode == 0, done.stderr
  return kubelet.read(log_dir / 'kubernetes')


@pytest.fixture(params=SHAPES, ids=[name.replace(' ', '_') for name in SHAPES])
def objects(request, tmp_path) -> list[dict]:
  return written(tmp_path / 'logs', *SHAPES[request.param])


def plan_of(objects: list[dict]) -> Plan:
  (text,) = (o['data']['plan.json'] for o in objects if o['kind'] == 'ConfigMap')
  return from_json(text, Path('plan.json'))


def test_manifests_are_what_kubernetes_takes_strictly(objects):
  validate = pytest.importorskip('kubernetes_validate')
  for version in ('1.29', validate.latest_version()):
    for found in objects:
      validate.validate(found, version, strict=True)
  found['spec']['complitions'] = 1
  with pytest.raises(validate.ValidationError, match='complitions'):
    validate.validate(found, '1.29', strict=True)


def test_every_trial_is_run_by_one_index_and_node(objects, monkeypatch):
  plan, seen = plan_of(objects), collections.Counter()
  nodes: dict[str, set] = collections.defaultdict(set)

  def run(root, index, engine, say, facts, *, plan_file, framework, launched):
    assert not facts
    assert (str(root), engine, launched) == ('/logs/plans/one', 'kubernetes', False)
    assert str(plan_file) == '/plan/plan.json'
    job = task.job_of(plan, index, framework)
    assert kubelet.container(made)['image'] == plan.images[job.framework]
    if plan.resources.nodes > 1:
      place = task.nodes.this_node(kubelet.environment(made, number), plan.resources.nodes)
      name = made['metadata']['name']
      assert place.coordinator == f'{name}-0.{name}'
      nodes[job.name].add(place.node)
    seen[job.name] += 1
    return 0

  monkeypatch.setattr(task, 'run', run)
  for made in kubelet.jobs(objects):
    for number in range(made['spec']['completions']):
      words = kubelet.words(made, number)
      assert words[:3] == ['python3', '-m', 'algorithmic_efficiency.launch.task']
      assert task.main(words[3:]) == 0
  assert seen == {job.name: plan.resources.nodes for job in plan.jobs()}
  assert all(of == set(range(plan.resources.nodes)) for of in nodes.values())


def test_names_are_dns_labels_and_no_two_are_alike(objects):
  names = [(found['kind'], found['metadata']['name']) for found in objects]
  assert len(set(names)) == len(names)
  for kind, name in names:
    # A Service's begins with a letter.
    assert re.fullmatch(r'[a-z]([a-z0-9-]*[a-z0-9])?', name)
    assert len(name) <= 63, kind
  for job in kubelet.jobs(objects):
    host = f'{job["metadata"]["name"]}-{job["spec"]["completions"] - 1}'
    assert len(host) <= 63
  for found in objects:
    for value in found['metadata']['labels'].values():
      assert len(value) <= 63


def test_parts_of_a_manifest_fit_together(objects):
  plan = plan_of(objects)
  maps = {found['metadata']['name'] for found in objects if found['kind'] == 'ConfigMap'}
  services = {found['metadata']['name']: found for found in objects if found['kind'] == 'Service'}
  for job in kubelet.jobs(objects):
    template = job['spec']['template']
    spec, only = template['spec'], kubelet.container(job)
    volumes = {volume['name']: volume for volume in spec['volumes']}
    mounts = {mount['name']: mount for mount in only['volumeMounts']}
    assert volumes.keys() == mounts.keys()
    assert len({mount['mountPath'] for mount in mounts.values()}) == len(mounts)
    assert volumes['plan']['configMap']['name'] in maps
    assert not mounts['logs'].get('readOnly')
    assert template['metadata']['labels'] == job['metadata']['labels']
    assert job['metadata']['labels']['algorithmic_efficiency.plan'] == plan.id
    if plan.resources.nodes > 1:
      service = services.pop(spec['subdomain'])
      assert service['spec']['selector'].items() <= template['metadata']['labels'].items()
      assert service['spec']['ports'][0]['port'] == only['ports'][0]['containerPort']
      assert job['spec']['parallelism'] == job['spec']['completions'] == plan.resources.nodes
    resources = only.get('resources', {'requests': {}, 'limits': {}})
    assert resources['requests'] == resources['limits']
    assert spec['restartPolicy'] == 'Never'
    assert spec['terminationGracePeriodSeconds'] == 60
    assert spec['securityContext']['runAsNonRoot'] is True
    assert only['securityContext']['allowPrivilegeEscalation'] is False
  assert not services


def test_a_job_of_gpus_asks_for_all_that_the_plan_says(tmp_path):
  objects = written(tmp_path, *SHAPES['everything for GPUs'])
  plan = plan_of(objects)
  assert plan.data_dir == '/data'
  assert {found['metadata']['namespace'] for found in objects} == {'bench'}
  jax = kubelet.jobs(objects)[0]
  spec, only = jax['spec']['template']['spec'], kubelet.container(jax)
  assert only['resources']['limits'] == {
    'cpu': '1500m', 'memory': str(8 << 30), 'nvidia.com/gpu': '4',
  }  # fmt: skip
  assert only['imagePullPolicy'] == 'Always'
  assert spec['nodeSelector'] == {'pool': 'a100', 'zone': 'b'}
  assert spec['tolerations'] == [
    {'key': 'nvidia.com/gpu', 'operator': 'Exists'},
    {'key': 'who', 'operator': 'Equal', 'value': 'us'},
  ]
  volumes = {volume['name']: volume for volume in spec['volumes']}
  assert volumes['shm']['emptyDir'] == {'medium': 'Memory', 'sizeLimit': str(1 << 30)}
  assert volumes['data']['persistentVolumeClaim'] == {'claimName': 'data', 'readOnly': True}
  mounts = {mount['name']: mount for mount in only['volumeMounts']}
  assert mounts['data'] == {'name': 'data', 'mountPath': '/data', 'readOnly': True}
  assert mounts['shm']['mountPath'] == '/dev/shm'
  user = {name: spec['securityContext'][name] for name in ('runAsUser', 'runAsGroup', 'fsGroup')}
  assert user == {'runAsUser': 1000, 'runAsGroup': 100, 'fsGroup': 100}


def test_failures_that_are_no_fault_of_a_trial_do_not_count(tmp_path):
  def rules(job: dict) -> list:
    return [
      (rule['action'], rule.get('onExitCodes', {}).get('values'))
      for rule in job['spec']['podFailurePolicy']['rules']
    ]

  one = kubelet.jobs(written(tmp_path / '1', *BOTH, '--retries=2', '--slots=4'))[0]['spec']
  assert (one['completions'], one['parallelism'], one['backoffLimitPerIndex']) == (6, 4, 2)
  assert rules({'spec': one}) == [('Ignore', None), ('Ignore', [75]), ('FailIndex', [2])]
  disrupted = one['podFailurePolicy']['rules'][0]['onPodConditions']
  assert disrupted == [{'type': 'DisruptionTarget', 'status': 'True'}]
  several = kubelet.jobs(written(tmp_path / '2', *BOTH, '--retries=2', '--nodes_per_trial=3'))[0]
  assert several['spec']['backoffLimit'] == 6  # two more goes of three nodes
  assert rules(several) == [('Ignore', None), ('Ignore', [75]), ('FailJob', [2])]


def test_dry_run_prints_what_would_be_written(tmp_path):
  done = launch(tmp_path / 'none', *BOTH, '--dry_run')
  assert done.returncode == 0
  assert not (tmp_path / 'none').exists()
  kinds = [found['kind'] for found in yaml.safe_load_all(done.stdout)]
  assert kinds == ['ConfigMap', 'Job', 'Job']


@pytest.mark.parametrize(
  ('more', 'words'),
  [
    (['--kubernetes_user=0:0', '--kubernetes_claim=x/../y'], 'no folder within a volume'),
    (['--kubernetes_claim=Upper'], 'no name of a Kubernetes object'),
    (['--kubernetes_user=me'], 'not UID or UID:GID'),
    (['--kubernetes_node=pool'], 'not KEY=VALUE'),
    (['--kubernetes_toleration=-x'], 'not KEY=VALUE'),
    (['--kubernetes_pull=Sometimes'], 'invalid choice'),
    (['--data_dir=/data'], 'no volume holds; name one with --kubernetes_data_claim'),
    (['--data_dir=/logs/data', '--kubernetes_data_claim=d'], "would hide '/logs'"),
    (['--slots=2', '--nodes_per_trial=2'], '--slots=2 cannot hold back'),
  ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path, more, words):
  done = launch(tmp_path, *BOTH, '--dry_run', *more)
  assert done.returncode == 2
  assert words in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr


def test_a_claim_is_needed_and_root_must_be_meant(tmp_path, monkeypatch):
  without = [word for word in BOTH if 'kubernetes_' not in word]
  done = launch(tmp_path, *without, '--dry_run')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert '--kubernetes_claim=NAME' in done.stderr
  monkeypatch.setattr('os.getuid', lambda: 0)
  done = launch(tmp_path, *without, '--dry_run', '--kubernetes_claim=c')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'You are root' in done.stderr
  done = launch(tmp_path, *without, '--dry_run', '--kubernetes_claim=c', '--kubernetes_user=0:0')
  assert done.returncode == 0
  assert 'runAsNonRoot: false' in done.stdout
  monkeypatch.setattr('os.getuid', lambda: 1234)
  done = launch(tmp_path, *without, '--dry_run', '--kubernetes_claim=c')
  assert 'runAsUser: 1234' in done.stdout


def test_a_submission_must_be_where_pods_see_it(tmp_path):
  for framework in ('jax', 'pytorch'):
    (tmp_path / f'{framework}.py').touch()
  plan = [word for word in BOTH if not word.startswith('--submission_path')]
  plan.append(f'--submission_path={tmp_path}/{{framework}}.py')
  done = launch(tmp_path / 'logs', *plan, '--dry_run')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'no pod sees' in done.stderr
  done = launch(
    tmp_path / 'logs', *plan, '--dry_run', '--kubernetes_data_claim=d', f'--data_dir={tmp_path}'
  )
  assert done.returncode == 0, done.stderr


def test_long_names_are_shortened_and_stay_apart():
  plan = Plan('p' * 60, (), (), (), id='0123456789ab')
  names = {manifests.name(plan, 'x' * 40, str(number), room=61) for number in range(100)}
  assert len(names) == 100
  assert max(map(len, names)) <= 61


def test_finished_trials_need_no_job(tmp_path):
  objects = written(tmp_path, *BOTH, '--nodes_per_trial=2')
  folder = PlanFolder(tmp_path)
  plan = folder.load()
  for job in plan.jobs()[1:]:
    state = folder.trial(job).state
    state.parent.mkdir(parents=True)
    state.write_text('{"status": "complete"}')
  assert len(kubelet.jobs(objects)) == 12
  words = ('--engine=kubernetes', '--resume', '--kubernetes_claim=c', '--kubernetes_user=1')
  (left,) = kubelet.jobs(written(tmp_path, *words))
  assert kubelet.words(left, 0)[-1] == '--index=0'
  state = folder.trial(plan.jobs()[0]).state
  state.parent.mkdir(parents=True)
  state.write_text('{"status": "complete"}')
  assert 'nothing to do' in launch(tmp_path, *words).stdout


KUBECTL = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *"get jobs"*) echo '{jobs}';;
  *apply*) echo 'job.batch/one created'; {apply};;
esac
"""


@pytest.fixture
def kubectl(tmp_path, monkeypatch):
  """Makes a kubectl that says what jobs there are, and how its `apply` ends."""
  monkeypatch.setenv('PATH', f'{tmp_path / "bin"}:/bin:/usr/bin')
  log = tmp_path / 'calls'

  def make(*states: str, apply: str = 'true'):
    items = [
      {
        'metadata': {'name': f'job-{number}'},
        'status': {'conditions': [{'type': state, 'status': 'True'}] if state else []},
      }
      for number, state in enumerate(states)
    ]
    path = tmp_path / 'bin' / 'kubectl'
    path.parent.mkdir(exist_ok=True)
    path.write_text(KUBECTL.format(log=log, jobs=json.dumps({'items': items}), apply=apply))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    log.unlink(missing_ok=True)

  make.calls = lambda: [line.split() for line in log.read_text().splitlines()]
  return make


def test_apply_is_only_by_request_and_removes_what_has_ended(tmp_path, kubectl):
  kubectl()
  log_dir = tmp_path / 'logs'
  assert 'kubectl apply -f' in launch(log_dir, *BOTH).stdout
  assert not (tmp_path / 'calls').exists()
  apply = (*BOTH, '--resume', '--kubernetes_apply', '--kubernetes_namespace=bench')
  done = launch(log_dir, *apply)
  assert done.returncode == 0, done.stderr
  assert 'job.batch/one created' in done.stdout
  assert [call[1] for call in kubectl.calls()] == ['get', 'apply']
  assert kubectl.calls()[1] == [
    '--namespace=bench', 'apply', f'--filename={log_dir / "kubernetes"}',
  ]  # fmt: skip
  kubectl('Complete', 'Failed')
  assert launch(log_dir, *apply).returncode == 0
  assert [call[1] for call in kubectl.calls()] == ['get', 'delete', 'apply']
  assert kubectl.calls()[1][3] == f'--selector=algorithmic_efficiency.plan={plan_id(log_dir)}'
  kubectl('Complete', '')
  done = launch(log_dir, *apply)
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'still run in the cluster (job-1' in done.stderr
  assert [call[1] for call in kubectl.calls()] == ['get']


def plan_id(log_dir: Path) -> str:
  return PlanFolder(log_dir).load().id


def test_a_kubectl_that_fails_or_is_not_there_is_told_in_a_line(tmp_path, kubectl, monkeypatch):
  kubectl(apply='echo "error: no cluster" >&2; exit 1')
  done = launch(tmp_path / 'logs', *BOTH, '--kubernetes_apply')
  assert (done.returncode, done.stderr.count('\n')) == (1, 1)
  assert 'error: no cluster' in done.stderr
  monkeypatch.setenv('PATH', str(tmp_path / 'nothing'))
  done = launch(tmp_path / 'logs', *BOTH, '--resume', '--kubernetes_apply')
  assert (done.returncode, done.stderr.count('\n')) == (2, 1)
  assert 'no kubectl' in done.stderr


def small(tmp_path: Path, *more: str) -> list[dict]:
  return written(
    tmp_path / 'launcher', *PLAN, '--frameworks=jax,pytorch', '--flag=max_global_steps=20',
    '--flag=telemetry=off', *more,
  )  # fmt: skip


@pytest.mark.slow
def test_pods_commands_train_the_trials_of_their_indices(tmp_path):
  objects = small(tmp_path, '--trials=2')
  jax, pytorch = kubelet.jobs(objects)
  pods = [kubelet.start(objects, jax, 0, tmp_path), kubelet.start(objects, pytorch, 1, tmp_path)]
  said = [kubelet.end(pod) for pod in pods]
  assert [pod.returncode for pod in pods] == [0, 0], said
  folder = PlanFolder(tmp_path / 'logs' / 'plans' / 'one')
  ended = [job.name for job in plan_of(objects).jobs() if folder.finished(job) is not None]
  assert ended == ['mnist.study_1.digits_jax.run_1', 'mnist.study_1.digits_pytorch.run_2']
  assert folder.load() == plan_of(objects)
  for job in plan_of(objects).jobs():
    if job.name in ended:
      (attempt,) = folder.attempts(job)
      assert (attempt['engine'], attempt['outcome']) == ('kubernetes', 'complete')
      metadata = json.loads((folder.trial(job).path.parent / 'metadata.json').read_text())
      assert metadata['framework'] == job.framework

  again = kubelet.start(objects, jax, 0, tmp_path)  # a pod that its node lost when it had ended
  assert 'ended before: complete' in kubelet.end(again)
  assert again.returncode == 0
  other = small(tmp_path / 'other', '--trials=2')
  refused = kubelet.start(other, kubelet.jobs(other)[0], 0, tmp_path)
  said = kubelet.end(refused)
  assert (refused.returncode, said.count('\n')) == (2, 1)
  assert 'holds another plan' in said


@pytest.mark.slow
@pytest.mark.parametrize('which', [0, 1], ids=['jax', 'pytorch'])
def test_pods_of_a_trial_of_two_nodes_train_together(tmp_path, which):
  objects = small(tmp_path, '--trials=1', '--nodes_per_trial=2')
  job = kubelet.jobs(objects)[which]
  pods = two(objects, job, tmp_path)
  said = [kubelet.end(pod) for pod in pods]
  assert [pod.returncode for pod in pods] == [0, 0], said
  folder = PlanFolder(tmp_path / 'logs' / 'plans' / 'one')
  trial = folder.trial(plan_of(objects).jobs()[which])
  assert trial.read_state()['status'] == 'complete'
  assert json.loads((trial.path.parent / 'metadata.json').read_text())['num_processes'] == 2
  again = two(objects, job, tmp_path)  # also one that is started again alone has nothing to do
  assert [('ended before' in kubelet.end(pod), pod.returncode) for pod in again] == [(True, 0)] * 2


def two(objects: list[dict], job: dict, root: Path) -> list[subprocess.Popen[str]]:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = str(free.getsockname()[1])
  here = {f'{manifests.PREFIX}COORDINATOR': '127.0.0.1', f'{manifests.PREFIX}PORT': port}
  return [kubelet.start(objects, job, number, root, **here) for number in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('which', 'killed'), [(0, 0), (0, 1), (1, 1)], ids=['jax 0', 'jax 1', 'pytorch 1']
)
def test_a_node_that_is_lost_ends_the_others_and_all_go_on(tmp_path, which, killed):
  more = ('--trials=1', '--nodes_per_trial=2', '--flag=data=synthetic', '--retries=1')
  objects = small(tmp_path, *more, '--flag=max_global_steps=1500', '--flag=eval_period_steps=100')
  job = kubelet.jobs(objects)[which]
  folder = PlanFolder(tmp_path / 'logs' / 'plans' / 'one')
  trial = folder.trial(plan_of(objects).jobs()[which])
  pods = two(objects, job, tmp_path)
  until = time.monotonic() + 90
  while trial.num_rows() < 3 and time.monotonic() < until:
    time.sleep(0.05)
  lost, other = psutil.Process(pods[killed].pid), pods[1 - killed]
  for process in [lost, *lost.children(recursive=True)]:  # as the end of a container ends all in it
    process.kill()
  kubelet.end(pods[killed])
  said = kubelet.end(other, 150)  # JAX takes a minute and a half to miss node 1
  assert other.returncode not in (0, 2), said  # counted as a failure, tried again
  assert 0 < trial.num_rows() < 16
  pods = two(objects, job, tmp_path)
  said = [kubelet.end(pod) for pod in pods]
  assert [pod.returncode for pod in pods] == [0, 0], said
  assert trial.read_state()['status'] == 'complete'


def test_a_plan_is_brought_once_and_never_exchanged(tmp_path):
  algorithm = Algorithm('a', 'a.py')
  plan = Plan('one', (algorithm,), ('digits',), ('jax', 'pytorch'), trials=2)
  folder = PlanFolder(tmp_path / 'new')
  folder.bring(plan)
  folder.bring(plan)
  assert folder.load() == plan
  assert sorted(path.name for path in folder.root.iterdir()) == ['jobs', 'plan.json']
  with pytest.raises(UsageError, match='holds another plan'):
    folder.bring(Plan('two', (algorithm,), ('digits',), ('jax',)))
  assert [task.job_of(plan, index, 'pytorch').index for index in range(2)] == [1, 3]
  with pytest.raises(UsageError, match='2 jobs in pytorch and none with index 2'):
    task.job_of(plan, 2, 'pytorch')


def test_a_task_waits_for_an_owner_that_saves_itself(tmp_path, monkeypatch):
  plan = Plan('one', (Algorithm('a', 'a.py'),), ('digits',), ('jax',), resources=Resources())
  folder, said, slept = PlanFolder(tmp_path), [], []
  lock = folder.trial(plan.jobs()[0]).lock
  lock.parent.mkdir(parents=True)
  with all_taken([lock]) as taken:

    def sleep(seconds: float) -> None:
      slept.append(seconds)
      if len(slept) == 3:
        taken[lock].release()

    monkeypatch.setattr(task_process.time, 'sleep', sleep)
    task_process.wait_for_the_dead(lock, 'a', said.append)
  assert len(slept) == 3
  assert len(said) == 1
  assert 'waits until that is over' in said[0]
