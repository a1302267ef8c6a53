"""Tests of the reader of IDX files, against files packed here byte by byte."""

import gzip
import struct

import numpy as np
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import idx_files


def pack(shape, elements, element_type=8):
  header = struct.pack('>HBB', 0, element_type, len(shape)) + struct.pack(f'>{len(shape)}I', *shape)
  return header + bytes(elements)


def read(tmp_path, content, name='images', num_dimensions=3):
  path = tmp_path / name
  path.write_bytes(content)
  return idx_files.read(path, num_dimensions, 'fetch it again')


@pytest.mark.parametrize('name', ['images', 'images.gz'])
def test_elements_come_back_in_their_places(tmp_path, name):
  content = pack((2, 3, 4), range(24))
  array = read(tmp_path, gzip.compress(content, mtime=0) if name.endswith('.gz') else content, name)
  assert array.dtype == np.uint8
  assert array.shape == (2, 3, 4)
  assert array[1, 2, 3] == 23
  assert array[0, 1].tolist() == [4, 5, 6, 7]
  array[0, 0, 0] = 9  # torch.from_numpy warns about arrays that cannot be written


def test_one_dimension(tmp_path):
  assert read(tmp_path, pack((5,), [3, 1, 4, 1, 5]), num_dimensions=1).tolist() == [3, 1, 4, 1, 5]


WHOLE = pack((2, 3, 4), range(24))


@pytest.mark.parametrize(
  ('name', 'content', 'reason'),
  [
    ('a', b'', 'begins with two zero bytes'),
    ('a', b'PK\3\4' + WHOLE, 'begins with two zero bytes'),
    ('a', gzip.compress(WHOLE, mtime=0), 'begins with two zero bytes'),
    ('a', pack((2, 3, 4), range(24), element_type=0x0D), 'element type is 0x0d'),
    ('a', pack((6, 4), range(24)), 'has 2 dimensions and must have 3'),
    ('a', WHOLE[:10], 'inside its header'),
    ('a', WHOLE[:-1], r'promises 24 bytes of shape \(2, 3, 4\), it has 23'),
    ('a', WHOLE + b'\0', 'it has 25'),
    ('a.gz', WHOLE, 'not a sound gzip file'),
    ('a.gz', b'', 'begins with two zero bytes'),
    ('a.gz', gzip.compress(WHOLE, mtime=0)[:-12], 'cut short'),
    ('a.gz', gzip.compress(WHOLE, mtime=0)[:5], 'cut short'),
    ('a.gz', gzip.compress(WHOLE, mtime=0)[:10] + b'\xff' * 20, 'damaged'),
    ('a.gz', gzip.compress(WHOLE, mtime=0)[:-8] + bytes(8), 'not a sound gzip file'),
  ],
)
def test_a_broken_file_is_told_with_its_name_and_the_remedy(tmp_path, name, content, reason):
  with pytest.raises(UsageError, match=reason) as error:
    read(tmp_path, content, name)
  assert str(tmp_path / name) in str(error.value)
  assert str(error.value).endswith('; fetch it again.')
  assert '\n' not in str(error.value)


def test_any_single_cut_of_a_compressed_file_is_noticed(tmp_path):
  packed = gzip.compress(WHOLE, mtime=0)
  for length in range(len(packed)):
    with pytest.raises(UsageError):
      read(tmp_path, packed[:length], 'a.gz')


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(UsageError, match='No such file'):
    idx_files.read(tmp_path / 'absent', 3, 'fetch it again')
