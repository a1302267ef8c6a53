"""Tests of predicting layers of a made-up device, and of the scores, against scikit-learn's own."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from sklearn import metrics as others
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import (
  choice,
  columns,
  descriptors,
  fitted,
  learners,
  physics,
  predictor,
  study_models,
  tables,
  validation,
  zoo,
)

COMMAND = [sys.executable, ROOT / 'scripts' / 'predict_layers.py']


def dense(inputs, outputs, network='resnet18', **more):
  """A layer of a device with a roofline: 20 µs, 4e9 multiplications and 5e8 bytes in a ms."""
  macs, moved = 8 * inputs * outputs, 4 * (8 * inputs + 8 * outputs + inputs * outputs)
  sizes = dict.fromkeys((c.name for c in columns.CONFIGURATION), 1)
  sizes |= {'padding_0': 0, 'padding_1': 0, 'batch_size': 8}
  sizes |= {'input_size_0': inputs, 'output_size_0': outputs}
  runtime = 0.02 + macs / 4e9 + moved / 5e8
  measured = {'runtime': runtime, 'power': 40 + 90 * (1 - 0.02 / runtime), 'power_source': 'nvml'}
  where = {'network': network, 'layer': f'{inputs}x{outputs}', 'device': 'made'}
  told = {'layer_type': 'dense', 'op': 'Linear', 'dtype': 'float32'}
  return {**sizes, **told, 'macs': macs, 'bytes_moved': moved, **measured, **where, **more}


def write(path, rows):
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, columns.NAMES, extrasaction='ignore')
    writer.writeheader()
    writer.writerows(rows)
  return path


LAYERS = [dense(i, o) for i in (64, 200, 512, 2048) for o in (10, 100, 1000, 4096)]


@pytest.fixture(scope='module')
def table(tmp_path_factory):
  return write(tmp_path_factory.mktemp('layers') / 'layers.csv', LAYERS + LAYERS[:5])


@pytest.fixture(scope='module')
def model(table, tmp_path_factory):
  path = tmp_path_factory.mktemp('model') / 'made.npz'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(choice, 'INNER_FOLDS', 2)  # quicker
    live = predictor.fit(tables.read(table).rows)
  live.save(path)
  return live, path


def test_a_saved_predictor_predicts_the_same_to_the_last_digit(model, table):
  live, path = model
  rows = tables.read(table).rows
  loaded = predictor.load(path)
  assert loaded.predict(rows).equals(live.predict(rows))
  assert loaded.device == 'made'
  with np.load(path, allow_pickle=False) as file:  # no objects, so no code
    assert all(file[name].dtype != object for name in file.files)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut', b'\x80\x04]\x94.'])
def test_what_is_no_saved_predictor_is_told_and_not_run(tmp_path, content):
  path = tmp_path / 'model.npz'
  path.write_bytes(content)
  with pytest.raises(UsageError, match='fit it anew'):
    predictor.load(path)


def test_a_network_is_the_sum_of_its_layers(model, tmp_path):
  live, _ = model
  rows = [dense(300, 300), dense(1000, 500), dense(1000, 500)]
  stranger = dense(10, 10, layer_type='conv')
  network = live.predict_network(
    tables.read(write(tmp_path / 'n.csv', [*rows, stranger]), measured=False).rows
  )
  runtime = sum(row['runtime'] for row in rows)
  energy = sum(row['runtime'] * row['power'] for row in rows) / 1000
  assert network.runtime_ms == pytest.approx(runtime, rel=0.05)
  assert network.energy_j == pytest.approx(energy, rel=0.1)
  assert network.power_w == pytest.approx(network.energy_j / network.runtime_ms * 1000)
  assert network.runtime_interval_ms[0] <= network.runtime_ms <= network.runtime_interval_ms[1]
  assert network.unpredicted == {'conv': 1}
  assert network.layers['predicted_runtime'].isna().tolist() == [False, False, False, True]


def test_a_layer_unlike_all_measured_ones_is_marked(model):
  # The last is of a usual size in all, but has thousands of vectors for each weight.
  given = [dense(64, 100), dense(60_000, 60_000), dense(64, 64, batch_size=3000)]
  rows = tables.check(tables.pd.DataFrame(given), False).rows
  assert model[0].predict(rows)['outside'].tolist() == [False, True, True]


def test_no_configuration_is_on_both_sides_of_a_fold():
  rows = tables.check(tables.pd.DataFrame(LAYERS * 3), True).rows
  groups = tables.configurations(rows)
  folds = validation.folds_of(rows, validation.BY_SHAPE)
  assert sorted(np.concatenate([outer for _, outer in folds])) == list(range(len(rows)))
  for inner, outer in folds:
    assert not set(groups[inner]) & set(groups[outer])


def test_families_and_the_studys_networks_are_kept_apart():
  names = ['resnet18', 'resnet50', 'resnext50_32x4d', 'mobilenet_v3_small', 'vgg16', 'lenet']
  assert [zoo.family(name) for name in names] == [
    'resnet', 'resnet', 'resnext', 'mobilenet', 'vgg', 'lenet',
  ]  # fmt: skip
  rows = tables.check(tables.pd.DataFrame([dense(8, 8, name) for name in names]), True).rows
  folds = validation.folds_of(rows, validation.BY_FAMILY)
  assert sorted(outer.tolist() for _, outer in folds) == [[0, 1], [2], [3], [4], [5]]
  ((inner, outer),) = validation.folds_of(rows, validation.STUDY)
  assert (inner.tolist(), outer.tolist()) == ([1, 2, 3], [0, 4, 5])


def test_metrics_are_those_of_scikit_learn():
  chance = np.random.default_rng(0)
  measured = chance.uniform(1, 9, 50)
  said = measured * chance.normal(1, 0.1, 50)
  found = validation.metrics(measured, said)
  assert found.mape_pct == pytest.approx(
    100 * others.mean_absolute_percentage_error(measured, said)
  )
  assert found.rmse == pytest.approx(others.root_mean_squared_error(measured, said))
  assert found.r2 == pytest.approx(others.r2_score(measured, said))
  relative = others.root_mean_squared_error(np.ones(50), said / measured)
  assert found.rmspe_pct == pytest.approx(100 * relative)


def test_trees_and_processes_as_arrays_predict_as_scikit_learn_does():
  chance = np.random.default_rng(0)
  x, new = chance.normal(size=(60, 4)), chance.normal(size=(30, 4))
  y = np.sin(x[:, 0]) + x[:, 1] ** 2
  forest = ExtraTreesRegressor(100, max_features=0.5, random_state=learners.SEED).fit(x, y)
  assert learners.extra_trees(x, y).predict(new) == pytest.approx(forest.predict(new), rel=1e-12)
  boosted = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(x, y)
  trees = [tree.tree_ for tree in boosted.estimators_[:, 0]]
  ours = fitted.Trees.of(trees, float(y.mean()), boosted.learning_rate)
  assert ours.predict(new) == pytest.approx(boosted.predict(new), rel=1e-12)
  process = learners.process_by_column(x, y)
  said = process.arrays()
  amplitude, centre, spread = said['shape']
  kernel = learners.Matern(said['lengths'], nu=1.5) * learners.ConstantKernel(amplitude)
  again = GaussianProcessRegressor(kernel, optimizer=None, alpha=1e-10)
  again.X_train_, again.kernel_ = said['support'], kernel
  scaled = (new - said['mean']) / said['scale']
  theirs = centre + spread * (kernel(scaled, said['support']) @ said['weights'])
  assert process.predict(new) == pytest.approx(theirs, rel=1e-10)


def test_physics_finds_the_constants_of_a_roofline_and_bends_power_at_its_limit():
  rows = tables.check(tables.pd.DataFrame(LAYERS), True).rows
  q = descriptors.quantities(rows)
  runtime = rows['runtime'].to_numpy()
  assert physics.fit_roofline(q, runtime).predict(q) == pytest.approx(runtime, rel=0.02)
  power = physics.fit_power(q, runtime, rows['power'].to_numpy())
  assert power.predict(q, runtime) == pytest.approx(rows['power'].to_numpy(), rel=0.1)
  assert power.predict(q, runtime / 1e6).max() <= power.limit


def test_multiplications_of_a_convolution_are_its_closed_form():
  row = dense(1, 1, layer_type='conv', op='Conv2d', batch_size=2, input_size_0=8, input_size_1=14,
              input_size_2=14, output_size_0=16, output_size_1=7, output_size_2=7, kernel_0=3,
              kernel_1=3, groups=4, macs=0)  # fmt: skip
  q = descriptors.quantities(tables.check(tables.pd.DataFrame([row]), True).rows)
  assert q.macs.tolist() == [2 * 16 * 7 * 7 * 2 * 9]
  assert q.bytes_moved.tolist() == [4 * (2 * 8 * 14 * 14 + 2 * 16 * 7 * 7 + 16 * 2 * 9)]


def test_a_public_table_of_operators_has_its_dense_layers_the_right_way_round(tmp_path):
  path = tmp_path / 'operators.csv'
  path.write_text(
    'device,op,batch,in_c,in_h,in_w,out_c,out_h,out_w,kernel_0,kernel_1,stride_0,stride_1,'
    'padding_0,padding_1,groups,macs,runtime_ms,power_W\n'
    'G,Linear,32,14,14,2048,512,1,1,1,1,1,1,0,0,1,229376,1.6,164\n'
    'G,Linear,32,512,1,1,1000,1,1,1,1,1,1,0,0,1,16384000,.03,90\n'
    'G,Conv2d,32,3,56,56,64,28,28,7,7,2,2,3,3,1,236027904,.3,164\n'
  )
  rows = tables.read(path).rows
  q = descriptors.quantities(rows)
  assert q.macs.tolist() == [32 * 14 * 14 * 2048 * 512, 16384000, 236027904]
  assert rows['padding_0'].tolist() == [0, 0, 6]


def test_rows_that_cannot_be_are_left_out_by_number_and_missing_columns_told(tmp_path):
  rows = [dense(8, 8), dense(8, 8, runtime=0), dense(8, 8, runtime='nan'),
          dense(8, 8, power=-1), dense(8, 8, power=''), dense(8, 8, layer_type='odd'),
          dense(0, 8)]  # fmt: skip
  found = tables.read(write(tmp_path / 'l.csv', rows))
  assert len(found.rows) == 3 and found.unknown_types == {'odd': 1}
  assert [why.split('line ')[1].split(' is')[0] for why in found.refused] == [
    '3: runtime', '4: runtime', '5: power', '8: input_size_0',
  ]  # fmt: skip
  path = tmp_path / 'short.csv'
  path.write_text('layer_type,op\nconv,Conv2d\n')
  with pytest.raises(UsageError, match='lacks dtype, batch_size'):
    tables.read(path)
  with pytest.raises(UsageError, match='no row that can be used'):
    tables.read(write(tmp_path / 'none.csv', rows[1:2]))


def test_repeats_and_passes_tell_the_noise():
  rows = tables.check(
    tables.pd.DataFrame([dense(8, 8, runtime=1.0), dense(8, 8, runtime=1.25)]), True
  ).rows
  floor = validation.repeat_floor(rows, 'runtime')
  assert floor.mape_pct == pytest.approx(100 * (0.25 + 0.2) / 2)
  noise = validation.noise_floor(rows, rows.assign(runtime=rows['runtime'] * 1.1), 'runtime')
  assert noise.rmspe_pct == pytest.approx(10)
  assert validation.repeat_floor(rows[:1], 'runtime') is None


def test_intervals_hold_the_share_they_are_of():
  chance = np.random.default_rng(0)
  low, high = predictor.interval(np.sort(chance.normal(size=4000)))
  assert (low, high) == pytest.approx((-1.645, 1.645), abs=0.1)


def test_the_studys_model_and_the_mean_are_there_to_be_beaten():
  rows = tables.check(tables.pd.DataFrame(LAYERS), True).rows
  mean = study_models.fit_mean(rows, 'runtime')(rows)
  assert set(mean) == {rows['runtime'].mean()}
  lasso = study_models.fit_lasso(rows, 'runtime')(rows)
  measured = rows['runtime'].to_numpy()
  assert (
    validation.metrics(measured, lasso).rmspe_pct < validation.metrics(measured, mean).rmspe_pct
  )


@pytest.mark.slow
def test_scores_are_of_layers_never_seen_and_better_than_the_mean(table):
  rows = tables.read(table).rows
  found = {s.model: s for s in validation.score(rows, 'runtime', validation.BY_SHAPE, lasso=False)}
  assert {s.seen_pct for s in found.values()} == {0}
  assert found['chosen'].metrics.rmspe_pct < found['mean'].metrics.rmspe_pct / 3
  assert found[choice.PHYSICS].rows == 21 and found[choice.PHYSICS].configurations == 16
  assert validation.score(rows, 'runtime', validation.BY_FAMILY) == []


def test_the_command_predicts_and_tells_a_mistake_in_one_line(model, tmp_path):
  layers = write(tmp_path / 'n.csv', [dense(300, 300), dense(5, 5, layer_type='odd')])
  done = subprocess.run(
    [*COMMAND, 'predict', model[1], layers, f'--output={tmp_path / "out.csv"}'],
    capture_output=True, text=True, check=True,
  )  # fmt: skip
  assert '1 of 2 layers' in done.stdout and '1 x odd' in done.stdout
  assert tables.pd.read_csv(tmp_path / 'out.csv')['predicted_runtime'].notna().tolist() == [
    True, False,
  ]  # fmt: skip
  for wrong in (
    ['predict', tmp_path / 'none.npz', layers],
    ['fit', tmp_path / 'none.csv', '--output=x'],
  ):
    done = subprocess.run([*COMMAND, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.count('\n') == 1
