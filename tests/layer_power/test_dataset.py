"""Tests of data sets in the layout of an edge study, written here."""

import pandas as pd
import pytest

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import dataset


def write(folder, model, rows):
  path = folder / model / 'dense.csv'
  path.parent.mkdir(parents=True)
  names = ['batch_size', 'input_size', 'output_size', 'power', 'runtime', 'layer_name']
  pd.DataFrame(rows, columns=names).to_csv(path, index=False)
  return path


@pytest.fixture
def builder():
  return dataset.DatasetBuilder(['input_size', 'output_size'])


@pytest.fixture
def folder(tmp_path):
  write(tmp_path, 'vgg16', [[1, 512, 10, 2e6, 0.5, 'a'], [1, 512, 10, 3e6, 0.5, 'b']])
  write(tmp_path, 'mobilenet_v2.1', [[1, 64, 10, 1e6, 0.25, 'c']])
  return tmp_path


def test_power_becomes_watts_and_tables_are_joined_with_one_index(builder, folder):
  paths = dataset.find_tables(folder, '*dense.csv')
  found = builder.merge_feature_data(paths)
  assert builder.features_mapping == {'input_size': 0, 'output_size': 1}
  assert found.csv_paths == paths
  assert found.power.tolist() == [1, 2, 3] and found.runtime.tolist() == [0.25, 0.5, 0.5]
  assert found.input_features.to_numpy().tolist() == [[64, 10], [512, 10], [512, 10]]
  assert found.power.index.tolist() == [0, 1, 2]
  assert dataset.duplicates(found) == 1 and dataset.constant_features(found) == ['output_size']
  assert dataset.summary(found).loc['mean'].tolist() == pytest.approx([1088 / 3, 10, 2, 1.25 / 3])


def test_a_network_keeps_the_dot_in_its_name(builder, folder):
  found = builder.create_dataset(folder, ['mobilenet_v2.1'], '*dense.csv')
  assert found.test.power.tolist() == [1] and found.train.power.tolist() == [2, 3]
  assert builder.create_dataset(folder, [], '*dense.csv') is None
  assert builder.train_test_split(folder, ['vgg16'], '*pooling.csv') == (None, None)
  with pytest.raises(UsageError, match=r"did you mean 'mobilenet_v2.1'"):
    builder.train_test_split(folder, ['mobilenet_v2'], '*dense.csv')


def test_networks_are_counted_the_most_first(folder):
  found = dataset.layers_by_model(folder, '*dense.csv')
  assert found.to_dict('list') == {'model': ['vgg16', 'mobilenet_v2.1'], 'count': [2, 1]}


@pytest.mark.parametrize('column, value', [('power', 0), ('runtime', -1), ('input_size', None)])
def test_a_row_that_cannot_be_is_named_by_its_line(builder, folder, column, value):
  path = folder / 'vgg16' / 'dense.csv'
  rows = pd.read_csv(path)
  rows[column] = rows[column].astype(object)
  rows.loc[1, column] = value
  rows.to_csv(path, index=False)
  with pytest.raises(UsageError, match=f'line 3: {column}'):
    builder.read_csv_and_convert_power(path)
  rows.drop(columns=column).to_csv(path, index=False)
  with pytest.raises(UsageError, match=f'lacks the columns {column}'):
    builder.read_csv_and_convert_power(path)
