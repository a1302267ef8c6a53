"""This file turns the raw files of an edge study into tables of layers.

What the study that this room replaces did wrong, and what is done here:

- A stamp is taken when a layer has ended, so the layer began its duration earlier; the study's
  first tables took the stamp for the beginning.
- The power of a run is the mean of the readings from its beginning up to its end; where there is
  none it is missing. The study took all readings since the layer before, and 0 where none was.
- The window of a pooling is read from the engine; the study took the input's size for it.
- Types of layers that are not known, and layers with few readings, are counted and listed. A model
  with such a layer was left out as a whole, without a word.

What no reading of the files can mend: layers last 0.01 to 0.6 ms and the board is read every 1.3
to 2.3 ms from a register that changes more slowly, so all layers of a network have nearly the same
power. Measure a layer by repeating it for seconds instead.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power import columns, edge_raw

LAYER_TYPES = {
  'CaskConvolution': columns.CONV,
  'CaskPooling': columns.POOLING,
  'CaskGemmConvolution': columns.DENSE,
}
FILES = {
  columns.CONV: 'convolutional.csv',
  columns.POOLING: 'pooling.csv',
  columns.DENSE: 'dense.csv',
}
MAPPING_FILE = 'power_runtime_mapping_layerwise.csv'
MAPPING_COLUMNS = (
  'cycle',
  'layer_name',
  'layer_type',
  'layer_power_including_idle_power_micro_watt',
  'layer_power_excluding_idle_power_micro_watt',
  'layer_run_time',
)
STATISTICS = ('count', 'mean', 'std', 'min', '25%', '50%', '75%', 'max')


class LayerRuns(NamedTuple):
  """All runs of a layer: its powers (microwatts with the idle board's, NaN: missing) and times."""

  name: str
  engine_type: str
  power_uw: np.ndarray
  runtime_ms: np.ndarray


class Study(NamedTuple):
  """A model's layers in the order of the file of times, and what was found on the way."""

  model: str
  idle_uw: float
  layers: list[LayerRuns]
  engine: dict[str, edge_raw.EngineLayer]
  notes: list[str]


class Few(NamedTuple):
  """A layer that has fewer readings of power than asked for."""

  name: str
  readings: int


def read_study(folder: Path, idle_file: Path | None = None) -> Study:
  """Reads and aligns a model's folder; the idle power is beside the folder unless told.

  Raises UsageError where a file is missing or is not what it should be.
  """
  idle = edge_raw.read_idle_uw(idle_file or folder.parent / 'idling_power.json')
  readings = edge_raw.read_power(edge_raw.only_file(folder, '*_power_log.log'))
  told = edge_raw.read_engine(folder / 'trt_profiling' / 'trt_engine_info.json')
  engine = {layer.name: layer for layer in told}
  sums = np.concatenate([[0.0], np.cumsum(readings.power_uw)])
  layers = []
  for name, runtime, ended in edge_raw.read_latencies(
    folder / 'trt_profiling' / 'trt_layer_latency.json'
  ):
    kind = engine[name].layer_type if name in engine else 'unknown'
    power = mean_power(readings.times_us, sums, ended, runtime)
    layers.append(LayerRuns(name, kind, power, runtime))
  if not layers:
    raise UsageError(f'{str(folder)!r}: trt_layer_latency.json holds no layer.')
  study = Study(folder.name, idle, layers, engine, [])
  study.notes.extend(_notes(study, readings))
  return study


def mean_power(
  times_us: np.ndarray, sums: np.ndarray, ended_us: np.ndarray, runtime_ms: np.ndarray
) -> np.ndarray:
  """Mean of the readings within each run, NaN where there is none.

  A run is [end - duration, end): a reading counts for one of two runs that follow each other.

  Args:
    times_us: When the readings were taken, ascending.
    sums: Their cumulative sum with a leading 0.
    ended_us: The stamps of the runs, which are their ends.
    runtime_ms: Their durations.
  """
  began = ended_us - np.rint(runtime_ms * 1000).astype(np.int64)
  first = np.searchsorted(times_us, began, side='left')
  last = np.searchsorted(times_us, ended_us, side='left')
  count = last - first
  with np.errstate(invalid='ignore', divide='ignore'):
    return np.where(count > 0, (sums[last] - sums[first]) / count, np.nan)


def unknown_types(study: Study) -> Counter[str]:
  """How many layers have a type without features of its own, by TensorRT's type."""
  return Counter(r.engine_type for r in study.layers if r.engine_type not in LAYER_TYPES)


def with_few_readings(study: Study, minimum: int) -> list[Few]:
  """The layers of known types with fewer readings of power than the minimum."""
  counts = [(r.name, int(np.isfinite(r.power_uw).sum())) for r in _known(study)]
  return [Few(name, count) for name, count in counts if count < minimum]


def mapping(study: Study) -> Iterator[dict[str, Any]]:
  """A row for each run: cycle by cycle, the layers in their order; a missing power is None."""
  cycles = max(len(layer.runtime_ms) for layer in study.layers)
  for cycle in range(cycles):
    for layer in study.layers:
      if cycle < len(layer.runtime_ms):
        power = float(layer.power_uw[cycle])
        known = math.isfinite(power)
        values = (
          cycle + 1,
          layer.name,
          layer.engine_type,
          power if known else None,
          power - study.idle_uw if known else None,
          float(layer.runtime_ms[cycle]),
        )
        yield dict(zip(MAPPING_COLUMNS, values, strict=True))


def statistics(values: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
  """The study's table of averages: a row for each layer, by name, of the values not missing."""
  rows = []
  for name in sorted(values):
    found = values[name][np.isfinite(values[name])]
    if found.size:
      quartiles = np.quantile(found, [0, 0.25, 0.5, 0.75, 1])
      spread = float(np.std(found, ddof=1)) if found.size > 1 else math.nan
      numbers = (float(found.size), float(np.mean(found)), spread, *map(float, quartiles))
      rows.append({'layer_name': name, **dict(zip(STATISTICS, numbers, strict=True))})
  return rows


def features(layer: edge_raw.EngineLayer) -> dict[str, int]:
  """The study's features of a layer of a known type, in its order. Raises UsageError."""
  kind = LAYER_TYPES[layer.layer_type]
  batch, *inputs = _dimensions(layer, 'Inputs')
  _, *outputs = _dimensions(layer, 'Outputs')
  if kind == columns.DENSE:
    values = (batch, math.prod(inputs), math.prod(outputs))
  else:
    pads = zip(_pair(layer, 'PrePadding'), _pair(layer, 'PostPadding'), strict=True)
    padding = [before + after for before, after in pads] if kind == columns.CONV else []
    values = (batch, *inputs, *outputs, *_window(layer), *padding, *_pair(layer, 'Stride'))
  return dict(zip(columns.STUDY_FEATURES[kind], values, strict=True))


def tables(study: Study, minimum: int = 10) -> dict[str, list[dict[str, Any]]]:
  """The study's three tables: features, power (above idle, microwatts), runtime (ms), layer_name.

  A layer with fewer readings of power than the minimum is in none; with_few_readings lists it.
  """
  found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in FILES}
  few = {layer.name for layer in with_few_readings(study, minimum)}
  for runs in _known(study):
    if runs.name not in few:
      row: dict[str, Any] = dict(features(study.engine[runs.name]))
      row['power'] = float(np.nanmean(runs.power_uw)) - study.idle_uw
      row['runtime'] = float(np.mean(runs.runtime_ms))
      row['layer_name'] = runs.name
      found[LAYER_TYPES[runs.engine_type]].append(row)
  return found


def layers_table(study: Study, device: str, minimum: int = 10) -> list[dict[str, Any]]:
  """Rows with the columns of columns.py: what a predictor is fitted to.

  A convolution that TensorRT made a matrix product of is a convolution here; 'dense' are those
  whose input has no height and width. Powers are watts, empty below the minimum of readings.
  """
  few = {layer.name for layer in with_few_readings(study, minimum)}
  rows = []
  for runs in _known(study):
    row = _configuration(study.engine[runs.name])
    row.update(network=study.model, layer=runs.name, device=device)
    row['runtime'] = float(np.mean(runs.runtime_ms))
    row['runtime_std'] = float(np.std(runs.runtime_ms))
    row['power_source'] = 'none' if runs.name in few else 'counter'
    if runs.name not in few:
      row['power'] = float(np.nanmean(runs.power_uw)) / 1e6
      row['power_std'] = float(np.nanstd(runs.power_uw)) / 1e6
      row['power_above_idle'] = row['power'] - study.idle_uw / 1e6
    rows.append({name: row.get(name, '') for name in columns.NAMES})
  return rows


def write_study(study: Study, folder: Path, device: str, minimum: int = 10) -> list[Path]:
  """Writes <folder>/<model>/: the mapping, the averages, the three tables and layers.csv."""
  target = folder / study.model
  target.mkdir(parents=True, exist_ok=True)
  written = [_write(target / MAPPING_FILE, MAPPING_COLUMNS, mapping(study))]
  known = _known(study)
  powers = {r.name: r.power_uw - study.idle_uw for r in known}
  times = {r.name: r.runtime_ms for r in known}
  for what, values in (('power', powers), ('run_time', times)):
    path = target / f'{study.model}_average_{what}_stats.csv'
    written.append(_write(path, ('layer_name', *STATISTICS), statistics(values)))
  for kind, rows in tables(study, minimum).items():
    if rows:
      names = (*columns.STUDY_FEATURES[kind], 'power', 'runtime', 'layer_name')
      written.append(_write(target / FILES[kind], names, rows))
  rows = layers_table(study, device, minimum)
  written.append(_write(target / 'layers.csv', columns.NAMES, rows))
  return written


def find_models(folder: Path) -> list[Path]:
  """The folders of models below: those with a power log. Raises UsageError where there is none."""
  found = sorted({path.parent for path in folder.rglob('*_power_log.log')})
  if not found:
    raise UsageError(
      f'{str(folder)!r} has no folder with a *_power_log.log; name the raw data of an edge study.'
    )
  return found


def _known(study: Study) -> list[LayerRuns]:
  return [layer for layer in study.layers if layer.engine_type in LAYER_TYPES]


def _notes(study: Study, readings: edge_raw.Readings) -> list[str]:
  notes = []
  if readings.refused:
    first = readings.refused[0]
    notes.append(f'{len(readings.refused):,} lines of the power log refused; {first}')
  strangers = [r.name for r in study.layers if r.name not in study.engine]
  if strangers:
    notes.append(f'{len(strangers)} layers have times but are not in the engine: {strangers[0]!r}')
  timed = {r.name for r in study.layers}
  silent = [name for name in study.engine if name not in timed]
  if silent:
    notes.append(f'{len(silent)} layers of the engine have no times: {silent[0]!r}')
  counts = Counter(len(r.runtime_ms) for r in study.layers)
  if len(counts) > 1:
    notes.append(f'layers have different numbers of runs: {dict(counts)}')
  products = [
    r for r in _known(study)
    if r.engine_type == 'CaskGemmConvolution'
    and math.prod(_dimensions(study.engine[r.name], 'Inputs')[2:]) > 1
  ]  # fmt: skip
  if products:
    notes.append(
      f"{len(products)} of the study's dense layers are 1x1 convolutions made matrix products"
    )
  return notes


def _dimensions(layer: edge_raw.EngineLayer, side: str) -> list[int]:
  """Batch, channels, height and width of the first tensor on this side; missing ones are 1."""
  tensors = layer.told.get(side)
  sizes = tensors[0].get('Dimensions') if tensors else None
  if not isinstance(sizes, list) or not 1 <= len(sizes) <= 4 or not all(
    isinstance(size, int) and size > 0 for size in sizes
  ):  # fmt: skip
    raise UsageError(
      f'the layer {layer.name!r} has {side} of the dimensions {sizes!r}; up to four sizes above 0 '
      'are needed. Was the engine made with detailed information?'
    )
  return [*sizes, 1, 1, 1][:4]


def _pair(layer: edge_raw.EngineLayer, key: str) -> Sequence[int]:
  value = layer.told.get(key)
  if not isinstance(value, list) or len(value) != 2:
    raise UsageError(f'the layer {layer.name!r} has {key} {value!r}; two numbers are needed.')
  return value


def _window(layer: edge_raw.EngineLayer) -> Sequence[int]:
  return _pair(layer, 'WindowSize' if 'WindowSize' in layer.told else 'Kernel')


def _configuration(layer: edge_raw.EngineLayer) -> dict[str, Any]:
  """The columns that decide a layer's cost; bytes by the type of its input."""
  batch, *inputs = _dimensions(layer, 'Inputs')
  _, *outputs = _dimensions(layer, 'Outputs')
  kind = LAYER_TYPES[layer.layer_type]
  if kind == columns.DENSE and math.prod(inputs[1:]) > 1:
    kind = columns.CONV
  told = str(layer.told['Inputs'][0].get('Format/Datatype', ''))
  dtype, size = ('float16', 2) if 'FP16' in told else ('float32', 4)
  groups = int(layer.told.get('Groups', 1))
  window = _window(layer)
  pads = zip(_pair(layer, 'PrePadding'), _pair(layer, 'PostPadding'), strict=True)
  weights = outputs[0] * inputs[0] // groups * math.prod(window)
  weights = 0 if kind == columns.POOLING else weights
  moved = batch * (math.prod(inputs) + math.prod(outputs)) + weights
  values = (kind, _op(layer, kind), dtype, batch, *inputs, *outputs,
            *window, *(before + after for before, after in pads), *_pair(layer, 'Stride'),
            groups)  # fmt: skip
  row = dict(zip((c.name for c in columns.CONFIGURATION), values, strict=True))
  return {**row, 'macs': batch * math.prod(outputs[1:]) * weights, 'bytes_moved': moved * size}


def _op(layer: edge_raw.EngineLayer, kind: str) -> str:
  if kind == columns.POOLING:
    return 'MaxPool2d' if layer.told.get('PoolingType') == 'MAX' else 'AvgPool2d'
  return 'Conv2d' if kind == columns.CONV else 'Linear'


def _write(path: Path, names: Sequence[str], rows: Any) -> Path:
  with path.open('w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, names, lineterminator='\n')
    writer.writeheader()
    for row in rows:
      writer.writerow(
        {k: '' if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
      )
  return path
