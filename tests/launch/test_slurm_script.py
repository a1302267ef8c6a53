"""What is asked of SLURM, without SLURM: arrays, options, the batch script, errors in words."""

import json
import re
import shutil
import subprocess

import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch import (
  endings,
  nodes,
  on_slurm,
  requeue,
  slurm_client,
  slurm_script,
)
from algorithmic_efficiency.launch.plan import Algorithm, Plan, Resources
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slurm_script import How, ranges, split

HOW = How(python='/usr/bin/python3')


def a_plan(trials=4, **given):
  fields = {'frameworks': ('jax',), 'images': {'jax': 'image:cpu'}, 'id': 'abc', **given}
  algorithm = Algorithm('a', 'baselines/mnist/mnist_jax/submission.py')
  return Plan('digits', (algorithm,), ('digits',), trials=trials, **fields)


@pytest.fixture
def folder(tmp_path):
  folder = PlanFolder(tmp_path / "it's a folder 100%j")
  folder.save(a_plan())
  return folder


def write(plan, folder, how=HOW):
  return slurm_script.text(plan, folder, how)


@pytest.mark.parametrize(
  ('indices', 'expected'),
  [([0], '0'), ([0, 1], '0-1'), ([5, 3, 0, 4], '0,3-5'), ([1, 3, 5], '1,3,5'), ([], '')],
)
def test_ranges(indices, expected):
  assert ranges(indices) == expected


def test_what_is_larger_than_an_array_becomes_several():
  arrays = split([0, 1000, 1001, 2001, 2002, 3002], most=1001)
  assert arrays == [(0, [0, 1000]), (1001, [0, 1000]), (2002, [0, 1000])]
  assert [offset + i for offset, indices in arrays for i in indices] == [
    0, 1000, 1001, 2001, 2002, 3002,
  ]  # fmt: skip


def test_each_job_is_in_one_array_and_slots_limit_it(folder):
  plan = a_plan(2500)
  calls = on_slurm.Slurm(plan, folder, HOW).commands(plan.jobs()[3:], 8, 1001)
  assert [c[0][3] for c in calls] == ['--array=3-1000%8', '--array=0-1000%8', '--array=0-497%8']
  assert [c[0][-1] for c in calls] == ['0', '1001', '2002']
  assert [index for c in calls for index in c[1]] == list(range(3, 2500))


@pytest.mark.parametrize('container', slurm_script.CONTAINERS)
@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('accelerator', ['cpu', 'cuda'])
def test_the_script_is_bash(folder, container, count, accelerator):
  resources = Resources(accelerator, nodes=count, cpus=1.5, memory_bytes=2**30)
  how = How(container, "/images/it's.sif", '/usr/bin/python3')
  script = write(a_plan(resources=resources), folder, how)
  parsed = subprocess.run(['bash', '-n'], input=script, capture_output=True, text=True, timeout=30)
  assert not parsed.stderr
  assert parsed.returncode == 0
  assert ('ALGORITHMIC_EFFICIENCY_COORDINATOR=' in script) == (count == 2)
  if shutil.which('shellcheck'):
    checked = subprocess.run(
      ['shellcheck', '-'], input=script, capture_output=True, text=True, timeout=30
    )
    assert not checked.stdout


def test_the_script_asks_for_what_a_trial_gets(folder):
  resources = Resources('cuda', devices=2, nodes=3, cpus=1.5, memory_bytes=2**30 + 1)
  script = write(a_plan(resources=resources), folder, How(python='p', signal_sec=90))
  asked = set(re.findall('^#SBATCH (.*)$', script, re.M))
  assert {
    '--requeue', '--open-mode=append', '--signal=TERM@90', '--nodes=3', '--ntasks-per-node=1',
    '--cpus-per-task=2', '--mem=1025M', '--gres=gpu:2',
    f'--output="{folder.root}/slurm/%A_%a.log"'.replace('100%j', '100%%j'),
  } <= asked  # fmt: skip
  assert 'srun --nodes=3 --ntasks=3 --ntasks-per-node=1 --cpus-per-task=2' in script
  other = write(a_plan(resources=Resources('cuda')), folder, How(python='p', gres='gpu:a100'))
  assert '#SBATCH --gres=gpu:a100:1\n' in other
  assert '--cpus-per-task' not in other


def test_a_task_never_puts_back_the_whole_array(folder):
  requeues = re.findall(r'^\s*scontrol requeue .*$', write(a_plan(), folder), re.M)
  assert requeues == ['  scontrol requeue "$job"']


def test_a_gaudi_has_its_own_name(folder):
  plan = a_plan(resources=Resources('hpu', devices=8))
  assert '#SBATCH --gres=hpu:8\n' in write(plan, folder)


def test_containers_see_the_same_paths(folder, tmp_path):
  data, submission = tmp_path / 'data', tmp_path / 'mine' / 'submission.py'
  data.mkdir()
  submission.parent.mkdir()
  submission.touch()
  plan = Plan(
    'p', (Algorithm('a', str(submission)),), ('digits',), ('jax',), data_dir=str(data),
    resources=Resources('cuda'),
  )  # fmt: skip
  script = write(plan, folder, How('apptainer', '/i.sif'))
  assert f'--bind={data}:{data}:ro' in script
  assert f'--bind={submission.parent}:{submission.parent}:ro' in script
  assert 'apptainer run --no-home' in script
  assert '--nv' in script
  docker = write(plan, folder, How('docker', 'image:cuda'))
  assert f'source={data},target={data},readonly' in docker
  assert '--gpus="\\"device=${SLURM_STEP_GPUS:-${SLURM_JOB_GPUS:-}}\\""' in docker
  assert f'--label=algorithmic_efficiency.plan={plan.id}' in docker


@pytest.mark.parametrize('letter', ['\n', '"', '\\'])
def test_a_path_that_a_script_cannot_hold_is_refused(tmp_path, letter):
  with pytest.raises(UsageError, match='rename it'):
    write(a_plan(), PlanFolder(tmp_path / f'a{letter}b'))


@pytest.mark.parametrize(
  ('said', 'meant'),
  [
    ('sbatch: error: invalid partition specified: gpus', 'no partition gpus; sinfo'),
    ('error: Memory specification can not be satisfied', 'no node has so much memory'),
    ('Requested node configuration is not available', 'no node has the CPUs'),
    ('Invalid generic resource (gres) specification', 'no such gres'),
    ('Invalid account or account/partition combination specified', 'the account may not'),
    ("sbatch: unrecognized option '--colour=red'", 'no option --colour=red'),
    ('something new', "it says 'something new'"),
  ],
)
def test_a_refusal_in_words(said, meant):
  assert meant in slurm_client.explain(said)


def test_slurm_that_is_not_there_is_one_sentence(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  with pytest.raises(UsageError, match='no squeue'):
    slurm_client.queue('x')


def fake(tmp_path, monkeypatch, name, script):
  path = tmp_path / name
  path.write_text(f'#!/bin/bash\n{script}\n')
  path.chmod(0o755)
  monkeypatch.setenv('PATH', f'{tmp_path}:/usr/bin:/bin')


def test_the_queue_is_told_by_job_names(tmp_path, monkeypatch):
  lines = '12_3|RUNNING|None|ours-0\n13_1|PENDING|PartitionConfig|ours-1001\n14|RUNNING||ours-0'
  lines += '\n15_1|RUNNING|None|other-0'
  fake(tmp_path, monkeypatch, 'squeue', f"echo '{lines}'")
  queue = slurm_client.queue('ours-')
  assert queue[('ours-0', 3)] == ('RUNNING', 'None')
  assert queue[('ours-1001', 1)].why_for_ever.startswith('the partition has no node')
  assert len(queue) == 2


def test_a_controller_that_does_not_answer_is_told_from_a_refusal(tmp_path, monkeypatch):
  said = 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)'
  fake(tmp_path, monkeypatch, 'squeue', f"echo '{said}' >&2; exit 1")
  with pytest.raises(slurm_client.NoAnswer, match='controller does not answer'):
    slurm_client.queue('x')


def test_the_batch_scripts_address_counts_more_than_a_nodes_name():
  environ = {
    'SLURM_NODEID': '1', 'SLURM_JOB_ID': '7', 'SLURM_JOB_NUM_NODES': '2',
    'SLURM_JOB_NODELIST': 'gpu[03-04]',
  }  # fmt: skip
  place = nodes.this_node(environ, 2)
  assert (place.node, place.coordinator) == (1, 'gpu03')
  better = nodes.this_node({**environ, 'ALGORITHMIC_EFFICIENCY_COORDINATOR': '10.0.0.3'}, 2)
  assert (better.coordinator, better.port) == ('10.0.0.3', place.port)
  again = nodes.this_node({**environ, 'SLURM_RESTART_COUNT': '1'}, 2)
  assert again.port != place.port


def attempt(number, outcome=None, job_id='1_0', step=0):
  ended = {} if outcome is None else {'ended': 1.0, 'outcome': outcome, 'global_step': step}
  return {'attempt': number, 'job_id': job_id, 'started': 0.0, **ended}


@pytest.mark.parametrize(
  ('attempts', 'code', 'expected'),
  [
    ([attempt(1, endings.SAVED)], 75, 75),
    ([attempt(1, endings.STOPPED)], 143, 75),
    ([attempt(1, endings.KILLED)], 137, 75),
    ([attempt(1, endings.FAILED)], 1, 75),
    ([attempt(1, endings.REFUSED)], 2, 2),
    ([attempt(1)], 137, 75),  # its task was killed too
    ([], 1, 75),  # its container did not start
    ([attempt(1, endings.KILLED), attempt(2, endings.KILLED)], 137, 137),  # one retry is given
    ([attempt(1, endings.KILLED), attempt(2, endings.SAVED), attempt(3, endings.LOST),
      attempt(4, endings.SAVED)], 75, 75),
    ([attempt(1, endings.KILLED, '9_0'), attempt(2, endings.KILLED)], 137, 75),
    ([attempt(n, endings.SAVED, step=n) for n in range(9)], 75, 75),
    ([attempt(n, endings.SAVED, step=7) for n in range(5)], 75, 1),  # its time limit is too short
  ],
)  # fmt: skip
def test_which_jobs_go_back_into_the_queue(tmp_path, attempts, code, expected):
  plan, folder = a_plan(retries=1), PlanFolder(tmp_path)
  folder.save(plan)
  job = plan.jobs()[2]
  folder.record(job, attempts)
  assert requeue.after(tmp_path, 2, 'slurm', '1_0', code) == expected
  last = folder.attempts(job)[-1]
  assert last['job_id'] == '1_0'
  assert last['outcome']
  assert last['ended']


def test_a_run_below_torchrun_that_was_saved_is_told_by_its_record(tmp_path):
  plan, folder = a_plan(), PlanFolder(tmp_path)
  job = plan.jobs()[0]
  before = endings.stamp(folder, job)
  folder.trial(job).path.mkdir(parents=True)
  state = {'status': 'interrupted', 'reason': 'SIGTERM at step 7, saved'}
  folder.trial(job).state.write_text(json.dumps(state))
  failed = endings.Exit(1)
  assert endings.ending(folder, job, failed, 0, before).outcome == endings.SAVED
  same = endings.stamp(folder, job)
  assert endings.ending(folder, job, failed, 0, same).outcome == endings.BROKEN
