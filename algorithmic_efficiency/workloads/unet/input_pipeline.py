"""This file gives the splits of a folder of slices as arrays: normalised images, and masks."""

import functools
from pathlib import Path

import numpy as np

from algorithmic_efficiency.workloads.facts import Facts
from algorithmic_efficiency.workloads.unet import dataset

_Pair = tuple[np.ndarray, np.ndarray]


@functools.lru_cache(maxsize=1)
def _find(data_dir: Path | None) -> dataset.Splits:
  return dataset.find(data_dir)


@functools.lru_cache(maxsize=1)
def _read(data_dir: Path | None, size: int) -> _Pair:
  """Images and masks of all patients, those of a split one after the other."""
  splits = _find(data_dir)
  total = dataset.count(splits.all)
  images = np.empty((total, size, size, 3), np.float32)  # filled in place: it may be gigabytes
  masks = np.empty((total, size, size, 1), np.float32)
  start = 0
  for patient in splits.all:
    end = start + len(patient.images)
    images[start:end], masks[start:end] = dataset.load(patient, size)
    start = end
  return images, masks


def count_examples(facts: Facts, data_dir: Path | None) -> dict[str, int]:
  """How many slices each split has, by the names of the facts."""
  splits = _find(data_dir)
  train = dataset.count(splits.train)
  return {
    'num_train_examples': train,
    'num_eval_train_examples': min(facts.num_eval_train_examples, train),
    'num_validation_examples': dataset.count(splits.validation),
    'num_test_examples': dataset.count(splits.test),
  }


def load(facts: Facts, split: str, data_dir: Path | None) -> dict[str, np.ndarray]:
  """{'inputs': float32 [n, size, size, 3], 'targets': float32 [n, size, size, 1]} of a split.

  `eval_train` is the beginning of the training split.
  """
  counts = count_examples(facts, data_dir)
  train = counts['num_train_examples']
  test = train + counts['num_test_examples']
  start, end = {
    'train': (0, train),
    'eval_train': (0, counts['num_eval_train_examples']),
    'test': (train, test),
    'validation': (test, None),
  }[split]
  images, masks = _read(data_dir, facts.input_shape[0])
  return {'inputs': images[start:end], 'targets': masks[start:end]}


def source(data_dir: Path | None) -> str:
  """How the data was kept."""
  patients = _find(data_dir).all
  kinds = {path.suffix.lower()[1:] for patient in patients for path in patient.images}
  return (
    f'{dataset.count(patients)} {" and ".join(sorted(kinds))} pairs of {len(patients)} patients'
  )
