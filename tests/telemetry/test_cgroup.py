"""Tests of control groups: trees of files as both versions have them, and a real group."""

import contextlib
import json
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from conftest import ROOT

from algorithmic_efficiency.records import columns
from algorithmic_efficiency.telemetry.cgroup import Cgroup

MIB = 1024 * 1024


def tree(root, mounts, groups, files):
  """A /proc and a /sys of this process below `root`."""
  for path, text in {
    'proc/self/mountinfo': ''.join(f'{line}\n' for line in mounts),
    'proc/self/cgroup': ''.join(f'{line}\n' for line in groups),
    **files,
  }.items():
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)
  return Cgroup(root=root)


V2 = ['30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw']


def test_version_2_with_limits_of_the_groups_above(tmp_path):
  cgroup = tree(tmp_path, V2, ['0::/slurm/job_7/task_0'], {
    'sys/fs/cgroup/slurm/memory.max': 'max\n',
    'sys/fs/cgroup/slurm/job_7/memory.max': f'{512 * MIB}\n',
    'sys/fs/cgroup/slurm/job_7/cpu.max': '50000 100000\n',
    'sys/fs/cgroup/slurm/job_7/task_0/memory.max': 'max\n',
    'sys/fs/cgroup/slurm/job_7/task_0/cpu.max': 'max 100000\n',
    'sys/fs/cgroup/slurm/job_7/task_0/memory.current': f'{300 * MIB}\n',
    'sys/fs/cgroup/slurm/job_7/task_0/memory.stat': f'anon 5\ninactive_file {100 * MIB}\n',
    'sys/fs/cgroup/slurm/job_7/task_0/memory.events': 'low 0\noom 3\noom_kill 2\n',
    'sys/fs/cgroup/slurm/job_7/task_0/cpu.stat': 'usage_usec 2500000\nthrottled_usec 1250000\n',
  })  # fmt: skip
  assert cgroup.probe()[0]
  reading = cgroup.read()
  assert reading.pop('cgroup.cpu.cores_used_since_last') == 0
  assert reading == {
    'cgroup.mem.limit_bytes': 512 * MIB,
    'cgroup.cpu.limit_cores': 0.5,
    'cgroup.mem.used_bytes': 300 * MIB,
    'cgroup.mem.working_set_bytes': 200 * MIB,
    'cgroup.mem.oom_kills': 2,
    'cgroup.cpu.sec': 2.5,
    'cgroup.cpu.throttled_sec': 1.25,
  }
  assert [name for name in reading if columns.find(name) is None] == []


def test_version_1_in_a_container_that_sees_its_own_part_of_the_tree(tmp_path):
  mounts = [
    '40 30 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory',
    '41 30 0:31 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct',
    '42 30 0:32 / /sys/fs/cgroup/systemd ro - cgroup cgroup rw,name=systemd',
  ]
  groups = ['5:memory:/docker/abc', '4:cpu,cpuacct:/docker/abc', '1:name=systemd:/docker/abc']
  cgroup = tree(tmp_path, mounts, groups, {
    'sys/fs/cgroup/memory/memory.limit_in_bytes': f'{512 * MIB}\n',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': f'{100 * MIB}\n',
    'sys/fs/cgroup/memory/memory.stat': f'total_inactive_file {25 * MIB}\n',
    'sys/fs/cgroup/memory/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 1\n',
    'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us': '50000\n',
    'sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us': '100000\n',
    'sys/fs/cgroup/cpu,cpuacct/cpuacct.usage': '7500000000\n',
    'sys/fs/cgroup/cpu,cpuacct/cpu.stat': 'nr_periods 9\nthrottled_time 500000000\n',
  })  # fmt: skip
  assert cgroup.probe()[0]
  reading = cgroup.read()
  reading.pop('cgroup.cpu.cores_used_since_last')
  assert reading == {
    'cgroup.mem.limit_bytes': 512 * MIB,
    'cgroup.cpu.limit_cores': 0.5,
    'cgroup.mem.used_bytes': 100 * MIB,
    'cgroup.mem.working_set_bytes': 75 * MIB,
    'cgroup.mem.oom_kills': 1,
    'cgroup.cpu.sec': 7.5,
    'cgroup.cpu.throttled_sec': 0.5,
  }


def test_processor_time_that_is_counted_with_that_of_others_is_left_out(tmp_path):
  mounts = [
    '40 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '41 30 0:31 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct',
  ]
  cgroup = tree(tmp_path, mounts, ['5:memory:/job', '4:cpuacct:/'], {
    'sys/fs/cgroup/memory/job/memory.usage_in_bytes': '1000\n',
    'sys/fs/cgroup/cpuacct/cpuacct.usage': '7500000000\n',
  })  # fmt: skip
  assert cgroup.probe()[0]
  assert cgroup.read() == {'cgroup.mem.used_bytes': 1000}


def test_no_limit_has_no_column(tmp_path):
  mounts = [
    '40 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '41 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu',
  ]
  cgroup = tree(tmp_path, mounts, ['5:memory:/', '4:cpu:/'], {
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': '1000\n',
    'sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
    'sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
  })  # fmt: skip
  assert cgroup.probe()[0]
  assert cgroup.read() == {'cgroup.mem.used_bytes': 1000}


@pytest.mark.parametrize('files', [{}, {'proc/self/cgroup': 'garbage\n'}])
def test_a_machine_without_control_groups_says_so(tmp_path, files):
  for path, text in files.items():
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
  available, reason = Cgroup(root=tmp_path).probe()
  assert not available
  assert reason


def test_a_group_that_vanishes_raises_nothing(tmp_path):
  file = 'sys/fs/cgroup/a/memory.current'
  cgroup = tree(tmp_path, V2, ['0::/a'], {file: '5\n'})
  assert cgroup.probe()[0]
  (tmp_path / file).unlink()
  assert cgroup.read() == {}


@contextlib.contextmanager
def real_group():
  """Words of a shell that make it join a group of 512 MiB and half a processor."""
  name = f'algorithmic_efficiency_{uuid.uuid4().hex[:8]}'
  base = Path('/sys/fs/cgroup')
  if (base / 'cgroup.controllers').exists():
    limits = {base / name: {'memory.max': str(512 * MIB), 'cpu.max': '50000 100000'}}
  else:
    limits = {
      base / 'memory' / name: {'memory.limit_in_bytes': str(512 * MIB)},
      base / 'cpu' / name: {'cpu.cfs_quota_us': '50000'},
    }
  made = []
  try:
    try:
      for folder, files in limits.items():
        folder.mkdir()
        made.append(folder)
        for file, text in files.items():
          (folder / file).write_text(text)
    except OSError as error:
      pytest.skip(f'no control group can be made here: {error}')
    yield '; '.join(f'echo $$ > {folder}/cgroup.procs' for folder in made)
  finally:
    for folder in made:
      folder.rmdir()


PROGRAM = """
import json, time
import psutil
from algorithmic_efficiency.telemetry.cgroup import Cgroup
cgroup = Cgroup()
assert cgroup.probe()[0]
block = bytearray(100 << 20)
end = time.monotonic() + 1.0
while time.monotonic() < end: pass
print(json.dumps({**cgroup.read(), 'host': psutil.virtual_memory().total}))
"""


def test_a_real_group_of_half_a_processor_and_512_mebibytes():
  with real_group() as join:
    done = subprocess.run(
      ['sh', '-c', f'{join}; exec "$@"', 'sh', sys.executable, '-c', PROGRAM],
      capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
  assert done.returncode == 0, done.stderr
  reading = json.loads(done.stdout)
  assert reading['cgroup.mem.limit_bytes'] == 512 * MIB
  assert reading['cgroup.cpu.limit_cores'] == 0.5
  assert 100 * MIB < reading['cgroup.mem.used_bytes'] < 512 * MIB
  assert reading['host'] > 512 * MIB  # what a recorder without control groups would believe
  if 'cgroup.cpu.throttled_sec' in reading:
    assert reading['cgroup.cpu.throttled_sec'] > 0.1
