"""This file gives MNIST's splits as arrays: normalised inputs and class numbers."""

import functools
from pathlib import Path

import numpy as np

from algorithmic_efficiency.workloads import in_memory
from algorithmic_efficiency.workloads.facts import Facts
from algorithmic_efficiency.workloads.mnist import dataset


@functools.lru_cache(maxsize=1)
def _read(data_dir: Path | None) -> dataset.Mnist:
  return dataset.load(data_dir)


def load(facts: Facts, split: str, data_dir: Path | None) -> dict[str, np.ndarray]:
  """{'inputs': float32 [n, 28, 28, 1], 'targets': int32 [n]} of a split.

  The last 10,000 of the training file are the validation split, as upstream has them;
  `eval_train` is the beginning of the training split.
  """
  mnist = _read(data_dir)
  train, total = facts.num_train_examples, len(mnist.train_labels)
  images, labels, start, end = {
    'train': (mnist.train_images, mnist.train_labels, 0, train),
    'eval_train': (mnist.train_images, mnist.train_labels, 0, facts.num_eval_train_examples),
    'validation': (mnist.train_images, mnist.train_labels, train, total),
    'test': (mnist.test_images, mnist.test_labels, 0, len(mnist.test_labels)),
  }[split]
  raw = images[start:end, ..., None]
  inputs = in_memory.normalise(raw, 255, facts.train_mean, facts.train_stddev)
  return {'inputs': inputs, 'targets': labels[start:end].astype(np.int32)}


def source(data_dir: Path | None) -> str:
  """How the data was kept."""
  return _read(data_dir).source
