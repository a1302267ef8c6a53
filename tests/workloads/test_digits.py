"""Tests of the digits inside the package, against scikit-learn's copy of the same images."""

import collections

import numpy as np
import pytest
from sklearn.datasets import load_digits

from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.digits import FACTS, input_pipeline

SPLITS = {'train': 1197, 'validation': 300, 'test': 300}


@pytest.fixture(scope='module')
def splits():
  return {name: input_pipeline.load(FACTS, name, None) for name in (*SPLITS, 'eval_train')}


def pixels_of(split):
  """The pixels as the file has them, 0 to 16, from a split's normalised inputs."""
  pixels = (split['inputs'][..., 0].astype(np.float64) * FACTS.train_stddev + FACTS.train_mean) * 16
  assert np.abs(pixels - pixels.round()).max() < 1e-4
  return pixels.round().astype(int)


def examples_of(split):
  """(pixels, label) of each example."""
  labels = split['targets'].tolist()
  return [(tuple(p.ravel().tolist()), t) for p, t in zip(pixels_of(split), labels, strict=True)]


def test_the_splits_together_are_scikit_learns_digits(splits):
  reference = load_digits()
  images = reference.images.astype(int).reshape(len(reference.images), -1).tolist()
  expected = [(tuple(p), t) for p, t in zip(images, reference.target.tolist(), strict=True)]
  ours = [example for name in SPLITS for example in examples_of(splits[name])]
  assert collections.Counter(ours) == collections.Counter(expected)
  assert len(ours) == 1797


def test_no_image_is_in_two_splits(splits):
  images = {name: {pixels for pixels, _ in examples_of(splits[name])} for name in SPLITS}
  assert images['train'] & images['validation'] == set()
  assert images['train'] & images['test'] == set()
  assert images['validation'] & images['test'] == set()


def test_the_splits_have_their_sizes_shapes_and_types(splits):
  for name, size in SPLITS.items():
    assert getattr(FACTS, f'num_{name}_examples') == size
    assert splits[name]['inputs'].shape == (size, 8, 8, 1)
    assert splits[name]['targets'].shape == (size,)
    assert splits[name]['inputs'].dtype == np.float32
    assert splits[name]['targets'].dtype == np.int32


def test_the_training_examples_that_are_evaluated_begin_the_training_split(splits):
  count = FACTS.num_eval_train_examples
  assert len(splits['eval_train']['targets']) == count
  for name in ('inputs', 'targets'):
    assert np.array_equal(splits['eval_train'][name], splits['train'][name][:count])


def test_the_inputs_are_normalised_by_the_training_split_alone(splits):
  scaled = pixels_of(splits['train']) / 16
  assert FACTS.train_mean == pytest.approx(scaled.mean(), abs=5e-4)
  assert FACTS.train_stddev == pytest.approx(scaled.std(), abs=5e-4)
  assert abs(splits['train']['inputs'].mean()) < 5e-3
  assert abs(splits['train']['inputs'].std() - 1) < 5e-3


@pytest.mark.parametrize('name', [*SPLITS, 'eval_train'])
def test_every_split_has_every_digit_in_fair_shares(splits, name):
  shares = np.bincount(splits[name]['targets'], minlength=FACTS.num_classes)
  shares = shares / shares.sum()
  assert shares.shape == (10,)
  assert shares.min() > 0.05
  assert shares.max() < 0.15


def test_the_data_needs_no_folder_and_says_so(tmp_path):
  assert input_pipeline.source(None) == input_pipeline.source(tmp_path) == 'inside the package'
  assert registry.find('digits').facts is FACTS
