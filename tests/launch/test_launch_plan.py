"""A plan: what a file or flags make of it, all that can be wrong with it, and its seeds."""

import json
import sys

import numpy as np
import pytest
import scripts_in_process
import yaml

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import plan as plans
from algorithmic_efficiency.launch import reading
from algorithmic_efficiency.launch.command import ROOT, flags_of, words
from algorithmic_efficiency.launch.plan_folder import PlanFolder

GOOD = {
  'name': 'two',
  'seed': 7,
  'studies': 2,
  'trials': 3,
  'workloads': ['digits', 'mnist'],
  'frameworks': ['jax', 'pytorch'],
  'submissions': {
    'plain': {
      'submission_path': 'baselines/mnist/mnist_{framework}/submission.py',
      'tuning_search_space': 'baselines/mnist/tuning_search_space.json',
    },
    'adamw': {
      'submission_path': 'baselines/adamw/{framework}/submission.py',
      'tuning_search_space': 'baselines/adamw/tuning_search_space.json',
    },
  },
  'flags': {'max_global_steps': 5, 'save_checkpoints': False},
  'memory': '2g',
  'cpus': 1.5,
  'retries': 1,
}
RUNNER_FLAGS = ['max_global_steps', 'save_checkpoints', 'eval_period_steps']


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
  monkeypatch.chdir(ROOT)


def read(**changes):
  given = {k: v for k, v in {**GOOD, **changes}.items() if v is not ...}
  return reading.read(given, RUNNER_FLAGS)


def test_a_plan_has_every_combination_once():
  jobs = read().jobs()
  assert len(jobs) == 2 * 3 * 2 * 2 * 2
  assert len({job.name for job in jobs}) == len(jobs)
  assert [job.index for job in jobs] == list(range(len(jobs)))
  assert jobs[0].name == 'plain.study_1.digits_jax.run_1'
  assert jobs[-1].name == 'adamw.study_2.mnist_pytorch.run_3'


def test_sizes_are_binary_as_docker_has_them():
  for text, size in (('2g', 2 << 30), ('512m', 512 << 20), ('1.5GiB', 3 << 29), (4096, 4096)):
    assert read(memory=text).resources.memory_bytes == size


def test_studies_have_seeds_of_their_own_that_numpy_would_give():
  plan = read()
  assert plan.study_seed(0) != plan.study_seed(1)
  by_numpy = np.random.SeedSequence(7, spawn_key=(1,)).generate_state(1)[0]
  assert plan.study_seed(1) == int(by_numpy)
  assert read(seed=8).study_seed(0) != plan.study_seed(0)


def test_all_that_is_compared_in_a_study_has_its_seed(tmp_path):
  plan = read()
  seeds = {}
  for job in plan.jobs():
    flags = flags_of(plan, job, PlanFolder(tmp_path))
    seeds.setdefault(job.study, set()).update(f for f in flags if f.startswith('--rng_seed='))
  assert {len(found) for found in seeds.values()} == {1}


def test_a_job_is_one_trial_of_a_command(tmp_path):
  plan = read()
  job = plan.jobs()[-1]
  flags = flags_of(plan, job, PlanFolder(tmp_path))
  assert flags == [
    '--workload=mnist_pytorch', '--framework=pytorch',
    '--submission_path=baselines/adamw/pytorch/submission.py', '--tuning_ruleset=external',
    '--tuning_search_space=baselines/adamw/tuning_search_space.json', '--num_tuning_trials=3',
    '--hparam_start_index=2', '--hparam_end_index=3', f'--rng_seed={plan.study_seed(1)}',
    '--device=cpu', f'--log_dir={tmp_path}/adamw/study_2', '--resume', '--max_global_steps=5',
    '--nosave_checkpoints',
  ]  # fmt: skip


def test_pytorch_gets_a_process_for_each_device_and_jax_one_for_all(tmp_path):
  plan = read(accelerator='cuda', devices_per_trial=4)
  by_framework = {job.framework: job for job in plan.jobs()}
  pytorch = words(plan, by_framework['pytorch'], PlanFolder(tmp_path))
  assert pytorch[1:5] == ['-m', 'torch.distributed.run', '--nproc_per_node=4', '--standalone']
  assert 'torch.distributed.run' not in words(plan, by_framework['jax'], PlanFolder(tmp_path))


def test_a_plan_is_the_same_after_its_file(tmp_path):
  plan = read()
  folder = PlanFolder(tmp_path / 'logs')
  folder.save(plan)
  assert folder.load() == plan
  assert not plans.differences(plan, folder.load())


@pytest.mark.parametrize(
  'changes, words_',
  [
    ({'workloads': ['digts']}, "did you mean 'digits'?"),
    ({'workloads': []}, 'workloads must be one or more names'),
    ({'workloads': ...}, 'workloads is missing'),
    ({'workloads': ['digits', 'digits']}, 'names one twice'),
    ({'frameworks': ['jaxx']}, "did you mean 'jax'?"),
    ({'frameworks': 3}, 'frameworks must be one or more names, and is 3'),
    ({'accelerator': 'gpu'}, "No accelerator is called 'gpu'"),
    ({'accelerator': 'hpu'}, 'JAX does not train on Gaudis'),
    ({'devices_per_trial': 2}, 'a CPU is one device'),
    ({'trials': 0}, 'trials must be a whole number, at least 1'),
    ({'trials': True}, 'trials must be a whole number, at least 1'),
    ({'seed': 'x'}, "and is 'x'"),
    ({'cpus': -1}, 'cpus must be a number above 0'),
    ({'memory': '2 apples'}, 'memory must be a size such as 512m or 8g'),
    ({'flags': {'max_steps': 1}}, "No flag of submission_runner is called 'max_steps'"),
    ({'flags': {'log_dir': 'x'}}, 'which the launcher sets itself'),
    ({'flags': {'max_global_steps': None}}, 'must have a value'),
    ({'flags': [1]}, 'flags must map flags'),
    ({'trails': 3}, "did you mean 'trials'?"),
    ({'submissions': {'a/b': {'submission_path': 'x'}}}, "'a/b' cannot name a submission"),
    ({'submissions': {'jobs': 'baselines'}}, "'jobs' cannot name a submission"),
    ({'submissions': {'a': {}}}, "'a' has no submission_path"),
    ({'submissions': {'a': 'nowhere/{framework}.py'}}, "'nowhere/pytorch.py', which is not there"),
    ({'submissions': {'a': 'baselines'}}, 'has no tuning_search_space'),
    ({'submissions': ...}, 'submissions is missing'),
    ({'submission_path': 'baselines'}, 'Give either submissions or submission_path'),
    ({'name': 3}, 'name must be text'),
  ],
)
def test_every_fault_has_its_sentence(changes, words_):
  with pytest.raises(UsageError) as caught:
    read(**changes)
  assert words_ in str(caught.value)
  assert '\n' not in str(caught.value)


def test_all_faults_are_told_at_once():
  with pytest.raises(UsageError, match='The plan has 3 faults: ') as caught:
    read(trials=0, workloads=['digts'], memory='x')
  for words_ in ('digts', 'trials', 'memory'):
    assert words_ in str(caught.value)


SCRIPT = ROOT / 'scripts' / 'launch.py'


def launch(*arguments):
  return scripts_in_process.run(SCRIPT, *arguments)


@pytest.fixture
def plan_file(tmp_path):
  path = tmp_path / 'plan.yaml'
  path.write_text(yaml.safe_dump(GOOD))
  return path


def test_dry_run_prints_a_command_for_each_job_and_writes_nothing(tmp_path, plan_file):
  logs = tmp_path / 'logs'
  for engine, beginning in (('docker', 'docker run --detach'), ('processes', sys.executable)):
    out = launch(plan_file, f'--log_dir={logs}', f'--engine={engine}', '--dry_run')
    assert out.returncode == 0, out.stderr
    lines = out.stdout.splitlines()
    assert len(lines) == 48
    assert all(line.startswith(beginning) for line in lines)
  assert not logs.exists()


def test_flags_count_more_than_the_file(tmp_path, plan_file):
  out = launch(plan_file, f'--log_dir={tmp_path / "logs"}', '--engine=processes', '--dry_run',
               '--trials=1', '--workloads=digits', '--flag=max_global_steps=9')  # fmt: skip
  assert len(out.stdout.splitlines()) == 8
  assert '--max_global_steps=9 --nosave_checkpoints' in out.stdout


@pytest.mark.parametrize(
  'text, words_',
  [
    ('seed: [', 'is not YAML'),
    ('- 1\n- 2\n', 'is no mapping'),
    ('\x00', 'is not YAML'),
  ],
)
def test_a_file_that_is_no_plan_is_refused_in_a_line(tmp_path, text, words_):
  path = tmp_path / 'plan.yaml'
  path.write_text(text)
  out = launch(path, f'--log_dir={tmp_path / "logs"}')
  assert (out.returncode, out.stderr.count('\n')) == (2, 1)
  assert words_ in out.stderr


def test_a_plan_that_is_there_is_only_gone_on_with(tmp_path, plan_file):
  logs = tmp_path / 'logs'
  PlanFolder(logs).save(read())
  out = launch(plan_file, f'--log_dir={logs}', '--engine=processes')
  assert out.returncode == 2
  assert '--resume goes on with it' in out.stderr
  out = launch(plan_file, f'--log_dir={logs}', '--engine=processes', '--resume', '--seed=9')
  assert 'seed was 7 and is 9' in out.stderr
  out = launch(f'--log_dir={logs}', '--engine=processes')
  assert 'No plan is given' in out.stderr
  out = launch(f'--log_dir={tmp_path / "none"}', '--engine=processes', '--resume')
  assert 'holds no plan' in out.stderr
  (logs / 'plan.json').write_text(json.dumps({'schema': 99}))
  out = launch(f'--log_dir={logs}', '--engine=processes', '--resume')
  assert 'has schema 99' in out.stderr


def test_two_launchers_do_not_share_a_folder(tmp_path, plan_file):
  folder = PlanFolder(tmp_path / 'logs')
  with folder.held():
    out = launch(plan_file, f'--log_dir={folder.root}', '--engine=processes')
  assert out.returncode == 2
  assert 'is being run by process' in out.stderr


def test_devices_are_for_accelerators(tmp_path, plan_file):
  out = launch(plan_file, f'--log_dir={tmp_path / "logs"}', '--devices=0', '--dry_run')
  assert out.returncode == 2
  assert '--devices chooses accelerators' in out.stderr
  for devices, words_ in (('0,0', 'names a device twice'), ('0', 'do not make 1 slot(s) of 2')):
    out = launch(plan_file, f'--log_dir={tmp_path / "logs"}', f'--devices={devices}', '--dry_run',
                 '--accelerator=cuda', '--devices_per_trial=2')  # fmt: skip
    assert out.returncode == 2
    assert words_ in out.stderr


def test_gpus_are_given_by_uuid_and_gaudis_by_module(tmp_path, plan_file):
  logs = f'--log_dir={tmp_path / "logs"}'
  out = launch(plan_file, logs, '--accelerator=cuda', '--devices=GPU-a,GPU-b', '--dry_run')
  assert '\'--gpus="device=GPU-a"\'' in out.stdout
  assert '\'--gpus="device=GPU-b"\'' in out.stdout
  out = launch(plan_file, logs, '--accelerator=hpu', '--devices=0,1,2,3', '--devices_per_trial=2',
               '--frameworks=pytorch', '--dry_run')  # fmt: skip
  assert '--env=HABANA_VISIBLE_DEVICES=2,3 --' in out.stdout
  assert '--runtime=habana' in out.stdout
  assert 'python3 -m torch.distributed.run --nproc_per_node=2 --standalone' in out.stdout
