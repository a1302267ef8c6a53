"""Tests of reading unet's slices: where they are found, who is in which split, and every fault."""

import dataclasses
import shutil
import sys

import ellipses
import numpy as np
import pytest
from PIL import Image

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.frameworks import on_jax
from algorithmic_efficiency.workloads import registry, unet
from algorithmic_efficiency.workloads.unet import dataset, image_files, input_pipeline
from algorithmic_efficiency.workloads.workload import Workload

SUFFIXES = ['.npy', '.png', '.tif']


@pytest.fixture
def folder(tmp_path):
  """A data folder with three patients of two slices."""
  ellipses.write(tmp_path / 'unet', 3, 2, size=8)
  return tmp_path


def files_of(patients):
  return [path.name for patient in patients for path in patient.images]


# Finding.


@pytest.mark.parametrize(
  'place', ['unet', 'unet/kaggle_3m', 'kaggle_3m', 'lgg-mri-segmentation/kaggle_3m', '.']
)
def test_the_usual_places_are_looked_at(tmp_path, place):
  ellipses.write(tmp_path / place, 4, 2, size=8)
  (tmp_path / place / 'data.csv').write_text('Patient\n')  # the public set has such files
  splits = dataset.find(tmp_path)
  assert [patient.name for patient in splits.all] == [f'PATIENT_0{n}' for n in range(4)]
  assert dataset.count(splits.all) == 8


@pytest.mark.parametrize(
  ('patients', 'sizes'),
  [(3, (1, 1, 1)), (10, (8, 1, 1)), (19, (17, 1, 1)), (20, (16, 2, 2)), (110, (88, 11, 11))],
)
def test_the_last_tenth_of_the_patients_validates_and_the_one_before_tests(
  tmp_path, patients, sizes
):
  for number in range(patients):
    for name in (f'P{number:03}_1.npy', f'P{number:03}_1_mask.npy'):
      (tmp_path / name).touch()
  splits = dataset.find(tmp_path)
  assert tuple(map(len, (splits.train, splits.test, splits.validation))) == sizes
  names = [patient.name for patient in splits.all]
  assert names == sorted(names)
  assert len(set(names)) == patients
  assert dataset.find(tmp_path) == splits


def test_slices_are_in_the_order_of_their_numbers(tmp_path):
  for number in (10, 9, 1, 2, 21):
    for name in (f'A_{number}.npy', f'A_{number}_mask.npy'):
      (tmp_path / name).touch()
  for name in ('B_1', 'C_1', 'noise'):
    (tmp_path / f'{name}.npy').touch()
    (tmp_path / f'{name}_mask.npy').touch()
  splits = dataset.find(tmp_path)
  assert [patient.name for patient in splits.all] == ['A', 'B', 'C', 'noise']
  assert files_of(splits.train[:1]) == [f'A_{n}.npy' for n in (1, 2, 9, 10, 21)]


# Reading.


@pytest.mark.parametrize('suffix', [*SUFFIXES, '.tiff'])
def test_all_kinds_are_read_alike(tmp_path, suffix):
  ellipses.write(tmp_path / 'unet', 3, 2, suffix, size=8)
  patient = dataset.find(tmp_path).train[0]
  images, masks = dataset.load(patient, 8)
  assert images.shape == (2, 8, 8, 3)
  assert masks.shape == (2, 8, 8, 1)
  assert images.dtype == masks.dtype == np.float32
  drawn = [ellipses.draw(np.random.default_rng([0, number]), 8) for number in (1, 2)]
  expected = normalised_slowly(np.stack([image for image, _ in drawn]))
  assert images == pytest.approx(expected, abs=1e-4)
  assert np.array_equal(masks[..., 0], [mask for _, mask in drawn])
  assert input_pipeline.source(tmp_path) == f'6 {suffix[1:]} pairs of 3 patients'


def normalised_slowly(volume):
  """By the definition, in float64."""
  numbers = np.sort(np.float64(volume).ravel())

  def percentile(percent):
    place = percent / 100 * (len(numbers) - 1)
    low = int(place)
    return numbers[low] + (place - low) * (numbers[min(low + 1, len(numbers) - 1)] - numbers[low])

  cut = np.minimum(np.maximum(np.float64(volume), percentile(10)), percentile(99))
  for channel in range(volume.shape[-1]):
    of_channel = cut[..., channel]
    mean = of_channel.sum() / of_channel.size
    deviation = np.sqrt(((of_channel - mean) ** 2).sum() / of_channel.size)
    cut[..., channel] = (of_channel - mean) / deviation
  return cut


def test_a_volume_without_variation_is_zero():
  assert not dataset.normalise(np.zeros((2, 4, 4, 3), np.float32)).any()
  assert not dataset.normalise(np.full((2, 4, 4, 3), 7.1, np.float32)).any()
  volume = np.random.default_rng(0).uniform(size=(2, 4, 4, 3)).astype(np.float32)
  volume[..., 1] = 0.3
  found = dataset.normalise(volume)
  assert np.isfinite(found).all()
  assert not found[..., 1].any()
  assert found[..., 0].std() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize('shape', [(32, 32), (32, 64), (48, 20), (16, 16), (5, 7)])
def test_images_are_resized_as_pillow_does_it(shape):
  image = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
  channels = np.stack([image, 2 * image, image[::-1]], axis=-1)
  found = image_files.resize(channels, 16)
  assert found.shape == (16, 16, 3)
  expected = Image.fromarray(image).resize((16, 16), Image.Resampling.BILINEAR)
  assert found[..., 0] == pytest.approx(np.asarray(expected), abs=0.01)
  assert found[..., 1] == pytest.approx(2 * found[..., 0], rel=1e-5)
  mask = image > 128
  nearest = Image.fromarray(mask).resize((16, 16), Image.Resampling.NEAREST)
  assert np.array_equal(image_files.resize_mask(mask, 16), np.asarray(nearest))


def test_grey_images_are_repeated_and_masks_are_what_is_above_zero(tmp_path):
  grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
  for suffix in SUFFIXES:
    ellipses.save(tmp_path / f'grey{suffix}', grey)
    image = image_files.read_image(tmp_path / f'grey{suffix}')
    assert np.array_equal(image, np.repeat(grey[..., None], 3, axis=-1))
    assert np.array_equal(image_files.read_mask(tmp_path / f'grey{suffix}'), grey > 0)
  np.save(tmp_path / 'one.npy', grey[..., None])
  assert image_files.read_image(tmp_path / 'one.npy').shape == (4, 4, 3)
  assert np.array_equal(image_files.read_mask(tmp_path / 'one.npy'), grey > 0)
  Image.fromarray(grey > 7).save(tmp_path / 'bits.png')
  assert np.array_equal(image_files.read_mask(tmp_path / 'bits.png'), grey > 7)


# The splits.


def test_the_splits_are_those_of_the_patients(tmp_path):
  ellipses.write(tmp_path / 'unet', 5, 3, size=16)
  facts = dataclasses.replace(unet.FACTS, input_shape=(8, 8, 3), num_eval_train_examples=4)
  expected = [dataset.load(patient, 8) for patient in dataset.find(tmp_path).all]
  images = np.concatenate([each for each, _ in expected])
  masks = np.concatenate([each for _, each in expected])
  cuts = {'train': (0, 9), 'eval_train': (0, 4), 'test': (9, 12), 'validation': (12, 15)}
  for split, (start, end) in cuts.items():
    arrays = input_pipeline.load(facts, split, tmp_path)
    assert np.array_equal(arrays['inputs'], images[start:end])
    assert np.array_equal(arrays['targets'], masks[start:end])
  assert input_pipeline.count_examples(facts, tmp_path) == {
    f'num_{split}_examples': end - start for split, (start, end) in cuts.items()
  }


def test_a_workload_has_as_many_examples_as_its_folder_and_shuffles_them(folder):
  facts = dataclasses.replace(unet.FACTS, input_shape=(16, 16, 3), target_shape=(16, 16, 1))
  found = dataclasses.replace(registry.find('unet'), facts=facts)
  workload = Workload(found, on_jax, data_dir=folder)
  assert workload.num_train_examples == workload.num_eval_train_examples == 2
  assert workload.num_validation_examples == workload.num_eval_examples == 2
  assert workload.num_test_examples == 2
  assert workload.properties()['num_train_examples'] == 2
  assert workload.data_source() == '6 npy pairs of 3 patients'
  queues = [workload.training_queue(seed, 2) for seed in (0, 0, 1)]
  epochs = [[next(queue)['inputs'][:, 0, 0, 0].tolist() for _ in range(20)] for queue in queues]
  assert epochs[0] == epochs[1] != epochs[2]
  assert {tuple(sorted(epoch)) for epoch in epochs[0]} == {tuple(sorted(epochs[0][0]))}
  assert len({tuple(epoch) for epoch in epochs[0]}) == 2  # of two slices there are two orders
  drawn = Workload(found, on_jax, data_dir=folder, synthetic_seed=1)
  assert drawn.num_train_examples == facts.num_train_examples


# Faults: one sentence each.


def fault(folder):
  """What is said of the data when it is loaded."""
  with pytest.raises(UsageError) as caught:
    for patient in dataset.find(folder).all:
      dataset.load(patient, 8)
  assert '\n' not in str(caught.value)
  assert str(caught.value).endswith('.')
  return str(caught.value)


def test_nothing_there_is_told_with_the_place_to_put_it(tmp_path):
  for place in (tmp_path, tmp_path / 'nowhere'):
    text = fault(place)
    for words in (f"'{place}/unet'", '_mask.tif', '--data_dir', '--data=synthetic'):
      assert words in text


def test_pictures_without_any_mask_are_not_the_data(tmp_path):
  ellipses.save(tmp_path / 'holiday.png', np.zeros((4, 4, 3), np.uint8))
  assert 'No image with a mask' in fault(tmp_path)


PAIR = 'unet/PATIENT_01/PATIENT_01_2'


def test_an_image_without_its_mask_is_told(folder):
  (folder / f'{PAIR}_mask.npy').unlink()
  assert "PATIENT_01_2.npy' has no mask; put PATIENT_01_2_mask.npy beside it" in fault(folder)


def test_a_mask_without_its_image_is_told(folder):
  (folder / f'{PAIR}.npy').unlink()
  assert "PATIENT_01_2_mask.npy' has no image; put PATIENT_01_2.npy beside it" in fault(folder)


def test_two_patients_are_too_few(folder):
  shutil.rmtree(folder / 'unet' / 'PATIENT_02')
  assert "unet' has 2 patients and must have 3 at least" in fault(folder)


def test_another_size_of_the_mask_is_told(folder):
  np.save(folder / f'{PAIR}_mask.npy', np.zeros((8, 9), np.uint8))
  assert "PATIENT_01_2.npy' has 8 x 8 pixels and its mask 8 x 9" in fault(folder)


@pytest.mark.parametrize(
  ('array', 'words'),
  [
    (np.zeros((8, 8, 4)), '(8, 8, 4) and must be [height, width, 3]'),
    (np.zeros(8), '(8,) and must be an image'),
    (np.zeros((0, 8, 3)), 'no pixels'),
    (np.full((8, 8, 3), np.nan), 'not finite'),
    (np.zeros((8, 8, 3), complex), 'one array of numbers'),
    (np.array([[None]]), 'allow_pickle=False'),
  ],
)
def test_an_array_that_is_no_image_is_told(folder, array, words):
  np.save(folder / f'{PAIR}.npy', array)
  text = fault(folder)
  assert words in text
  assert 'PATIENT_01_2.npy' in text


def test_a_mask_of_colours_is_told(folder):
  np.save(folder / f'{PAIR}_mask.npy', np.zeros((8, 8, 3)))
  assert '(8, 8, 3) and must be [height, width]' in fault(folder)


@pytest.mark.parametrize('suffix', SUFFIXES)
@pytest.mark.parametrize('content', [b'', b'no image at all', None], ids=['empty', 'text', 'cut'])
def test_a_damaged_file_is_told(tmp_path, suffix, content):
  ellipses.write(tmp_path / 'unet', 3, 2, suffix, size=64)
  path = tmp_path / f'{PAIR}{suffix}'
  path.write_bytes(path.read_bytes()[:600] if content is None else content)
  text = fault(tmp_path)
  assert f"PATIENT_01_2{suffix}' cannot be used: " in text
  assert 'mend the file' in text


def test_several_pages_and_deep_pixels_are_told(tmp_path):
  ellipses.write(tmp_path / 'unet', 3, 2, '.tif', size=8)
  page = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
  page.save(tmp_path / f'{PAIR}.tif', save_all=True, append_images=[page])
  assert 'has 2 pages' in fault(tmp_path)
  Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / f'{PAIR}.tif')
  assert "mode is 'I;16'" in fault(tmp_path)


def test_pillow_is_needed_for_pictures_alone(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'PIL', None)  # as where it is not installed
  ellipses.write(tmp_path / 'arrays' / 'unet', 3, 1, size=8)
  assert len(dataset.load(dataset.find(tmp_path / 'arrays').train[0], 8)[0]) == 1
  place = tmp_path / 'unet'
  for name in ('A_1', 'B_1', 'C_1'):
    place.mkdir(exist_ok=True)
    (place / f'{name}.png').touch()
    (place / f'{name}_mask.png').touch()
  text = fault(tmp_path)
  for words in ('needs Pillow', 'pip install "algorithmic-efficiency[images]"', '.npy'):
    assert words in text
