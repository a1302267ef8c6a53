"""This file gives the digits' splits as arrays: normalised inputs and class numbers."""

import functools
from pathlib import Path

import numpy as np

from algorithmic_efficiency.workloads import in_memory
from algorithmic_efficiency.workloads.facts import Facts


@functools.lru_cache(maxsize=1)
def _read() -> tuple[np.ndarray, np.ndarray]:
  with np.load(Path(__file__).with_name('digits.npz')) as file:
    return file['images'], file['labels']


def load(facts: Facts, split: str, data_dir: Path | None) -> dict[str, np.ndarray]:
  """{'inputs': float32 [n, 8, 8, 1], 'targets': int32 [n]} of a split.

  The file's order is fixed: training, validation and test split follow each other in it.
  """
  del data_dir  # the data is in the package
  train = facts.num_train_examples
  test = train + facts.num_validation_examples
  start, end = {
    'train': (0, train),
    'eval_train': (0, facts.num_eval_train_examples),
    'validation': (train, test),
    'test': (test, None),
  }[split]
  images, labels = _read()
  raw = images[start:end, ..., None]
  inputs = in_memory.normalise(raw, 16, facts.train_mean, facts.train_stddev)
  return {'inputs': inputs, 'targets': labels[start:end].astype(np.int32)}


def source(data_dir: Path | None) -> str:
  """How the data was kept."""
  del data_dir
  return 'inside the package'
