"""Finds MNIST below a folder, or downloads it, and loads it as arrays.

data_dir, data_dir/mnist,            the four original files, compressed or not
data_dir/MNIST/raw, data_dir/mnist/raw
data_dir/mnist/<version>, data_dir   what tensorflow-datasets prepared
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import download, idx_files, tfds_records

DEFAULT_DATA_DIR = Path('~/data')
MIRROR_VARIABLE = 'ALGORITHMIC_EFFICIENCY_MNIST_URL'
MIRRORS = (
  'https://storage.googleapis.com/cvdf-datasets/mnist/',
  'https://ossci-datasets.s3.amazonaws.com/mnist/',
)
IMAGE_SHAPE = (28, 28)
NUM_CLASSES = 10
NUM_EXAMPLES = {'train': 60_000, 'test': 10_000}

# The original files and the MD5 sums of their compressed form.
MD5_SUMS = {
  'train-images-idx3-ubyte': 'f68b3c2dcbeaaa9fbdd348bbdeb894d4',
  'train-labels-idx1-ubyte': 'd53e105ee54ea40749a09fcbcd1e9432',
  't10k-images-idx3-ubyte': '9fb629c4189551a2d022fa330f9573f3',
  't10k-labels-idx1-ubyte': 'ec29112dd5afa0611ce80d1b7f02629c',
}
_STEMS = {'train': 'train', 'test': 't10k'}
_IDX_FOLDERS = ('.', 'mnist', 'MNIST/raw', 'mnist/raw')
# Lies beside the files while they are downloaded: tells a download that was cut short, which the
# next run completes, from a set of files that somebody put there and that lacks one.
_UNFINISHED = '.download-unfinished'

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Mnist:
  """All of MNIST, in the order of its files.

  Attributes:
    train_images: uint8 [60000, 28, 28], 0 is paper and 255 is ink.
    train_labels: int32 [60000], 0 to 9.
    test_images: uint8 [10000, 28, 28].
    test_labels: int32 [10000].
    source: what it was read from, for the record, such as 'idx files'.
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  source: str


def load(data_dir: Path | None) -> Mnist:
  """Loads MNIST from `data_dir`, ~/data where None, after downloading it where it is not there.

  Raises:
    UsageError: the files are incomplete or damaged, or there are none and no network.
  """
  folder = (DEFAULT_DATA_DIR if data_dir is None else data_dir).expanduser()
  candidates = [_find_files(folder / name) for name in _IDX_FOLDERS]
  for files in candidates:
    if len(files) == len(MD5_SUMS):
      return _load_idx(files)
  version = tfds_records.find_version(folder, 'mnist')
  if version is not None:
    return _load_tfds(version)
  for files in candidates:
    _check_no_partial_set(files)
  return _load_idx(_download(folder))


def _find_files(folder: Path) -> dict[str, Path]:
  """The files that are in `folder`, by their original names."""
  found: dict[str, Path] = {}
  for name in MD5_SUMS:
    dotted = name.replace('-idx', '.idx')
    spellings = (name, dotted, f'{name}.gz', f'{dotted}.gz')
    path = next((folder / each for each in spellings if (folder / each).is_file()), None)
    if path is not None:
      found[name] = path
  return found


def _check_no_partial_set(files: Mapping[str, Path]) -> None:
  """Raises where somebody put some of the four files into a folder, but not all."""
  if not files:
    return
  folder = next(iter(files.values())).parent
  missing = [name for name in MD5_SUMS if name not in files]
  if not (folder / _UNFINISHED).exists():
    raise UsageError(
      f'{str(folder)!r} has {len(files)} of the four files of MNIST and lacks '
      f'{" and ".join(missing)} (or the same with .gz); put the rest there, or delete those that '
      'are there and run again to download all.'
    )


def _load_idx(files: Mapping[str, Path]) -> Mnist:
  """Loads the four original files."""
  remedy = "delete MNIST's four files in its folder and run again to download them"
  arrays: list[np.ndarray] = []
  for split, stem in _STEMS.items():
    image_path = files[f'{stem}-images-idx3-ubyte']
    label_path = files[f'{stem}-labels-idx1-ubyte']
    images = idx_files.read(image_path, num_dimensions=3, remedy=remedy)
    labels = idx_files.read(label_path, num_dimensions=1, remedy=remedy)
    _check_images(images, split, image_path, remedy)
    _check_labels(labels, split, label_path, remedy)
    arrays += [images, labels.astype(np.int32)]
  _logger.info('Read MNIST from the original files in %s.', image_path.parent)
  return Mnist(*arrays, source='idx files')


def _load_tfds(version: Path) -> Mnist:
  """Loads a folder that tensorflow-datasets prepared."""
  remedy = 'prepare MNIST again with tensorflow-datasets, or remove it and run again to download it'
  arrays: list[np.ndarray] = []
  for split in _STEMS:
    images, labels = tfds_records.read_split(version, split, IMAGE_SHAPE)
    _check_images(images, split, version, remedy)
    _check_labels(labels, split, version, remedy)
    arrays += [images, labels.astype(np.int32)]
  source = f'tensorflow-datasets {tfds_records.read_file_format(version)}'
  _logger.info('Read MNIST from %s (%s).', version, source)
  return Mnist(*arrays, source=source)


def _check_images(images: np.ndarray, split: str, path: Path, remedy: str) -> None:
  """Raises unless there are as many images as MNIST has, of its size."""
  expected = (NUM_EXAMPLES[split], *IMAGE_SHAPE)
  if images.shape != expected:
    found = 'x'.join(str(size) for size in images.shape)
    wanted = 'x'.join(str(size) for size in expected)
    raise UsageError(
      f'{str(path)!r} has {split} images of {found} and should have {wanted}; {remedy}.'
    )


def _check_labels(labels: np.ndarray, split: str, path: Path, remedy: str) -> None:
  """Raises unless there are as many labels as MNIST has, each a digit."""
  expected = NUM_EXAMPLES[split]
  if len(labels) != expected:
    raise UsageError(
      f'{str(path)!r} has {len(labels)} {split} labels and should have {expected}; {remedy}.'
    )
  wrong = np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))
  if wrong.size:
    raise UsageError(
      f'{str(path)!r} has the {split} label {labels[wrong[0]]} at place {wrong[0]}, and labels go '
      f'from 0 to {NUM_CLASSES - 1}; {remedy}.'
    )


def _download(data_dir: Path) -> dict[str, Path]:
  """Downloads what is missing of the four files to `data_dir`/mnist."""
  folder = data_dir / 'mnist'
  own_mirror = os.environ.get(MIRROR_VARIABLE)
  mirrors = (own_mirror, *MIRRORS) if own_mirror else MIRRORS
  unfinished = folder / _UNFINISHED
  try:
    folder.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    _logger.info('MNIST is not in %s; downloading 11 MB to %s.', data_dir, folder)
    for name, md5 in MD5_SUMS.items():
      if name not in _find_files(folder):
        download.fetch(f'{name}.gz', md5, folder, mirrors)
    unfinished.unlink(missing_ok=True)
  except download.DownloadError as error:
    if not _find_files(folder):
      unfinished.unlink(missing_ok=True)
      with contextlib.suppress(OSError):  # it holds something else
        folder.rmdir()
    raise UsageError(_no_download(data_dir, error)) from error
  except OSError as error:
    raise UsageError(
      f'MNIST cannot be downloaded to {str(folder)!r}: {error.strerror or error}; name a folder '
      'that can be written with --data_dir.'
    ) from error
  return _find_files(folder)


def _no_download(data_dir: Path, error: Exception) -> str:
  """The sentence for a machine without a network."""
  files = [f'{name}.gz' for name in MD5_SUMS]
  folder = data_dir / 'mnist'
  return (
    f'MNIST is not in {str(data_dir)!r} and could not be downloaded ({error}); put '
    f"{', '.join(files[:-1])} and {files[-1]} into {str(folder)!r}, or tensorflow-datasets' "
    f'prepared folder at {str(folder / "<version>")!r}, or choose --workload=digits, which needs '
    'no download.'
  )
