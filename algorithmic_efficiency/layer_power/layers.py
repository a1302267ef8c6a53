"""This file describes layers by what decides their time and power: sizes, kernel, MACs, bytes.

A layer is an operator with weights or a cost of its own, wherever in the network it is called;
what changes no number or only its place (views, reshapes, additions) is 'other', counted and shown.
"""

import collections
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.layer_power.columns import (
  ATTENTION,
  CONFIGURATION,
  CONV,
  DENSE,
  STUDY_FEATURES,
)

_BYTES = {'float64': 8, 'float32': 4, 'float16': 2, 'bfloat16': 2, 'float8': 1}


@dataclass(frozen=True)
class Layer:
  """A configuration: all that its time depends on. Sizes are channels, height, width.

  `padding_*` are both sides together. Of a dense layer `input_size_0` and `output_size_0` are its
  features, and `input_size_1` how many vectors of an example pass through it; of attention
  `input_size_0` is the width of a head, `input_size_1` the length, `groups` the heads.
  """

  layer_type: str
  op: str
  dtype: str
  batch_size: int
  input_size_0: int
  input_size_1: int = 1
  input_size_2: int = 1
  output_size_0: int = 1
  output_size_1: int = 1
  output_size_2: int = 1
  kernel_0: int = 1
  kernel_1: int = 1
  padding_0: int = 0
  padding_1: int = 0
  stride_0: int = 1
  stride_1: int = 1
  groups: int = 1

  @property
  def num_inputs(self) -> int:
    """Numbers that go in."""
    return self.batch_size * self.input_size_0 * self.input_size_1 * self.input_size_2

  @property
  def num_outputs(self) -> int:
    """Numbers that come out."""
    return self.batch_size * self.output_size_0 * self.output_size_1 * self.output_size_2

  @property
  def num_weights(self) -> int:
    """Numbers that are trained; 0 where there are none or they do not count."""
    if self.layer_type == CONV:
      per_output = self.input_size_0 // self.groups * self.kernel_0 * self.kernel_1
      return self.output_size_0 * per_output
    return self.input_size_0 * self.output_size_0 if self.layer_type == DENSE else 0

  @property
  def macs(self) -> int:
    """Multiplications with an addition in a forward pass of the batch."""
    if self.layer_type == CONV:
      if self.op == 'conv_transpose2d':  # each input is spread over a window
        per_input = self.output_size_0 // self.groups * self.kernel_0 * self.kernel_1
        return self.num_inputs * per_input
      return self.num_outputs * (self.input_size_0 // self.groups) * self.kernel_0 * self.kernel_1
    if self.layer_type == DENSE:
      return self.num_outputs * self.input_size_0
    if self.layer_type == ATTENTION:  # queries with keys, and weights with values
      pairs = self.output_size_1 * self.input_size_1
      return 2 * self.batch_size * self.groups * pairs * self.input_size_0
    return 0

  @property
  def bytes_moved(self) -> int:
    """Input, output and weights, each moved once."""
    inputs = self.num_inputs * (3 * self.groups if self.layer_type == ATTENTION else 1)
    outputs = self.num_outputs * (self.groups if self.layer_type == ATTENTION else 1)
    return (inputs + outputs + self.num_weights) * _BYTES.get(self.dtype, 4)

  def row(self) -> dict[str, Any]:
    """Its columns, the derived ones included."""
    own = {f.name: getattr(self, f.name) for f in fields(self)}
    return {**own, 'macs': self.macs, 'bytes_moved': self.bytes_moved}

  @staticmethod
  def of_row(row: Mapping[str, Any]) -> 'Layer':
    """The layer of a row of a table. Raises UsageError where a column is missing or no number."""
    values: dict[str, Any] = {}
    for column in CONFIGURATION:
      name = column.name
      if name not in row:
        raise UsageError(f'the table has no column {name}; give one that measure_layers.py writes.')
      text = row[name]
      if name in ('layer_type', 'op', 'dtype'):
        values[name] = str(text)
        continue
      try:
        values[name] = int(float(text))
      except (TypeError, ValueError) as error:
        raise UsageError(f'{name} is {text!r}, which is no number; mend the table.') from error
    return Layer(**values)


@dataclass(frozen=True)
class Placed:
  """A layer in its network.

  Attributes:
    name: of the module that it is called in; several calls of one are told apart by '#2', …
    layer: what it is.
    alone: the module has no other layer, so that hooks around it time this one.
  """

  name: str
  layer: Layer
  alone: bool


@dataclass(frozen=True)
class Traced:
  """A network as it was called.

  Attributes:
    layers: in the order of the calls.
    others: operators that are no layers, and how often they were called.
  """

  layers: list[Placed]
  others: collections.Counter[str]

  def distinct(self) -> dict[Layer, int]:
    """Each configuration once, with the number of its calls."""
    return dict(collections.Counter(placed.layer for placed in self.layers))

  @property
  def macs(self) -> int:
    """Of all layers."""
    return sum(placed.layer.macs for placed in self.layers)


def study_row(layer: Layer) -> dict[str, int]:
  """The features of the edge study for a convolution, pooling or dense layer.

  Its dense layers have the product of all dimensions of an example.
  """
  if layer.layer_type == DENSE:
    sizes = (layer.input_size_0 * layer.input_size_1, layer.output_size_0 * layer.output_size_1)
    return {'batch_size': layer.batch_size, 'input_size': sizes[0], 'output_size': sizes[1]}
  return {name: getattr(layer, name) for name in STUDY_FEATURES[layer.layer_type]}


def write_table(path: Path, rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> None:
  """Writes rows as CSV, whole or not at all."""
  temporary = path.with_name(f'.{path.name}.tmp')
  with temporary.open('w', encoding='utf-8', newline='') as file:
    writer = csv.DictWriter(file, names, extrasaction='ignore', lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  temporary.replace(path)
