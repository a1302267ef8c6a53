"""This file gives CIFAR-10's splits as arrays, and crops and flips its training images."""

import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from algorithmic_efficiency.workloads import in_memory
from algorithmic_efficiency.workloads.cifar import dataset
from algorithmic_efficiency.workloads.facts import Facts

EDGE = 4  # zeros around an image that a crop may reach into


@functools.lru_cache(maxsize=1)
def _read(data_dir: Path | None) -> dataset.Cifar:
  return dataset.load(data_dir)


def load(facts: Facts, split: str, data_dir: Path | None) -> dict[str, np.ndarray]:
  """{'inputs': [n, 32, 32, 3], 'targets': int32 [n]} of a split.

  Inputs are normalised float32, but those of the split 'train' uint8 as read: `augment` normalises
  a batch of them. The last 5,000 training examples are the validation split, as upstream has them;
  `eval_train` is the beginning of the training split.
  """
  cifar = _read(data_dir)
  train, total = facts.num_train_examples, len(cifar.train_labels)
  images, labels, start, end = {
    'train': (cifar.train_images, cifar.train_labels, 0, train),
    'eval_train': (cifar.train_images, cifar.train_labels, 0, facts.num_eval_train_examples),
    'validation': (cifar.train_images, cifar.train_labels, train, total),
    'test': (cifar.test_images, cifar.test_labels, 0, len(cifar.test_labels)),
  }[split]
  inputs = images[start:end]
  if split != 'train':
    inputs = in_memory.normalise(inputs, 255, facts.train_mean, facts.train_stddev)
  return {'inputs': inputs, 'targets': labels[start:end].astype(np.int32)}


def source(data_dir: Path | None) -> str:
  """How the data was kept."""
  return _read(data_dir).source


def draw_augmentation(generator: np.random.Generator, batch_size: int) -> dict[str, np.ndarray]:
  """What happens to each image of a batch: arrays of length `batch_size`.

  'top' and 'left', from 0 to 8, are where its crop begins in the image with four zeros around it;
  'flipped' says whether it is mirrored, left to right.
  """
  top, left = generator.integers(0, 2 * EDGE + 1, (2, batch_size))
  return {'top': top, 'left': left, 'flipped': generator.integers(0, 2, batch_size).astype(bool)}


def augment(
  facts: Facts, batch: Mapping[str, np.ndarray], drawn: Mapping[str, np.ndarray]
) -> in_memory.Batch:
  """The batch with its inputs cropped and flipped as drawn; those of uint8 are normalised then.

  Inputs of another type, those of synthetic data, are normal already.
  """
  inputs = crop_and_flip(batch['inputs'], drawn['top'], drawn['left'], drawn['flipped'])
  if inputs.dtype == np.uint8:
    count, height, width, _ = inputs.shape
    # Row by row: numpy is slow where the last axis is as short as that of the colours.
    mean = np.tile(np.asarray(facts.train_mean), width)
    stddev = np.tile(np.asarray(facts.train_stddev), width)
    rows = in_memory.normalise(inputs.reshape(count, height, -1), 255, mean, stddev)
    inputs = rows.reshape(inputs.shape)
  return {**batch, 'inputs': inputs}


def crop_and_flip(
  images: np.ndarray, top: np.ndarray, left: np.ndarray, flipped: np.ndarray
) -> np.ndarray:
  """Crops of the images' own size, after EDGE zeros are put around them; [n, height, width, c]."""
  count, height, width, channels = images.shape
  rows, side = images.reshape(count, height, width * channels), EDGE * channels
  padded = np.zeros((count, height + 2 * EDGE, width * channels + 2 * side), images.dtype)
  padded[:, EDGE:-EDGE, side:-side] = rows
  windows = np.lib.stride_tricks.sliding_window_view(padded, rows.shape[1:], (1, 2))
  crops = windows[np.arange(count), top, left * channels]
  # By an index: a view with the pixels in reverse copies single colours, at five times the cost.
  mirrored = np.arange(width * channels).reshape(width, channels)[::-1].ravel()
  crops[flipped] = crops[flipped].take(mirrored, axis=-1)
  return crops.reshape(images.shape)
