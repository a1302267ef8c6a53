"""Tests of reading what tensorflow-datasets prepared, alone and by the loader of MNIST.

The tfrecord files are written here, with a checksum that goes bit by bit; where
tensorflow-datasets is installed, it prepares an array_record folder and parses the same messages.
"""

import importlib
import io
import json
import logging
import struct
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import tfds_records
from algorithmic_efficiency.workloads.mnist import dataset

COUNTS = {'train': 7, 'test': 3}
RNG = np.random.default_rng(8)
IMAGES = {split: RNG.integers(0, 256, (n, 28, 28), np.uint8) for split, n in COUNTS.items()}
LABELS = {'train': [5, 0, 4, 1, 9, 2, 1], 'test': [7, 2, 1]}


def checksum(content):
  register = 0xFFFFFFFF
  for byte in content:
    register ^= byte
    for _ in range(8):
      register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
  crc = register ^ 0xFFFFFFFF
  return ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) % 2**32


def frame(record):
  length = struct.pack('<Q', len(record))
  return b''.join(
    [
      length,
      struct.pack('<I', checksum(length)),
      record,
      struct.pack('<I', checksum(record)),
    ]
  )


def varint(number):
  number %= 2**64
  encoded = b''
  while number > 127:
    encoded += bytes([number % 128 + 128])
    number //= 128
  return encoded + bytes([number])


def field(number, content):
  return varint(number * 8 + 2) + varint(len(content)) + content


def integers(*values, packed=True):
  if packed:
    return field(3, field(1, b''.join(varint(value) for value in values)))
  return field(3, b''.join(varint(8) + varint(value) for value in values))


def example(**features):
  entries = [field(1, field(1, k.encode()) + field(2, v)) for k, v in features.items()]
  return field(1, b''.join(entries))


def png(pixels, mode=None):
  image = PIL.Image.fromarray(pixels)
  buffer = io.BytesIO()
  (image.convert(mode) if mode else image).save(buffer, 'PNG')
  return buffer.getvalue()


def labelled(image, label):
  return example(image=field(1, field(1, image)), label=integers(label))


def write_shard(folder, split, first, last, suffix):
  records = [labelled(png(IMAGES[split][i]), LABELS[split][i]) for i in range(first, last)]
  path = folder / f'mnist-{split}.tfrecord-{suffix}'
  path.write_bytes(b''.join(frame(record) for record in records))
  return path


@pytest.fixture
def folder(tmp_path):
  """A data set in three shards, as tensorflow-datasets lays it out."""
  folder = tmp_path / 'mnist' / '3.0.1'
  folder.mkdir(parents=True)
  info = {'name': 'mnist', 'version': '3.0.1', 'fileFormat': 'tfrecord'}
  (folder / 'dataset_info.json').write_text(json.dumps(info))
  write_shard(folder, 'train', 0, 4, '00000-of-00002')
  write_shard(folder, 'train', 4, 7, '00001-of-00002')
  write_shard(folder, 'test', 0, 3, '00000-of-00001')
  return folder


def read(folder, split='train'):
  return tfds_records.read_split(folder, split, (28, 28))


def assert_is_mnist(loaded, source):
  assert np.array_equal(loaded.train_images, IMAGES['train'])
  assert np.array_equal(loaded.test_images, IMAGES['test'])
  assert loaded.train_labels.tolist() == LABELS['train']
  assert loaded.test_labels.tolist() == LABELS['test']
  assert loaded.train_images.dtype == loaded.test_images.dtype == np.uint8
  assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int32
  assert loaded.source == source


def test_checksums_are_those_of_the_standard():
  # RFC 3720, appendix B.4, and the usual check value of CRC-32C.
  records = [bytes(32), b'\xff' * 32, bytes(range(32)), b'123456789', b'']
  expected = [0x8A9136AA, 0x62A8AB43, 0x46DD794E, 0xE3069283, 0]
  assert tfds_records.crc32c(records).tolist() == expected
  assert tfds_records.crc32c([]).tolist() == []
  many = [bytes(RNG.integers(0, 256, size, np.uint8)) for size in RNG.integers(0, 40, 3000)]
  alone = [tfds_records.crc32c([record])[0] for record in many[::50]]
  assert tfds_records.crc32c(many)[::50].tolist() == alone


def test_records_come_back_in_order(tmp_path):
  records = [b'', b'a', b'bc' * 500, bytes(range(256)), b'last']
  path = tmp_path / 'some.tfrecord'
  path.write_bytes(b''.join(frame(record) for record in records))
  assert tfds_records.read_tfrecord(path) == records
  path.write_bytes(b'')
  assert tfds_records.read_tfrecord(path) == []


def test_any_flipped_bit_is_noticed_and_told_with_its_record(tmp_path):
  path = tmp_path / 'some.tfrecord'
  content = frame(b'first') + frame(b'second')
  for place in range(len(content)):
    damaged = bytearray(content)
    damaged[place] ^= 1 << place % 8
    path.write_bytes(damaged)
    number = int(place >= len(frame(b'first')))
    with pytest.raises(UsageError, match=f'record {number} has a wrong|of record {number} has a'):
      tfds_records.read_tfrecord(path)


def test_any_cut_is_noticed(tmp_path):
  path = tmp_path / 'some.tfrecord'
  content = frame(b'first') + frame(b'second')
  for length in set(range(1, len(content))) - {len(frame(b'first'))}:
    path.write_bytes(content[:length])
    with pytest.raises(UsageError, match=r'some.tfrecord .* cut short'):
      tfds_records.read_tfrecord(path)


def make_examples():
  floats = struct.pack('<3f', 0.5, -2.0, 1e9)
  apart = b''.join(varint(8 + 5) + struct.pack('<f', number) for number in (0.5, -2.0))
  return [
    (b'', {}),
    (
      example(a=integers(1, 300, -1, -(2**63), 2**63 - 1)),
      {'a': [1, 300, -1, -(2**63), 2**63 - 1]},
    ),
    (example(a=integers(1, -5, packed=False)), {'a': [1, -5]}),
    (example(a=field(2, field(1, floats))), {'a': [0.5, -2.0, 1e9]}),
    (example(a=field(2, apart)), {'a': [0.5, -2.0]}),
    (example(a=field(1, field(1, b'x') + field(1, b''))), {'a': [b'x', b'']}),
    (example(a=b'', b=integers()), {'a': [], 'b': []}),
    (
      example(ü=integers(7), image=field(1, field(1, bytes(200)))),
      {'ü': [7], 'image': [bytes(200)]},
    ),
    # Fields of a later version, of each wire type, are passed over.
    (example(a=integers(7)) + varint(9 * 8) + varint(99), {'a': [7]}),
    (example(a=integers(7)) + varint(9 * 8 + 1) + bytes(8) + field(8, b'new'), {'a': [7]}),
    (field(1, varint(9 * 8 + 5) + bytes(4)) + example(a=integers(7)), {'a': [7]}),
  ]


@pytest.mark.parametrize(('record', 'features'), make_examples())
def test_examples_are_parsed(record, features):
  assert tfds_records.parse_example(record) == features


def test_examples_are_parsed_as_protobuf_does():
  pytest.importorskip('tensorflow_datasets')
  message = importlib.import_module('tensorflow_datasets.proto').tf_example_pb2.Example()
  message.features.feature['b'].bytes_list.value.extend([b'one', b'', b'\0' * 300])
  message.features.feature['f'].float_list.value.extend([0.25, -1e30])
  message.features.feature['i'].int64_list.value.extend([0, -1, 2**63 - 1, -(2**63), 128])
  parsed = tfds_records.parse_example(message.SerializeToString())
  assert parsed.keys() == {'b', 'f', 'i'}
  assert parsed['b'] == list(message.features.feature['b'].bytes_list.value)
  assert parsed['f'] == list(message.features.feature['f'].float_list.value)
  assert parsed['i'] == list(message.features.feature['i'].int64_list.value)


@pytest.mark.parametrize(
  'record',
  [b'\x0a', b'\x0a\x05ab', b'\x0b', b'\x80' * 11, field(1, b'\x0a\x7f'), b'\x0d\x00', b'\x08\x01'],
)
def test_bytes_that_are_no_example_are_refused(record):
  with pytest.raises(ValueError, match='protocol buffer'):
    tfds_records.parse_example(record)


def test_a_split_is_read_in_the_order_of_its_shards(folder):
  images, labels = read(folder)
  assert images.dtype == np.uint8
  assert np.array_equal(images, IMAGES['train'])
  assert labels.tolist() == LABELS['train']


def test_a_slow_split_is_told_in_the_log(folder, caplog, monkeypatch):
  caplog.set_level(logging.INFO)
  read(folder)
  assert caplog.messages == []
  monkeypatch.setattr(tfds_records, '_PROGRESS_PERIOD_SEC', 0)
  read(folder)
  assert caplog.messages[0].startswith('Read 1 images of the split train')


@pytest.mark.parametrize('inside', [True, False])
def test_mnist_is_loaded_from_tfrecord(folder, monkeypatch, inside):
  monkeypatch.setattr(dataset, 'NUM_EXAMPLES', COUNTS)
  loaded = dataset.load(folder if inside else folder.parent.parent)
  assert_is_mnist(loaded, 'tensorflow-datasets tfrecord')


def test_a_number_of_examples_that_is_not_mnists(folder, monkeypatch):
  monkeypatch.setattr(dataset, 'NUM_EXAMPLES', {'train': 8, 'test': 3})
  with pytest.raises(UsageError, match='images of 7x28x28 and should have 8x28x28') as error:
    dataset.load(folder)
  assert str(folder) in str(error.value)


def test_the_newest_version_is_taken(folder):
  data_dir = folder.parent.parent
  for version in ('3.0.0', '3.0.10', '3.0.2'):
    (folder.parent / version).mkdir()
    (folder.parent / version / 'dataset_info.json').write_text('{}')
  (folder.parent / '4.0.0').mkdir()
  (folder.parent / 'incomplete.XYZ_5.0.0').mkdir()
  assert tfds_records.find_version(data_dir, 'mnist') == folder.parent / '3.0.10'
  assert tfds_records.find_version(data_dir, 'cifar10') is None


def test_a_folder_of_another_data_set_is_refused(folder):
  info = folder / 'dataset_info.json'
  info.write_text(json.dumps({'name': 'cifar10'}))
  with pytest.raises(UsageError, match="the data set 'cifar10' instead of 'mnist'"):
    dataset.load(folder)


@pytest.mark.parametrize(
  ('info', 'reason'),
  [
    ('{', 'dataset_info.json in'),
    ('[]', 'must hold a JSON object'),
    ('{"fileFormat": "riegeli"}', "the file format 'riegeli'; array_record and tfrecord"),
  ],
)
def test_a_description_that_cannot_be_used(folder, info, reason):
  (folder / 'dataset_info.json').write_text(info)
  with pytest.raises(UsageError, match=reason) as error:
    dataset.load(folder.parent.parent)
  assert str(folder) in str(error.value)


def test_an_old_description_names_no_format(folder):
  (folder / 'dataset_info.json').write_text('{"name": "mnist"}')
  assert read(folder, 'test')[1].tolist() == LABELS['test']


@pytest.mark.parametrize('missing', ['00000-of-00002', '00001-of-00002'])
def test_a_missing_shard_is_named(folder, missing):
  (folder / f'mnist-train.tfrecord-{missing}').unlink()
  with pytest.raises(UsageError, match=f'the file mnist-train.tfrecord-{missing} is missing'):
    read(folder)


def test_shards_of_two_preparations_are_refused(folder):
  write_shard(folder, 'test', 0, 1, '00001-of-00003')
  with pytest.raises(UsageError, match=r'mnist-test\.tfrecord-00001-of-00003 in'):
    read(folder, 'test')


def test_a_split_that_is_not_there(folder):
  with pytest.raises(UsageError, match=r"The split 'dev' in .* there are no files"):
    read(folder, 'dev')


SQUARE = IMAGES['test'][0]


@pytest.mark.parametrize(
  ('record', 'reason'),
  [
    (labelled(png(SQUARE[:14]), 1), "image 3 of .* 14x28 pixels of mode 'L'"),
    (labelled(png(SQUARE, 'RGB'), 1), "image 3 of .* mode 'RGB' and must be 28x28 of mode 'L'"),
    (labelled(png(SQUARE, '1'), 1), "image 3 of .* mode '1'"),
    (labelled(png(SQUARE.astype(np.uint16) * 256), 1), "image 3 of .* mode 'I;16'"),
    (labelled(png(SQUARE)[:200], 1), 'image 3 of .* not a sound PNG'),
    (labelled(b'GIF89a', 1), 'image 3 of .* not a sound PNG'),
    (labelled(b'', 1), 'image 3 of .* not a sound PNG'),
    (example(label=integers(1)), "record 3 of .* 'image'"),
    (example(image=field(1, field(1, png(SQUARE))), label=integers()), 'record 3 of .* cannot be'),
    (example(image=integers(1), label=integers(1)), "record 3 of .* 'image' must be bytes"),
    (b'\x0a\x7f', 'record 3 of .* protocol buffer message is cut short'),
  ],
)
def test_an_example_that_cannot_be_used_is_told_with_its_place(folder, record, reason):
  path = folder / 'mnist-test.tfrecord-00000-of-00001'
  path.write_bytes(path.read_bytes() + frame(record))
  with pytest.raises(UsageError, match=reason) as error:
    read(folder, 'test')
  assert str(folder) in str(error.value)
  assert '\n' not in str(error.value)


def test_labels_outside_the_digits_are_refused(folder, monkeypatch):
  monkeypatch.setattr(dataset, 'NUM_EXAMPLES', {'train': 7, 'test': 4})
  path = folder / 'mnist-test.tfrecord-00000-of-00001'
  path.write_bytes(path.read_bytes() + frame(labelled(png(SQUARE), -256)))
  with pytest.raises(UsageError, match='the test label -256 at place 3'):
    dataset.load(folder)


@pytest.mark.parametrize(
  ('package', 'file_format'),
  [('PIL', 'tfrecord'), ('tensorflow_datasets', 'array_record'), ('array_record', 'array_record')],
)
def test_a_package_that_is_not_installed_is_told_with_what_to_install(
  folder, monkeypatch, package, file_format
):
  (folder / 'dataset_info.json').write_text(
    json.dumps({'name': 'mnist', 'fileFormat': file_format})
  )
  if package == 'array_record':
    pytest.importorskip('tensorflow_datasets')
  for name in [name for name in sys.modules if name.partition('.')[0] == package]:
    monkeypatch.delitem(sys.modules, name)
  monkeypatch.setitem(sys.modules, package, None)
  with pytest.raises(UsageError, match=f'{package!r} cannot be imported') as error:
    read(folder)
  assert 'pip install "algorithmic-efficiency[data]"' in str(error.value)


def test_reading_tfrecord_imports_no_framework(folder):
  script = (
    'import pathlib, sys\n'
    'from algorithmic_efficiency.workloads.mnist import dataset\n'
    f'dataset.NUM_EXAMPLES = {COUNTS}\n'
    'assert not {"PIL", "tensorflow_datasets"} & set(sys.modules)\n'
    'dataset.load(pathlib.Path(sys.argv[1]))\n'
    "print({'jax', 'torch', 'tensorflow', 'tensorflow_datasets'} & set(sys.modules))\n"
  )
  command = [sys.executable, '-c', script, str(folder)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == 'set()\n'


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
  """An array_record folder made by tensorflow-datasets, which shuffles what it writes."""
  tfds = pytest.importorskip('tensorflow_datasets')
  pytest.importorskip('array_record')
  tfds.disable_progress_bar()
  code_folder = tmp_path_factory.mktemp('code')

  class Mnist(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version('3.0.1')
    pkg_dir_path = code_folder

    def _info(self):
      image = tfds.features.Image(shape=(28, 28, 1))
      label = tfds.features.ClassLabel(num_classes=10)
      features = tfds.features.FeaturesDict({'image': image, 'label': label})
      return self.dataset_info_from_configs(features=features)

    def _split_generators(self, dl_manager):
      return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split):
      # An open PNG file is stored as it is; an array would be encoded by TensorFlow.
      for index, (image, label) in enumerate(zip(IMAGES[split], LABELS[split], strict=True)):
        yield index, {'image': io.BytesIO(png(image)), 'label': label}

  data_dir = tmp_path_factory.mktemp('data')
  Mnist(data_dir=data_dir, file_format='array_record').download_and_prepare()
  return data_dir


def test_mnist_is_loaded_from_array_record(prepared, monkeypatch):
  monkeypatch.setattr(dataset, 'NUM_EXAMPLES', COUNTS)
  loaded = dataset.load(prepared)
  assert loaded.source == 'tensorflow-datasets array_record'
  for split in COUNTS:
    images, labels = getattr(loaded, f'{split}_images'), getattr(loaded, f'{split}_labels')
    found = sorted((image.tobytes(), label) for image, label in zip(images, labels, strict=True))
    written = zip(IMAGES[split], LABELS[split], strict=True)
    assert found == sorted((image.tobytes(), label) for image, label in written)


def test_a_damaged_array_record_folder_is_told_in_one_line(prepared, tmp_path):
  good = prepared / 'mnist' / '3.0.1'
  files = {path.name: path.read_bytes() for path in good.iterdir()}
  shard = 'mnist-train.array_record-00000-of-00001'
  info = json.loads(files['dataset_info.json'])
  damage = {
    'flip': {shard: files[shard][:1000] + b'\xff' * 9 + files[shard][1009:]},
    'cut': {shard: files[shard][:100]},
    'gone': {shard: None},
    'features': {'features.json': b'{'},
    'no_features': {'features.json': None},
    'newer': {'dataset_info.json': json.dumps({**info, 'unheard': 1}).encode()},
    'no_split': {'dataset_info.json': json.dumps({**info, 'splits': info['splits'][1:]}).encode()},
  }
  for name, changes in damage.items():
    folder = tmp_path / name
    folder.mkdir()
    for file, content in {**files, **changes}.items():
      if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(UsageError, match="The split 'train' in") as error:
      read(folder)
    assert str(folder) in str(error.value), name
    assert '\n' not in str(error.value)
