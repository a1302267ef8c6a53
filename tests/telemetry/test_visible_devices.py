"""Tests of which devices are the job's, in every spelling that CUDA and Habana know."""

import pytest

from algorithmic_efficiency.telemetry.devices import cuda_visible, habana_visible

UUIDS = ('GPU-aaaa1111-0', 'GPU-aaab2222-1', 'GPU-cccc3333-2')


@pytest.mark.parametrize(
  ('value', 'expected'),
  [
    (None, [0, 1, 2]),
    ('', []),
    ('-1', []),
    ('NoDevFiles', []),
    ('1', [1]),
    ('2,0', [2, 0]),
    (' 2 , 0 ', [2, 0]),
    ('0,7,1', [0]),
    ('0,-1,1', [0]),
    ('0,x', [0]),
    ('1,1', []),
    ('GPU-cccc3333-2', [2]),
    ('GPU-cccc,GPU-aaab', [2, 1]),
    ('GPU-aaa', []),
    ('GPU-', []),
    ('cccc', []),
    ('MIG-GPU-aaab2222-1/3/0', [1]),
    ('MIG-GPU-aaab2222-1/3/0,MIG-GPU-aaab2222-1/4/0', [1]),
    ('9', []),
  ],
)
def test_cuda_visible_devices(value, expected):
  environ = {} if value is None else {'CUDA_VISIBLE_DEVICES': value}
  assert cuda_visible(UUIDS, environ) == expected


@pytest.mark.parametrize(
  ('environ', 'expected'),
  [
    ({}, [0, 1, 2, 3]),
    ({'HABANA_VISIBLE_MODULES': '6,2'}, [0, 2]),
    ({'HABANA_VISIBLE_MODULES': 'all'}, [0, 1, 2, 3]),
    ({'HABANA_VISIBLE_MODULES': ''}, []),
    ({'HABANA_VISIBLE_DEVICES': '0,3'}, [0, 3]),
    ({'HABANA_VISIBLE_DEVICES': 'all'}, [0, 1, 2, 3]),
    ({'HABANA_VISIBLE_MODULES': '4', 'HABANA_VISIBLE_DEVICES': '0'}, [1]),
  ],
)
def test_habana_modules_are_ids_and_devices_are_indices(environ, expected):
  assert habana_visible([6, 4, 2, 7], environ) == expected
