"""Finds CIFAR-10 below a folder and loads it as arrays.

data_dir, data_dir/cifar,            an original archive, for Python or of plain bytes,
data_dir/cifar10, data_dir/cifar-10  or the folder that is in it
data_dir/cifar10/<version>, data_dir what tensorflow-datasets prepared
"""

import dataclasses
import logging
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import tfds_records
from algorithmic_efficiency.workloads.cifar import batch_files

DEFAULT_DATA_DIR = Path('~/data')
NUM_CLASSES = 10
EXAMPLES_PER_FILE = 10_000
_FOLDERS = ('.', 'cifar', 'cifar10', 'cifar-10')
_WEB_PAGE = 'https://www.cs.toronto.edu/~kriz/cifar.html'
_REMEDY = f'remove it and get the archive again from {_WEB_PAGE}'

_logger = logging.getLogger(__name__)

_Batch = tuple[np.ndarray, np.ndarray]  # images and labels
_Batches = dict[str, _Batch]  # by file name


@dataclasses.dataclass(frozen=True)
class _Layout:
  """One of the two forms in which the data set is published.

  Attributes:
    kind: its name, for the record.
    archive: the file to download.
    folder: what is in the archive.
    files: five of training examples in their order, and one of test examples.
    parse: makes images and labels of a file's content; raises ValueError.
    most_bytes: no file is longer, for each example in it.
  """

  kind: str
  archive: str
  folder: str
  files: tuple[str, ...]
  parse: Callable[[bytes], _Batch]
  most_bytes: int


_LAYOUTS = (
  _Layout(
    kind='python',
    archive='cifar-10-python.tar.gz',
    folder='cifar-10-batches-py',
    files=(*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch'),
    parse=batch_files.parse_pickled,
    most_bytes=2 * 3073,  # the names of the images are in there as well
  ),
  _Layout(
    kind='binary',
    archive='cifar-10-binary.tar.gz',
    folder='cifar-10-batches-bin',
    files=(*(f'data_batch_{number}.bin' for number in range(1, 6)), 'test_batch.bin'),
    parse=batch_files.parse_binary,
    most_bytes=2 * 3073,
  ),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Cifar:
  """All of CIFAR-10, in the order of its files.

  Attributes:
    train_images: uint8 [50000, 32, 32, 3]: red, green, blue.
    train_labels: int32 [50000], 0 to 9.
    test_images: uint8 [10000, 32, 32, 3].
    test_labels: int32 [10000].
    source: what it was read from, for the record, such as 'python archive'.
  """

  train_images: np.ndarray
  train_labels: np.ndarray
  test_images: np.ndarray
  test_labels: np.ndarray
  source: str


def load(data_dir: Path | None, examples_per_file: int = EXAMPLES_PER_FILE) -> Cifar:
  """Loads CIFAR-10 from `data_dir`, ~/data where None.

  Args:
    data_dir: where one of the layouts lies.
    examples_per_file: in each of five training files and in the test file.

  Raises:
    UsageError: there is none, or the files are incomplete or damaged.
  """
  root = (DEFAULT_DATA_DIR if data_dir is None else data_dir).expanduser()
  places = [(root / name, layout) for name in _FOLDERS for layout in _LAYOUTS]
  for place, layout in places:
    folder = place / layout.folder
    if all((folder / name).is_file() for name in layout.files):
      return _join(folder, layout, 'folder', _read_folder(folder, layout, examples_per_file))
  for place, layout in places:
    archive = place / layout.archive
    if archive.is_file():
      return _join(archive, layout, 'archive', _read_archive(archive, layout, examples_per_file))
  version = tfds_records.find_version(root, 'cifar10')
  if version is not None:
    return _load_tfds(version, examples_per_file)
  for place, layout in places:
    _check_no_partial_set(place / layout.folder, layout)
  raise UsageError(
    f'CIFAR-10 is not in {str(root)!r}; get {_LAYOUTS[0].archive} from {_WEB_PAGE} and put it '
    'there, or name the folder that has it with --data_dir, or choose --data=synthetic, which '
    'needs none.'
  )


def _read_folder(folder: Path, layout: _Layout, count: int) -> _Batches:
  """The batches of an unpacked archive."""
  batches: _Batches = {}
  for name in layout.files:
    path = folder / name
    try:
      _check_size(path.stat().st_size, layout, count)
      batches[name] = _parse(path.read_bytes(), layout, count)
    except (OSError, ValueError) as error:
      raise _broken(path, error) from error
  return batches


def _read_archive(archive: Path, layout: _Layout, count: int) -> _Batches:
  """The batches in an archive, which nothing is unpacked from; later files of a name count."""
  batches: _Batches = {}
  try:
    for name, content in _members(archive, layout, count):
      try:
        batches[name] = _parse(content, layout, count)
      except ValueError as error:
        raise ValueError(f'{name} in it is wrong: {error}') from error
  except EOFError as error:
    raise _broken(archive, EOFError('it is cut short')) from error
  except (OSError, ValueError, tarfile.TarError, zlib.error) as error:
    raise _broken(archive, error) from error
  missing = [name for name in layout.files if name not in batches]
  if missing:
    raise _broken(archive, ValueError(f'it lacks {layout.folder}/{missing[0]}'))
  return batches


def _members(archive: Path, layout: _Layout, count: int) -> Iterator[tuple[str, bytes]]:
  """Name and content of each batch in an archive, in its order."""
  wanted = {PurePosixPath(layout.folder, name): name for name in layout.files}
  with tarfile.open(archive, 'r:gz') as files:
    for member in files:
      name = wanted.get(PurePosixPath(member.name))
      if name is None:
        continue
      content = files.extractfile(member) if member.isreg() else None
      if content is None:
        raise ValueError(f'{member.name} in it is no plain file')
      _check_size(member.size, layout, count)
      yield name, content.read()


def _parse(content: bytes, layout: _Layout, count: int) -> _Batch:
  """Images and labels of a file. Raises ValueError unless they are `count`, and sound."""
  images, labels = layout.parse(content)
  if len(images) != count:
    raise ValueError(f'it has {len(images):,} images and should have {count:,}')
  _check_labels(labels)
  return images, labels


def _check_size(size: int, layout: _Layout, count: int) -> None:
  """Raises where a file is far longer than its examples, before it is read."""
  most = layout.most_bytes * count
  if size > most:
    raise ValueError(f'it has {size:,} bytes and can have no more than {most:,}')


def _check_labels(labels: np.ndarray) -> None:
  wrong = np.flatnonzero((labels < 0) | (labels >= NUM_CLASSES))
  if wrong.size:
    raise ValueError(
      f'the label at place {wrong[0]} is {labels[wrong[0]]}, and labels go from 0 to '
      f'{NUM_CLASSES - 1}'
    )


def _check_no_partial_set(folder: Path, layout: _Layout) -> None:
  """Raises where a folder has the name of an unpacked archive, but not all of its files."""
  if folder.is_dir():
    missing = [name for name in layout.files if not (folder / name).is_file()]
    raise UsageError(
      f'{str(folder)!r} lacks {" and ".join(missing)}; unpack {layout.archive} from {_WEB_PAGE} '
      'again, or put the archive itself beside it.'
    )


def _join(path: Path, layout: _Layout, form: str, batches: _Batches) -> Cifar:
  """All of the data set, from its batches."""
  *train, test = (batches[name] for name in layout.files)
  _logger.info('Read CIFAR-10 from %s.', path)
  return Cifar(
    train_images=np.concatenate([images for images, _ in train]),
    train_labels=np.concatenate([labels for _, labels in train]).astype(np.int32),
    test_images=test[0],
    test_labels=test[1].astype(np.int32),
    source=f'{layout.kind} {form}',
  )


def _load_tfds(version: Path, examples_per_file: int) -> Cifar:
  """Loads a folder that tensorflow-datasets prepared; its order is its own."""
  arrays: list[np.ndarray] = []
  for split, files in (('train', 5), ('test', 1)):
    images, labels = tfds_records.read_split(version, split, batch_files.IMAGE_SHAPE)
    try:
      if len(images) != files * examples_per_file:
        wanted = files * examples_per_file
        raise ValueError(f'it has {len(images):,} {split} images and should have {wanted:,}')
      _check_labels(labels)
    except ValueError as error:
      remedy = 'prepare cifar10 again with tensorflow-datasets'
      raise UsageError(f'{str(version)!r} cannot be used: {error}; {remedy}.') from error
    arrays += [images, labels.astype(np.int32)]
  source = f'tensorflow-datasets {tfds_records.read_file_format(version)}'
  _logger.info('Read CIFAR-10 from %s (%s).', version, source)
  return Cifar(*arrays, source=source)


def _broken(path: Path, error: Exception) -> UsageError:
  """The error for a file that cannot be used."""
  reason = ' '.join(str(error).split()) or type(error).__name__
  return UsageError(f'{str(path)!r} cannot be used: {reason}; {_REMEDY}.')
