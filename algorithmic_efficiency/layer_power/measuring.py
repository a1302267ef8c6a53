"""This file measures networks layer by layer: each configuration once, alone and in its networks.

`measured.jsonl` gets a line as soon as something is measured, so a run that was stopped goes on
where it was; the tables are made of it at the end.
"""

import collections
import importlib
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.layer_power.columns import (
  CONV,
  DENSE,
  NAMES,
  POOLING,
  STUDY_FEATURES,
)
from algorithmic_efficiency.layer_power.layers import Layer, Traced, study_row, write_table
from algorithmic_efficiency.layer_power.meter import Measured, Meter
from algorithmic_efficiency.layer_power.zoo import NETWORKS, family
from algorithmic_efficiency.records.appended_file import AppendedFile, end_last_line, to_line

LINES, LAYERS, NETWORK_TABLE = 'measured.jsonl', 'layers.csv', 'networks.csv'
LAYER_NAMES = (*NAMES, 'family', 'framework', 'runtime_in_network', 'runtime_in_network_std')
NETWORK_NAMES = ('network', 'family', 'framework', 'device', 'batch_size', 'parameters', 'macs',
                 'num_layers', 'num_distinct', 'num_not_alone', 'runtime', 'runtime_std',
                 'sum_alone', 'sum_in_network', 'num_in_network', 'power', 'power_above_idle',
                 'energy_mj', 'sum_energy_mj', 'power_source', 'others')  # fmt: skip
_MEASURED = ('runtime', 'runtime_std', 'power', 'power_std', 'power_above_idle', 'power_source')
_MS = 1e3
_MICROWATTS = 1e6
_STUDY_NAMES = {CONV: 'convolutional', POOLING: 'pooling', DENSE: 'dense'}


@dataclass(frozen=True)
class Asked:
  """What is to be measured: a network with a batch."""

  network: str
  batch_size: int
  input_shape: tuple[int, ...] | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """Of its inputs, the batch first."""
    known = NETWORKS.get(self.network)
    shape = self.input_shape or (known.input_shape if known else (3, 224, 224))
    return (self.batch_size, *shape)


def load_runner(framework: str, device: str) -> Any:
  """The framework's runner, imported now. Raises UsageError."""
  try:
    module = importlib.import_module(f'{__package__}.running_{framework}')
  except ImportError as error:
    raise UsageError(
      f'--framework={framework} is not installed ({error}); '
      f'pip install "algorithmic-efficiency[{framework},networks]".'
    ) from error
  return module.Runner(device)


def write_shapes(folder: Path, runner: Any, asked: Sequence[Asked]) -> list[dict[str, Any]]:
  """layers.csv of networks that are not run: shapes, MACs and bytes alone.

  Returns what is known of each network: parameters, MACs, layers, and what is none.
  """
  rows: list[dict[str, Any]] = []
  networks: list[dict[str, Any]] = []
  for a in asked:
    found = runner.trace(a.network, a.shape)
    where = {'network': a.network, 'family': family(a.network), 'framework': runner.name}
    rows += [{**where, 'layer': p.name, **p.layer.row()} for p in found.layers]
    networks.append({
      'network': a.network,
      'batch_size': a.batch_size,
      'parameters': runner.num_parameters(a.network),
      'macs': found.macs,
      'layers': dict(collections.Counter(p.layer.layer_type for p in found.layers)),
      'others': dict(found.others),
    })  # fmt: skip
  folder.mkdir(parents=True, exist_ok=True)
  write_table(folder / LAYERS, rows, LAYER_NAMES)
  return networks


def write_study_tables(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
  """<network>/convolutional.csv, pooling.csv and dense.csv with the edge study's columns.

  Its power is in microwatts, and it includes the idle device's.
  """
  tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for row in rows:
    kind = row['layer_type']
    if kind in STUDY_FEATURES and row['runtime'] is not None:
      power = None if row['power'] is None else row['power'] * _MICROWATTS
      told = {'power': power, 'runtime': row['runtime'], 'layer_name': row['layer']}
      features = study_row(Layer.of_row(row))
      tables.setdefault((row['network'], kind), []).append({**features, **told})
  for (network, kind), own in tables.items():
    target = folder / network.replace(':', '.')
    target.mkdir(parents=True, exist_ok=True)
    names = (*STUDY_FEATURES[kind], 'power', 'runtime', 'layer_name')
    write_table(target / f'{_STUDY_NAMES[kind]}.csv', own, names)


class Measurement:
  """A folder of measurements.

  Args:
    folder: made if it is not there; what it holds is not measured again.
    runner: of the framework and device.
    meter: of time and power.
    tell: gets a line of text for people, and how far it is.
  """

  def __init__(
    self, folder: Path, runner: Any, meter: Meter, tell: Callable[[str, int, int], None]
  ) -> None:
    self._runner, self._meter, self._tell = runner, meter, tell
    self._folder = folder
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise MeasurementError(
        f'{str(folder)!r} cannot be made ({error.strerror}); choose another --output_dir.'
      ) from error
    self._where = {'framework': runner.name, 'device': runner.kind, 'source': meter.source}
    self._alone: dict[Layer, dict[str, Any]] = {}
    self._networks: dict[Asked, dict[str, Any]] = {}
    self._read()

  def run(self, asked: Sequence[Asked], repeats_in_network: int = 10) -> None:
    """Measures what is not there yet, and writes the tables. Raises UsageError."""
    traced = {a: self._runner.trace(a.network, a.shape) for a in asked}
    distinct = dict.fromkeys(layer for t in traced.values() for layer in t.distinct())
    waiting = [layer for layer in distinct if layer not in self._alone]
    file = AppendedFile(self._folder / LINES)
    try:
      total = len(waiting) + len(asked)
      for done, layer in enumerate(waiting, 1):
        result = self._measure_alone(layer)
        self._alone[layer] = result
        file.append(to_line({'kind': 'alone', **self._where, 'layer': asdict(layer), **result}))
        self._tell(f'{layer.layer_type} {layer.op}', done, total)
      for done, a in enumerate(asked, len(waiting) + 1):
        if a not in self._networks:
          result = self._measure_network(a, repeats_in_network)
          self._networks[a] = result
          file.append(to_line({'kind': 'network', **self._where, 'asked': asdict(a), **result}))
        self._tell(f'{a.network}, batch {a.batch_size}', done, total)
    finally:
      file.close()
    self._write_tables(traced)

  def _measure_alone(self, layer: Layer) -> dict[str, Any]:
    call = self._runner.alone(layer)
    if call is None:
      return {'measured': None}
    return {'measured': asdict(self._meter.measure(call, self._runner.wait))}

  def _measure_network(self, asked: Asked, repeats: int) -> dict[str, Any]:
    network = self._runner.whole(asked.network, asked.shape)
    whole = self._meter.measure(network.call, self._runner.wait)
    seconds: dict[str, list[float]] = network.in_network(repeats)
    per_module = {
      name: [statistics.median(values) * _MS, _spread(values) * _MS, len(values) // repeats]
      for name, values in seconds.items()
    }
    return {'measured': asdict(whole), 'modules': per_module}

  def _write_tables(self, traced: dict[Asked, Traced]) -> None:
    rows: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    for asked, found in traced.items():
      own = [self._row(asked, placed) for placed in found.layers]
      rows += own
      networks.append(self._network_row(asked, found, own))
    write_table(self._folder / LAYERS, rows, LAYER_NAMES)
    write_table(self._folder / NETWORK_TABLE, networks, NETWORK_NAMES)
    write_study_tables(self._folder / 'study', rows)

  def _row(self, asked: Asked, placed: Any) -> dict[str, Any]:
    measured = self._alone[placed.layer]['measured'] or {}
    modules = self._networks[asked]['modules']
    inside = modules.get(placed.name) if placed.alone else None
    if inside is not None and inside[2] != 1:  # a module that is called several times
      inside = None
    return {
      'network': asked.network,
      'layer': placed.name,
      'family': family(asked.network),
      **self._where,
      **placed.layer.row(),
      **{name: measured.get(name) for name in _MEASURED},
      'runtime_in_network': inside[0] if inside else None,
      'runtime_in_network_std': inside[1] if inside else None,
    }

  def _network_row(
    self, asked: Asked, traced: Traced, rows: Sequence[dict[str, Any]]
  ) -> dict[str, Any]:
    whole = Measured(**self._networks[asked]['measured'])
    alone = [row['runtime'] for row in rows if row['runtime'] is not None]
    energies = [row['runtime'] * row['power'] for row in rows if row['power'] is not None]
    modules = self._networks[asked]['modules'].values()
    return {
      'network': asked.network,
      'family': family(asked.network),
      **self._where,
      'batch_size': asked.batch_size,
      'parameters': self._runner.num_parameters(asked.network),
      'macs': traced.macs,
      'num_layers': len(rows),
      'num_distinct': len(traced.distinct()),
      'num_not_alone': len(rows) - len(alone),
      'runtime': whole.runtime,
      'runtime_std': whole.runtime_std,
      'sum_alone': sum(alone),
      'sum_in_network': sum(median * calls for median, _, calls in modules) or None,
      'num_in_network': len(modules),
      'power': whole.power,
      'power_above_idle': whole.power_above_idle,
      'energy_mj': None if whole.power is None else whole.power * whole.runtime,
      'sum_energy_mj': sum(energies) if len(energies) == len(rows) else None,
      'power_source': whole.power_source,
      'others': ' '.join(f'{name}:{count}' for name, count in traced.others.most_common()),
    }

  def _read(self) -> None:
    """What was measured before on this device, by this framework, with this source of power."""
    path = self._folder / LINES
    if not path.exists():
      return
    end_last_line(path)
    for text in path.read_text(encoding='utf-8').splitlines():
      try:
        line = json.loads(text)
      except ValueError:
        continue  # cut by a kill: it is measured again
      if any(line.get(name) != value for name, value in self._where.items()):
        continue
      if line['kind'] == 'alone':
        self._alone[Layer(**line['layer'])] = {'measured': line['measured']}
      else:
        asked = line['asked']
        shape = asked['input_shape']
        known = Asked(asked['network'], asked['batch_size'], shape and tuple(shape))
        self._networks[known] = {name: line[name] for name in ('measured', 'modules')}


def _spread(values: Sequence[float]) -> float:
  return statistics.stdev(values) if len(values) > 1 else 0.0
