"""This file joins the tables of an edge study into data sets, split by network, and sums them up.

A folder of it holds `<model>/…/convolutional.csv` (`pooling.csv`, `dense.csv`): features, power in
microwatts, runtime in milliseconds. Four things are not as in the study:

- A model is the name of the folder; the study cut it at its last dot ('mobilenet_v2.1').
- Joined tables have one index from 0; the study's repeated each file's.
- A row that lacks a feature, or whose power or runtime is not above 0, is refused by its line.
- A test network that is not there is an error; it left the study's test set empty.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from algorithmic_efficiency.errors import UsageError, unknown_name
from algorithmic_efficiency.layer_power.frames import Frame

POWER, RUNTIME = 'power', 'runtime'
_MICRO = 1e6


class Dataset(NamedTuple):
  """Joined tables.

  Attributes:
    csv_paths: Where the rows are from, in their order.
    input_features: The features of each layer.
    power: Watts above the idle board's.
    runtime: Milliseconds.
  """

  csv_paths: list[Path]
  input_features: Frame
  power: Frame
  runtime: Frame


class TrainTestDataset(NamedTuple):
  """Layers of the networks to fit to, and of those kept aside."""

  train: Dataset
  test: Dataset


class DatasetBuilder:
  """Builds data sets of these features."""

  def __init__(self, features: Sequence[str]) -> None:
    """Takes the names of the features, in the order of the columns that are wanted."""
    self.features = list(features)

  @property
  def features_mapping(self) -> dict[str, int]:
    """The place of each feature."""
    return {name: place for place, name in enumerate(self.features)}

  def read_csv_and_convert_power(self, path: Path) -> Frame:
    """A table with its power in watts. Raises UsageError where it cannot be used."""
    try:
      rows: Frame = pd.read_csv(path)
    except OSError as error:
      raise UsageError(f'{str(path)!r} cannot be read ({error.strerror}).') from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
      raise UsageError(f'{str(path)!r} is no CSV: {error}.') from error
    needed = [*self.features, POWER, RUNTIME]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
      raise UsageError(f'{str(path)!r} lacks the columns {", ".join(missing)}.')
    for name in needed:
      numbers: Frame = pd.to_numeric(rows[name], errors='coerce')
      wrong = ~np.isfinite(numbers) | ((numbers <= 0) & (name in (POWER, RUNTIME)))
      if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise UsageError(
          f'{str(path)!r}, line {place + 2}: {name} is {rows[name].iloc[place]!r}; a finite '
          f'number{" above 0" if name in (POWER, RUNTIME) else ""} is needed. Leave the layer out.'
        )
      rows[name] = numbers
    return rows.assign(power=rows[POWER] / _MICRO)

  def merge_feature_data(self, paths: Sequence[Path]) -> Dataset:
    """The tables one below the other. Raises UsageError where there is none."""
    if not paths:
      raise UsageError('there is no table to join.')
    rows: Frame = pd.concat(
      [self.read_csv_and_convert_power(path) for path in paths], ignore_index=True
    )
    return Dataset(list(paths), rows[self.features], rows[POWER], rows[RUNTIME])

  def train_test_split(
    self, directory: Path, test_models: Sequence[str], pattern: str
  ) -> tuple[Dataset | None, Dataset | None]:
    """(all other networks, the test networks), None for a side without any.

    Args:
      directory: Searched with all folders below.
      test_models: Names of networks, which are those of the folders that hold the tables.
      pattern: Of the tables' names, such as '*convolutional.csv'.

    Raises UsageError where a test network has no folder at all. One that has no table of this kind
    is none: LeNet has no pooling that was measured.
    """
    paths = find_tables(directory, pattern)
    if not paths:
      return None, None
    folders = {path.parent.name for path in directory.rglob('*.csv')}
    for name in test_models:
      if name not in folders:
        raise UsageError(unknown_name('network', name, folders))
    test = [path for path in paths if path.parent.name in test_models]
    train = [path for path in paths if path.parent.name not in test_models]
    return (
      self.merge_feature_data(train) if train else None,
      self.merge_feature_data(test) if test else None,
    )

  def create_dataset(
    self, directory: Path, test_models: Sequence[str], pattern: str
  ) -> TrainTestDataset | None:
    """Both sides, or None where one of them is empty."""
    train, test = self.train_test_split(directory, test_models, pattern)
    if train is None or test is None:
      return None
    return TrainTestDataset(train, test)


def find_tables(directory: Path, pattern: str) -> list[Path]:
  """The tables below a folder, by path. Raises UsageError where there is no such folder."""
  if not directory.is_dir():
    raise UsageError(f'{str(directory)!r} is no folder.')
  return sorted(directory.rglob(pattern))


def layers_by_model(directory: Path, pattern: str) -> Frame:
  """How many layers each network has: the columns model and count, the most first."""
  counts: dict[str, int] = {}
  for path in find_tables(directory, pattern):
    counts[path.parent.name] = counts.get(path.parent.name, 0) + len(pd.read_csv(path))
  ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
  return pd.DataFrame(ordered, columns=['model', 'count'])


def summary(data: Dataset) -> Frame:
  """Count, mean, deviation and quartiles of each feature, of power (W) and of runtime (ms)."""
  return data.input_features.assign(power=data.power, runtime=data.runtime).describe()


def constant_features(data: Dataset) -> list[str]:
  """Features that are the same in all layers, so no model can learn what they do."""
  return [name for name in data.input_features if data.input_features[name].nunique() == 1]


def duplicates(data: Dataset) -> int:
  """How many layers have the features of an earlier one: they are no measurements of their own."""
  return int(data.input_features.duplicated().sum())
