"""Tests of finding, downloading and loading MNIST, with small files in the original layout."""

import gzip
import hashlib
import logging
import socket
import struct
import subprocess
import sys

import numpy as np
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads.mnist import dataset

COUNTS = {'train': 6, 'test': 3}
RNG = np.random.default_rng(5)
IMAGES = {split: RNG.integers(0, 256, (n, 28, 28), np.uint8) for split, n in COUNTS.items()}
LABELS = {'train': [3, 9, 0, 1, 7, 7], 'test': [2, 0, 9]}


def content_of(name):
  split = 'train' if name.startswith('train') else 'test'
  if 'images' in name:
    return struct.pack('>4I', 0x803, COUNTS[split], 28, 28) + IMAGES[split].tobytes()
  return struct.pack('>2I', 0x801, COUNTS[split]) + bytes(LABELS[split])


def pack(name):
  return gzip.compress(content_of(name), mtime=0)


def write_files(folder, suffix='', dotted=False, skip=()):
  folder.mkdir(parents=True, exist_ok=True)
  for name in dataset.MD5_SUMS:
    if name not in skip:
      spelling = (name.replace('-idx', '.idx') if dotted else name) + suffix
      (folder / spelling).write_bytes(pack(name) if suffix else content_of(name))


@pytest.fixture(autouse=True)
def small_and_offline(monkeypatch):
  monkeypatch.setattr(dataset, 'NUM_EXAMPLES', COUNTS)
  sums = {name: hashlib.md5(pack(name)).hexdigest() for name in dataset.MD5_SUMS}
  monkeypatch.setattr(dataset, 'MD5_SUMS', sums)
  monkeypatch.setattr(dataset, 'MIRRORS', ())
  monkeypatch.delenv(dataset.MIRROR_VARIABLE, raising=False)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
  folder = tmp_path / 'mirror'
  write_files(folder, '.gz')
  monkeypatch.setattr(dataset, 'MIRRORS', (folder.as_uri(),))
  return folder


def assert_is_mnist(loaded):
  assert np.array_equal(loaded.train_images, IMAGES['train'])
  assert np.array_equal(loaded.test_images, IMAGES['test'])
  assert loaded.train_labels.tolist() == LABELS['train']
  assert loaded.test_labels.tolist() == LABELS['test']
  assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
  assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
  assert loaded.source == 'idx files'


@pytest.mark.parametrize('place', ['.', 'mnist', 'MNIST/raw', 'mnist/raw'])
def test_the_four_files_are_found_in_each_place(tmp_path, place):
  write_files(tmp_path / place)
  assert_is_mnist(dataset.load(tmp_path))


@pytest.mark.parametrize('suffix', ['', '.gz'])
@pytest.mark.parametrize('dotted', [False, True])
def test_the_four_files_are_found_in_each_spelling(tmp_path, suffix, dotted):
  write_files(tmp_path, suffix, dotted)
  assert_is_mnist(dataset.load(tmp_path))


def test_the_home_folder_has_the_default_place(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  write_files(tmp_path / 'data' / 'mnist')
  assert_is_mnist(dataset.load(None))


def test_a_complete_set_is_preferred_to_a_stray_file_and_to_the_network(tmp_path, mirror):
  (tmp_path / 'train-images-idx3-ubyte').write_bytes(b'stray')
  write_files(tmp_path / 'MNIST' / 'raw')
  assert_is_mnist(dataset.load(tmp_path))
  assert not (tmp_path / 'mnist').exists()


@pytest.mark.parametrize('missing', ['train-labels-idx1-ubyte', 't10k-images-idx3-ubyte'])
def test_a_missing_file_is_named_and_not_downloaded(tmp_path, mirror, missing):
  write_files(tmp_path / 'data' / 'mnist', '.gz', skip=[missing])
  with pytest.raises(UsageError, match=f'has 3 of the four files of MNIST and lacks {missing} '):
    dataset.load(tmp_path / 'data')


def test_the_pixels_of_the_files_must_be_28_by_28(tmp_path):
  write_files(tmp_path)
  path = tmp_path / 't10k-images-idx3-ubyte'
  path.write_bytes(struct.pack('>4I', 0x803, 3, 14, 56) + IMAGES['test'].tobytes())
  with pytest.raises(UsageError, match='test images of 3x14x56 and should have 3x28x28') as error:
    dataset.load(tmp_path)
  assert str(path) in str(error.value)


def test_a_number_of_images_that_is_not_mnists(tmp_path):
  write_files(tmp_path)
  path = tmp_path / 'train-images-idx3-ubyte'
  path.write_bytes(struct.pack('>4I', 0x803, 5, 28, 28) + IMAGES['train'][:5].tobytes())
  with pytest.raises(UsageError, match='images of 5x28x28 and should have 6x28x28') as error:
    dataset.load(tmp_path)
  assert str(path) in str(error.value)


def test_a_number_of_labels_that_is_not_that_of_the_images(tmp_path):
  write_files(tmp_path)
  path = tmp_path / 'train-labels-idx1-ubyte'
  path.write_bytes(struct.pack('>2I', 0x801, 7) + bytes(7))
  with pytest.raises(UsageError, match='has 7 train labels and should have 6') as error:
    dataset.load(tmp_path)
  assert str(path) in str(error.value)


def test_a_label_that_is_no_digit(tmp_path):
  write_files(tmp_path)
  path = tmp_path / 't10k-labels-idx1-ubyte'
  path.write_bytes(struct.pack('>2I', 0x801, 3) + bytes([9, 10, 0]))
  with pytest.raises(UsageError, match='has the test label 10 at place 1') as error:
    dataset.load(tmp_path)
  assert 'delete' in str(error.value)


def test_following_the_advice_about_a_broken_file_mends_it(tmp_path, mirror):
  folder = tmp_path / 'data' / 'mnist'
  write_files(folder, '.gz')
  broken = folder / 't10k-images-idx3-ubyte.gz'
  broken.write_bytes(broken.read_bytes()[:-9])
  with pytest.raises(UsageError, match=r"delete MNIST's four files .* run again") as error:
    dataset.load(tmp_path / 'data')
  assert str(broken) in str(error.value)
  for path in folder.iterdir():
    path.unlink()
  assert_is_mnist(dataset.load(tmp_path / 'data'))


def test_where_there_is_nothing_the_four_files_are_downloaded(tmp_path, mirror, caplog):
  caplog.set_level(logging.INFO)
  assert_is_mnist(dataset.load(tmp_path / 'new' / 'data'))
  names = sorted(path.name for path in (tmp_path / 'new' / 'data' / 'mnist').iterdir())
  assert names == sorted(f'{name}.gz' for name in dataset.MD5_SUMS)
  for path in mirror.iterdir():
    path.unlink()
  assert_is_mnist(dataset.load(tmp_path / 'new' / 'data'))
  assert sum(line.startswith('Downloaded') for line in caplog.messages) == 4


def test_the_variables_mirror_comes_first_and_is_checked(tmp_path, mirror, monkeypatch):
  own = tmp_path / 'own'
  write_files(own, '.gz')
  monkeypatch.setenv(dataset.MIRROR_VARIABLE, own.as_uri())
  monkeypatch.setattr(dataset, 'MIRRORS', ())
  assert_is_mnist(dataset.load(tmp_path / 'first'))
  (own / 'train-labels-idx1-ubyte.gz').write_bytes(b'forged')
  with pytest.raises(UsageError, match='MD5 sum'):
    dataset.load(tmp_path / 'second')
  monkeypatch.setattr(dataset, 'MIRRORS', (mirror.as_uri(),))
  assert_is_mnist(dataset.load(tmp_path / 'third'))


def test_a_download_cut_short_is_completed_by_the_next_run(tmp_path, mirror):
  names = [f'{name}.gz' for name in dataset.MD5_SUMS]
  (mirror / names[2]).rename(mirror / 'away')
  with pytest.raises(UsageError, match='could not be downloaded'):
    dataset.load(tmp_path / 'data')
  (mirror / 'away').rename(mirror / names[2])
  # What has come already is not asked for again.
  (mirror / names[0]).unlink()
  (mirror / names[1]).unlink()
  assert_is_mnist(dataset.load(tmp_path / 'data'))
  assert sorted(path.name for path in (tmp_path / 'data' / 'mnist').iterdir()) == sorted(names)


def test_without_a_network_one_sentence_says_what_to_do(tmp_path, monkeypatch):
  hosts = []

  def fail(host, *args, **kwargs):
    hosts.append(host)
    raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr(socket, 'getaddrinfo', fail)
  for variable in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
    monkeypatch.delenv(variable, raising=False)
  monkeypatch.setattr(dataset, 'MIRRORS', ('https://one.invalid/a/', 'http://two.invalid/b/'))
  with pytest.raises(UsageError) as error:
    dataset.load(tmp_path)
  message = str(error.value)
  assert hosts == ['one.invalid', 'two.invalid']
  assert 'one.invalid: Name or service not known; two.invalid: Name or' in message
  assert all(f'{name}.gz' in message for name in dataset.MD5_SUMS)
  assert str(tmp_path / 'mnist') in message
  assert str(tmp_path / 'mnist' / '<version>') in message
  assert '--workload=digits' in message
  assert '\n' not in message
  # The files that the sentence asks for are a set of their own, which must be complete.
  write_files(tmp_path / 'mnist', skip=['t10k-labels-idx1-ubyte'])
  with pytest.raises(UsageError, match='lacks t10k-labels-idx1-ubyte'):
    dataset.load(tmp_path)


@pytest.mark.parametrize('place', ['file', 'file/below'])
def test_a_folder_that_cannot_be_made(tmp_path, mirror, place):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UsageError, match=r'cannot be downloaded to .*--data_dir'):
    dataset.load(tmp_path / place)


def test_loading_imports_no_framework(tmp_path):
  write_files(tmp_path, '.gz')
  script = (
    'import pathlib, sys\n'
    'from algorithmic_efficiency.workloads.mnist import dataset\n'
    f'dataset.NUM_EXAMPLES = {COUNTS}\n'
    'dataset.load(pathlib.Path(sys.argv[1]))\n'
    "print({'jax', 'torch', 'tensorflow', 'tensorflow_datasets', 'PIL'} & set(sys.modules))\n"
  )
  command = [sys.executable, '-c', script, str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == 'set()\n'
