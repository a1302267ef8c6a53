"""Tests of raw data of an edge study, made by hand in its format, and the study's own."""

import csv
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import edge_raw, edge_study

SAMPLES = ROOT.parent / 'shared' / 'samples' / 'edge_layers'
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason='the study samples are not there')


def engine_layer(name, kind, inputs=(1, 3, 8, 8), outputs=(1, 4, 4, 4), **more):
  window = {'WindowSize': [3, 2]} if kind == 'CaskPooling' else {'Kernel': [3, 2]}
  told = {
    'Name': name,
    'LayerType': kind,
    'Inputs': [{'Dimensions': list(inputs), 'Format/Datatype': 'Row major linear FP16 format'}],
    'Outputs': [{'Dimensions': list(outputs)}],
    'PrePadding': [1, 0], 'PostPadding': [2, 0], 'Stride': [2, 1], 'Groups': 1,
  }  # fmt: skip
  return {**told, **window, **more}


def write(folder, power, latency, layers, idle=1e6):
  (folder / 'net' / 'trt_profiling').mkdir(parents=True)
  (folder / 'idling_power.json').write_text(json.dumps({'avg_idle_power': idle}))
  (folder / 'net' / 'net_power_log.log').write_text(power)
  profiling = folder / 'net' / 'trt_profiling'
  profiling.joinpath('trt_layer_latency.json').write_text(json.dumps(latency))
  profiling.joinpath('trt_engine_info.json').write_text(json.dumps({'Layers': layers}))
  return folder / 'net'


READINGS = ''.join(f'20250101-00:00:0{s}.{d}00000,1000.0,{1000 + 10 * (10 * s + d)}.0\n'
                   for s in range(3) for d in range(10))  # fmt: skip


def test_a_run_ends_at_its_stamp_and_its_power_is_the_mean_of_the_readings_inside(tmp_path):
  latency = {'a': [[300.0, '20250101-00:00:01.000000'], [10.0, '20250101-00:00:01.095']]}
  folder = write(tmp_path, READINGS, latency, [engine_layer('a', 'CaskConvolution')])
  first, second = edge_study.mapping(edge_study.read_study(folder))
  # Readings at .7, .8 and .9, and not the one at 1.0; milliampere x volt x 1000 = microwatt.
  assert first['layer_power_including_idle_power_micro_watt'] == pytest.approx(1080 * 1000)
  assert first['layer_power_excluding_idle_power_micro_watt'] == pytest.approx(80 * 1000)
  assert second['layer_power_including_idle_power_micro_watt'] is None  # missing and not 0
  assert (second['cycle'], second['layer_run_time']) == (2, 10.0)


def test_means_are_those_of_a_plain_loop():
  chance = np.random.default_rng(0)
  times = np.sort(chance.integers(0, 100_000, 500))
  power = chance.uniform(1e6, 9e6, 500)
  ended, runtime = chance.integers(0, 100_000, 300), chance.uniform(0.01, 3, 300)
  found = edge_study.mean_power(times, np.concatenate([[0], np.cumsum(power)]), ended, runtime)
  for end, duration, mean in zip(ended, runtime, found, strict=True):
    inside = [
      p for t, p in zip(times, power, strict=True) if end - round(1000 * duration) <= t < end
    ]
    assert np.isnan(mean) if not inside else mean == pytest.approx(np.mean(inside))


def test_window_padding_and_products_are_those_of_the_engine():
  layer = edge_raw.EngineLayer
  conv, pool, dense = (
    edge_study.features(layer('x', kind, engine_layer('x', kind)))
    for kind in edge_study.LAYER_TYPES
  )
  assert list(conv.values()) == [1, 3, 8, 8, 4, 4, 4, 3, 2, 3, 0, 2, 1]
  assert list(pool.values()) == [1, 3, 8, 8, 4, 4, 4, 3, 2, 2, 1]
  assert dense == {'batch_size': 1, 'input_size': 192, 'output_size': 64}


def test_unknown_types_and_few_readings_are_counted_and_named(tmp_path):
  stamps = [[300.0, f'20250101-00:00:0{s}.900000'] for s in range(3)]
  latency = {'a': stamps, 'odd': stamps, 'short': [[0.01, s] for _, s in stamps]}
  layers = [engine_layer('a', 'CaskConvolution'), engine_layer('odd', 'Reformat'),
            engine_layer('short', 'CaskPooling'), 'told by its name']  # fmt: skip
  study = edge_study.read_study(write(tmp_path, READINGS, latency, layers))
  assert edge_study.unknown_types(study) == {'Reformat': 1}
  assert edge_study.with_few_readings(study, 3) == [('short', 0)]
  found = edge_study.tables(study, 3)
  assert [len(rows) for rows in found.values()] == [1, 0, 0]
  assert any("'told by its name'" in note for note in study.notes)


def test_what_is_no_reading_is_refused_by_its_line(tmp_path):
  path = tmp_path / 'log'
  path.write_text('20250101-00:00:01.5,5000,2\nrubbish\n20250101-00:00:00.5,5000,0\n20250101-00:0')
  readings = edge_raw.read_power(path)
  assert readings.power_uw.tolist() == [10_000]
  assert [line.split(':')[0] for line in readings.refused] == ['line 2', 'line 3', 'line 4']
  path.write_text('20251301-00:00:01.5,5000,2\n')
  with pytest.raises(UsageError, match='does not exist'):
    edge_raw.read_power(path)


def test_a_large_file_of_times_is_read_layer_by_layer_and_a_cut_one_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(edge_raw, '_CHUNK_CHARACTERS', 7)
  path = tmp_path / 'times.json'
  text = json.dumps({f'{{"l": {n}}}': [[n + 0.5, '20250101-00:00:01.5']] * n for n in range(9)})
  path.write_text(text)
  assert [(len(ms), set(ms)) for _, ms, _ in edge_raw.read_latencies(path)] == [
    (n, {n + 0.5} if n else set()) for n in range(9)
  ]
  path.write_text(text[:-20])
  with pytest.raises(UsageError, match='cut short'):
    list(edge_raw.read_latencies(path))


def test_the_command_writes_all_tables_and_names_a_model_that_it_cannot_import(tmp_path):
  stamps = [[300.0, f'20250101-00:00:0{s}.900000'] for s in range(3)]
  folder = write(tmp_path / 'raw', READINGS, {'a': stamps}, [engine_layer('a', 'CaskConvolution')])
  shutil.copytree(folder, folder.with_name('broken'))
  (folder.with_name('broken') / 'trt_profiling' / 'trt_engine_info.json').write_text('{')
  command = [sys.executable, ROOT / 'scripts' / 'import_edge_study.py']
  done = subprocess.run(
    [*command, tmp_path / 'raw', '--min_samples=3'], capture_output=True, text=True, check=False
  )
  assert done.returncode == 1 and 'trt_engine_info.json' in done.stderr
  assert '1 of 2 models written' in done.stdout
  written = tmp_path / 'raw_imported' / 'net'
  with (written / 'convolutional.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert float(row['power']) == pytest.approx(np.mean([70, 170, 270]) * 1000)
  with (written / 'layers.csv').open() as file:
    (row,) = csv.DictReader(file)
  assert (row['layer_type'], row['dtype'], row['macs']) == ('conv', 'float16', str(64 * 3 * 6))
  done = subprocess.run([*command, tmp_path / 'none'], capture_output=True, text=True, check=False)
  assert done.returncode == 2 and done.stderr.count('\n') == 1


@needs_samples
@pytest.mark.parametrize('case', ['simple', 'multiple_readings', 'multiple_layers'])
def test_the_studys_alignment_fixtures(case):
  folder = SAMPLES / 'fixtures' / 'example_raw_data' / case
  expected = json.loads((folder / 'expected_metrics_by_cycle.json').read_text())
  assert list(edge_study.mapping(edge_study.read_study(folder))) == expected


@needs_samples
@pytest.mark.parametrize('model', ['model1', 'model2'])
def test_the_studys_feature_and_average_fixtures(model):
  folder = SAMPLES / 'fixtures' / 'example_preprocessed_data' / model
  expected = json.loads((folder / 'expected_features.json').read_text())
  kinds = {'CaskConvolution': 'convolutional', 'CaskPooling': 'pooling',
           'CaskGemmConvolution': 'dense'}  # fmt: skip
  for layer in edge_raw.read_engine(folder / 'trt_engine_info.json'):
    if layer.layer_type in kinds:
      theirs = expected[kinds[layer.layer_type]]
      differences = {k: v for k, v in edge_study.features(layer).items() if theirs[k] != v}
      # Their pooling windows are the size of the input, which is a defect; the engine says 3.
      pooling = layer.layer_type == 'CaskPooling'
      assert differences == ({'kernel_0': 3, 'kernel_1': 3} if pooling else {})
  with (folder / 'power_runtime_mapping_layerwise.csv').open() as file:
    rows = [row for row in csv.DictReader(file) if row['layer_type'] in kinds]
  for column, name in (('layer_power_excluding_idle_power_micro_watt', 'power'),
                       ('layer_run_time', 'run_time')):  # fmt: skip
    values = {}
    for row in rows:
      values.setdefault(row['layer_name'], []).append(float(row[column] or 'nan'))
    found = edge_study.statistics({k: np.array(v) for k, v in values.items()})
    with (folder / f'{model}_average_{name}_stats.csv').open() as file:
      theirs = list(csv.DictReader(file))
    assert [r['layer_name'] for r in found] == [r['layer_name'] for r in theirs]
    for ours, other in zip(found, theirs, strict=True):
      for key in edge_study.STATISTICS:
        number = float(other[key] or 'nan')
        assert ours[key] == pytest.approx(number, nan_ok=True, abs=1e-12)
