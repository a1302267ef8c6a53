"""Tests of finding and reading CIFAR-10, with small files in the forms of the originals."""

import gzip
import io
import json
import pickle
import struct
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from test_tfds_records import example, field, frame, integers, png

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads.cifar import batch_files, dataset

COUNT = 4  # examples in a file
RNG = np.random.default_rng(9)
IMAGES = RNG.integers(0, 256, (6 * COUNT, 32, 32, 3), np.uint8)
LABELS = RNG.integers(0, 10, 6 * COUNT).tolist()
STEMS = [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']
FOLDERS = {'python': 'cifar-10-batches-py', 'binary': 'cifar-10-batches-bin'}


def text(value):
  """A string as Python 2 pickled it."""
  return b'U' + bytes([len(value)]) + value


def byte_array(pixels):
  """An array of bytes as numpy pickled it under Python 2."""
  raw = pixels.tobytes()
  element = b'cnumpy\ndtype\n' + text(b'u1') + b'K\0K\1\x87R'
  element += b'(K\3' + text(b'|') + b'NNN' + 2 * b'J\xff\xff\xff\xff' + b'K\0tb'
  shape = b''.join(b'M' + struct.pack('<H', size) for size in pixels.shape) + b'\x86'
  made = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85' + text(b'b') + b'\x87R'
  return made + b'(K\1' + shape + element + b'\x89T' + struct.pack('<I', len(raw)) + raw + b'tb'


def whole_numbers(values):
  return b'](' + b''.join(b'J' + struct.pack('<i', value) for value in values) + b'e'


def pickled(data=None, labels=None):
  """A batch of the archive for Python; its parts are pickles without their ends."""
  names = b'](' + b''.join(text(b'leptodactylus_s_%06d.png' % n) for n in range(COUNT)) + b'e'
  items = {b'batch_label': text(b'training batch 1 of 5'), b'labels': labels, b'data': data}
  items[b'filenames'] = names
  content = b''.join(text(key) + value for key, value in items.items() if value is not None)
  return b'\x80\2}(' + content + b'u.'


def planes(images):
  """[n, 3072], the red values of an image first."""
  return np.stack([image[..., c].ravel() for image in images for c in range(3)]).reshape(-1, 3072)


def part(number):
  return slice(number * COUNT, (number + 1) * COUNT)


def content_of(kind, number):
  images, labels = IMAGES[part(number)], LABELS[part(number)]
  if kind == 'python':
    return pickled(byte_array(planes(images)), whole_numbers(labels))
  records = zip(labels, planes(images), strict=True)
  return b''.join(bytes([label]) + pixels.tobytes() for label, pixels in records)


def files_of(kind):
  suffix = '' if kind == 'python' else '.bin'
  return {stem + suffix: content_of(kind, number) for number, stem in enumerate(STEMS)}


def write_folder(place, kind, **changes):
  folder = place / FOLDERS[kind]
  folder.mkdir(parents=True)
  for name, content in (files_of(kind) | changes).items():
    if content is not None:
      (folder / name).write_bytes(content)
  return folder


def write_archive(place, kind, **changes):
  place.mkdir(parents=True, exist_ok=True)
  path = place / f'cifar-10-{kind}.tar.gz'
  files = {'readme.html': b'<p>', 'batches.meta': b'\x80\2}.', **files_of(kind), **changes}
  with tarfile.open(path, 'w:gz') as archive:
    folder = tarfile.TarInfo(FOLDERS[kind])
    folder.type = tarfile.DIRTYPE
    archive.addfile(folder)
    for name, content in sorted(files.items(), reverse=True):  # the original's are out of order
      if content is not None:
        member = tarfile.TarInfo(f'{FOLDERS[kind]}/{name}')
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
  return path


WRITERS = {'folder': write_folder, 'archive': write_archive}
each_kind = pytest.mark.parametrize('kind', ['python', 'binary'])
each_form = pytest.mark.parametrize('form', ['folder', 'archive'])


def load(folder):
  return dataset.load(folder, COUNT)


def assert_is_cifar(loaded, source):
  assert np.array_equal(loaded.train_images, IMAGES[: 5 * COUNT])
  assert np.array_equal(loaded.test_images, IMAGES[5 * COUNT :])
  assert loaded.train_labels.tolist() == LABELS[: 5 * COUNT]
  assert loaded.test_labels.tolist() == LABELS[5 * COUNT :]
  assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
  assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
  assert loaded.source == source


def refusal(folder):
  """The one sentence with which loading is refused."""
  with pytest.raises(UsageError) as error:
    load(folder)
  message = str(error.value)
  assert '\n' not in message
  assert message.endswith('.')
  return message


# Where it may lie.


@each_kind
@each_form
@pytest.mark.parametrize('place', ['.', 'cifar', 'cifar10', 'cifar-10'])
def test_each_form_is_found_in_each_place(tmp_path, kind, form, place):
  WRITERS[form](tmp_path / place, kind)
  before = sorted(tmp_path.rglob('*'))
  assert_is_cifar(load(tmp_path), f'{kind} {form}')
  assert sorted(tmp_path.rglob('*')) == before


def test_the_home_folder_has_the_default_place(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  write_folder(tmp_path / 'data', 'binary')
  assert_is_cifar(load(None), 'binary folder')


def test_an_archive_serves_where_a_folder_lacks_a_file(tmp_path):
  write_folder(tmp_path, 'python', data_batch_3=None)
  write_archive(tmp_path, 'python')
  assert_is_cifar(load(tmp_path), 'python archive')


@pytest.mark.parametrize('place', ['cifar10/3.0.2', '.'])
def test_what_tensorflow_datasets_prepared_is_read(tmp_path, place):
  folder = tmp_path / place
  folder.mkdir(parents=True, exist_ok=True)
  (folder / 'dataset_info.json').write_text(json.dumps({'name': 'cifar10'}))
  write_shards(folder, 5)
  assert_is_cifar(load(tmp_path), 'tensorflow-datasets tfrecord')


def write_shards(folder, num_train_files):
  splits = {'train': range(num_train_files * COUNT), 'test': range(5 * COUNT, 6 * COUNT)}
  for split, chosen in splits.items():
    records = [
      example(
        id=field(1, field(1, b'train_%05d' % index)),
        image=field(1, field(1, png(IMAGES[index]))),
        label=integers(LABELS[index]),
      )
      for index in chosen
    ]
    path = folder / f'cifar10-{split}.tfrecord-00000-of-00001'
    path.write_bytes(b''.join(map(frame, records)))


def test_a_prepared_folder_with_too_few_images_or_grey_ones(tmp_path):
  folder = tmp_path / 'cifar10' / '3.0.2'
  folder.mkdir(parents=True)
  (folder / 'dataset_info.json').write_text(json.dumps({'name': 'cifar10'}))
  write_shards(folder, 4)
  assert f'has {4 * COUNT} train images and should have {5 * COUNT};' in refusal(tmp_path)
  grey = example(image=field(1, field(1, png(IMAGES[0, ..., 0]))), label=integers(1))
  path = folder / 'cifar10-train.tfrecord-00000-of-00001'
  path.write_bytes(frame(grey))
  assert "of mode 'L' and must be 32x32 of mode 'RGB'" in refusal(tmp_path)


def test_where_there_is_none_one_sentence_says_where_to_get_it(tmp_path):
  message = refusal(tmp_path)
  assert message.startswith(f'CIFAR-10 is not in {str(tmp_path)!r}; ')
  assert 'cifar-10-python.tar.gz from https://www.cs.toronto.edu/~kriz/cifar.html' in message
  assert '--data_dir' in message
  assert '--data=synthetic' in message
  assert list(tmp_path.iterdir()) == []


# What may be wrong with it.


@each_kind
def test_a_missing_file_is_named(tmp_path, kind):
  lacking = list(files_of(kind))[4]
  folder = write_folder(tmp_path / 'cifar', kind, **{lacking: None})
  message = refusal(tmp_path)
  assert message.startswith(f'{str(folder)!r} lacks {lacking}; ')
  archive = write_archive(tmp_path, kind, **{lacking: None})
  message = refusal(tmp_path)
  assert message.startswith(f'{str(archive)!r} cannot be used: it lacks {FOLDERS[kind]}/{lacking};')


@each_kind
@each_form
def test_a_file_cut_short(tmp_path, kind, form):
  name = list(files_of(kind))[5]
  WRITERS[form](tmp_path, kind, **{name: files_of(kind)[name][:-1000]})
  message = refusal(tmp_path)
  assert name in message
  assert {'python': 'not a sound pickle', 'binary': '11,292 bytes, which is no mul'}[
    kind
  ] in message
  assert 'https://www.cs.toronto.edu/~kriz/cifar.html' in message


@each_kind
@each_form
def test_a_file_with_another_number_of_images(tmp_path, kind, form):
  name = next(iter(files_of(kind)))
  other = {
    'python': pickled(byte_array(planes(IMAGES[:3])), whole_numbers(LABELS[:3])),
    'binary': content_of('binary', 0)[: 3 * 3073],
  }[kind]
  WRITERS[form](tmp_path, kind, **{name: other})
  assert 'it has 3 images and should have 4;' in refusal(tmp_path)


@each_kind
@each_form
def test_a_file_far_too_long_is_not_read(tmp_path, kind, form):
  name = next(iter(files_of(kind)))
  WRITERS[form](tmp_path, kind, **{name: bytes(3 * COUNT * 3073)})
  assert 'it has 36,876 bytes and can have no more than 24,584;' in refusal(tmp_path)


@pytest.mark.parametrize('label', [10, -1, 2**31 - 1])
def test_a_label_that_is_no_class(tmp_path, label):
  labels = whole_numbers([0, 1, label, 3])
  write_folder(tmp_path, 'python', data_batch_2=pickled(byte_array(planes(IMAGES[:4])), labels))
  message = refusal(tmp_path)
  assert 'data_batch_2' in message
  assert 'the label at place 2 is ' in message
  assert 'labels go from 0 to 9;' in message


def test_a_label_that_is_no_class_in_plain_bytes(tmp_path):
  write_archive(tmp_path, 'binary', **{'test_batch.bin': b'\xff' + bytes(COUNT * 3073 - 1)})
  assert 'the label at place 0 is 255, and labels go from 0 to 9;' in refusal(tmp_path)


def test_an_archive_cut_short_or_no_archive(tmp_path):
  path = write_archive(tmp_path, 'python')
  whole = path.read_bytes()
  for damaged in (whole[: len(whole) // 2], whole[:5], b'', b'no archive', gzip.compress(b'none')):
    path.write_bytes(damaged)
    message = refusal(tmp_path)
    assert message.startswith(f'{str(path)!r} cannot be used: ')
  middle = len(whole) // 2
  path.write_bytes(whole[:middle] + bytes(64) + whole[middle + 64 :])
  assert str(path) in refusal(tmp_path)


def test_a_link_in_an_archive_is_not_followed(tmp_path):
  write_folder(tmp_path / 'elsewhere', 'binary')
  path = tmp_path / 'cifar-10-binary.tar.gz'
  with tarfile.open(path, 'w:gz') as archive:
    for name in files_of('binary'):
      member = tarfile.TarInfo(f'{FOLDERS["binary"]}/{name}')
      member.type = tarfile.SYMTYPE
      member.linkname = str(tmp_path / 'elsewhere' / FOLDERS['binary'] / name)
      archive.addfile(member)
  assert 'is no plain file;' in refusal(tmp_path)


# The pickles.


@pytest.mark.filterwarnings('ignore::Warning')  # numpy's own reader dislikes them, but reads them
def test_the_pickles_here_are_what_numpy_reads():
  batch = pickle.loads(content_of('python', 0), encoding='bytes')
  assert np.array_equal(batch[b'data'], planes(IMAGES[:COUNT]))
  assert batch[b'data'].dtype == np.uint8
  assert batch[b'labels'] == LABELS[:COUNT]
  assert len(batch[b'filenames']) == COUNT


@pytest.mark.parametrize('protocol', range(3, 5))
def test_pickles_of_a_newer_numpy_are_read(protocol):
  batch = {b'data': planes(IMAGES[:COUNT]), b'labels': LABELS[:COUNT]}
  images, labels = batch_files.parse_pickled(pickle.dumps(batch, protocol))
  assert np.array_equal(images, IMAGES[:COUNT])
  assert labels.tolist() == LABELS[:COUNT]


CALLS = {
  'posix.system': b"cposix\nsystem\n(S'touch %s'\ntR.",
  'builtins.eval': b'\x80\2cbuiltins\neval\n(S\'open("%s", "w")\'\ntR.',
  '__builtin__.exec': b'\x80\2c__builtin__\nexec\n(S\'open("%s", "w")\'\ntR.',
  'os.mkdir': b"(S'%s'\nios\nmkdir\n.",
  'pathlib.Path.touch': b'\x80\4\x8c\7pathlib\x8c\nPath.touch\x93S"%s"\n\x85R.',
  'numpy.core.multiarray.fromfile': b"\x80\2cnumpy.core.multiarray\nfromfile\n(S'%s'\ntR.",
}


@each_form
@pytest.mark.parametrize('name', CALLS)
def test_a_pickle_that_calls_anything_is_refused_and_runs_nothing(tmp_path, form, name):
  mark = tmp_path / 'ran'
  hostile = CALLS[name] % str(mark).encode()
  WRITERS[form](tmp_path, 'python', data_batch_1=hostile)
  message = refusal(tmp_path)
  assert f'it asks for {name!r}, and a batch of CIFAR-10 is made of numpy arrays' in message
  assert 'data_batch_1' in message
  assert not mark.exists()


ARRAY = byte_array(planes(IMAGES[:COUNT]))
ODD = {
  'an object for a dictionary': b'\x80\2K\5.',
  'no data': pickled(None, whole_numbers(LABELS[:COUNT])),
  'no labels': pickled(ARRAY, None),
  'text for data': pickled(text(b'pixels'), whole_numbers(LABELS[:COUNT])),
  'text for labels': pickled(ARRAY, text(b'labels')),
  'floats for labels': pickled(ARRAY, b'](G' + bytes(8) + b'e'),
  'fewer labels': pickled(ARRAY, whole_numbers(LABELS[:3])),
  'an array of floats': pickled(ARRAY.replace(b'U\2u1', b'U\2f4'), whole_numbers(LABELS[:COUNT])),
  'an array of objects': pickled(ARRAY.replace(b'U\2u1', b'U\2O8'), whole_numbers(LABELS[:COUNT])),
  'an array of another shape': pickled(byte_array(np.zeros((4, 3071), np.uint8)), b'](K\1e'),
  'an array column by column': pickled(ARRAY.replace(b'\x89T', b'\x88T'), b'](K\1K\1K\1K\1e'),
  'an array without content': pickled(
    b'cnumpy.core.multiarray\n_reconstruct\n)R', whole_numbers([1])
  ),
  'an array built from a class': b'\x80\2cnumpy\nndarray\n)\x81}b.',
  'attributes of a class': b'\x80\2cnumpy\nndarray\n}U\1xK\1sb.',
  'an extension': b'\x80\2\x82\x01.',
  'something kept elsewhere': b'\x80\2U\1xQ.',
  'a place for billions': b'\x80\2}r\xff\xff\xff\x7f.',
  'a buffer of billions': b'\x80\5\x96' + struct.pack('<Q', 1 << 33) + b'.',
  'nothing on the stack': b'\x80\2R.',
  'a protocol of the future': b'\x80\x7f}.',
  'nothing': b'',
}


@pytest.mark.parametrize('name', ODD)
def test_a_pickle_of_anything_else_is_refused(tmp_path, name):
  write_folder(tmp_path, 'python', data_batch_5=ODD[name])
  assert 'data_batch_5' in refusal(tmp_path)


def test_a_pickle_that_ends_anywhere_is_refused():
  content = content_of('python', 0)
  ends = [
    *range(300),
    *range(300, len(content) - 300, 997),
    *range(len(content) - 300, len(content)),
  ]
  for end in ends:
    with pytest.raises(ValueError, match='pickle'):
      batch_files.parse_pickled(content[:end])


def test_reading_imports_no_framework(tmp_path):
  write_archive(tmp_path, 'python')
  script = (
    'import pathlib, sys\n'
    'from algorithmic_efficiency.workloads.cifar import dataset, input_pipeline\n'
    f'dataset.load(pathlib.Path(sys.argv[1]), {COUNT})\n'
    "print({'jax', 'torch', 'tensorflow', 'tensorflow_datasets', 'PIL'} & set(sys.modules))\n"
  )
  command = [sys.executable, '-c', script, str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == 'set()\n'
