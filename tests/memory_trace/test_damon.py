"""What DAMON's backend says before it does anything, against a made-up sysfs."""

import os
from pathlib import Path

import numpy as np
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import damon
from algorithmic_efficiency.memory_trace.mappings import PAGE_BYTES


@pytest.fixture
def root(tmp_path):
  kdamonds = tmp_path / 'kernel/mm/damon/admin/kdamonds'
  kdamonds.mkdir(parents=True)
  (kdamonds / 'nr_kdamonds').write_text('0\n')
  return tmp_path


def admin(root: Path) -> Path:
  return root / 'kernel/mm/damon/admin/kdamonds'


def test_usable_where_nobody_uses_it(root):
  assert damon.Backend(root=root).probe() == ''


def test_a_kernel_without_it(tmp_path):
  assert 'built without CONFIG_DAMON_SYSFS' in damon.Backend(root=tmp_path).probe()


@pytest.mark.parametrize('state', ['on', 'off'])
def test_somebody_elses_is_left_alone(root, state):
  (admin(root) / 'nr_kdamonds').write_text('1\n')
  (admin(root) / '0').mkdir()
  (admin(root) / '0' / 'state').write_text(f'{state}\n')
  backend = damon.Backend(root=root)
  before = {path: path.read_bytes() for path in root.rglob('*') if path.is_file()}
  reason = backend.probe()
  assert reason.startswith('DAMON is in use by somebody else (1 kdamonds')
  assert ('none of which runs' in reason) == (state == 'off')
  with pytest.raises(UsageError, match='in use by somebody else'):
    backend.watch(None, [])
  assert {path: path.read_bytes() for path in root.rglob('*') if path.is_file()} == before


@pytest.mark.parametrize('module', ['damon_reclaim', 'damon_lru_sort'])
def test_the_kernels_own_users(root, module):
  enabled = root / 'module' / module / 'parameters/enabled'
  enabled.parent.mkdir(parents=True)
  enabled.write_text('N\n')
  assert damon.Backend(root=root).probe() == ''
  enabled.write_text('Y\n')
  assert f'in use by the kernel module {module}' in damon.Backend(root=root).probe()


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_root_only(root):
  (admin(root) / 'nr_kdamonds').chmod(0o444)
  assert 'root only' in damon.Backend(root=root).probe()


def test_a_window_that_is_too_short():
  with pytest.raises(UsageError, match=r'take 0\.01 s at least'):
    damon.Backend(sample_sec=0.005)


def test_regions_are_cut_to_mappings():
  smaps = b''.join(
    f'{begin:x}-{end:x} rw-p 00000000 00:00 0 {path}\nRss:  8 kB\nAnonHugePages:  0 kB\n'.encode()
    for begin, end, path in (
      (0x10000, 0x20000, ''),
      (0x20000, 0x28000, '[heap]'),
      (0x40000, 0x50000, ''),
    )
  )
  rows = np.array([[0x8000, 0x12000], [0x1E000, 0x48000]])
  watch = object.__new__(damon.Watch)
  watch._keeps = [lambda mapping: mapping.path != '[heap]']
  touched = watch.decode(damon.Raw(damon.Regions(1, rows), smaps))
  assert touched.units is not None
  assert touched.units.tolist() == [[0x10, 2], [0x1E, 2], [0x40, 8]]
  assert [extent.touched for extent in touched.extents] == [4 * PAGE_BYTES, 8 * PAGE_BYTES]
  assert (touched.virtual, touched.resident) == (0x28000, 3 * 8192)
