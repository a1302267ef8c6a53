"""This file computes from a layer's configuration what decides its cost on any device.

Nothing of a certain device is in it: tiles of 64 and 128, blocks of 32 of the reduction, lanes of
32 and alignments of 4, 8 and 32 channels are those that GPU libraries choose among; which of them
matter is left to the fit.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from algorithmic_efficiency.layer_power import columns
from algorithmic_efficiency.layer_power.frames import Frame

_BYTES = {'float64': 8, 'float32': 4, 'float16': 2, 'bfloat16': 2, 'int8': 1}
_TILES = (64, 128)
_REDUCTION_BLOCK = 32
_LANES = 32
_ALIGNMENTS = (4, 8, 32)


class Quantities(NamedTuple):
  """Of each layer: multiplications, bytes moved, and its matrix product of rows x columns x depth.

  There is a product for each group of channels; a layer without multiplications has depth 0. area
  is that of an example's output.
  """

  macs: np.ndarray
  bytes_moved: np.ndarray
  rows: np.ndarray
  columns: np.ndarray
  depth: np.ndarray
  groups: np.ndarray
  inputs: np.ndarray
  outputs: np.ndarray
  weights: np.ndarray
  area: np.ndarray


def quantities(rows: Frame) -> Quantities:
  """What follows from the sizes; of other types than conv and dense the table's own, if any."""
  size = {name: rows[name].to_numpy(float) for name in rows.columns if name in _NUMBERS}
  groups = size['groups']
  product = rows['layer_type'].isin((columns.CONV, columns.DENSE)).to_numpy()
  window = size['kernel_0'] * size['kernel_1']
  batch = size['batch_size']
  per_group = size['output_size_0'] / groups
  area = size['output_size_1'] * size['output_size_2']
  places = batch * area
  depth = np.where(product, size['input_size_0'] / groups * window, 0.0)
  weights = np.where(product, size['output_size_0'] * depth, 0.0)
  inputs = batch * size['input_size_0'] * size['input_size_1'] * size['input_size_2']
  outputs = places * size['output_size_0']
  width = np.array([_BYTES.get(str(dtype).removeprefix('torch.'), 4) for dtype in rows['dtype']])
  macs, moved = places * weights, width * (inputs + outputs + weights)
  for name, computed in (('macs', macs), ('bytes_moved', moved)):
    if name in size:
      told = size[name]
      computed[:] = np.where(~product & np.isfinite(told), told, computed)
  return Quantities(macs, moved, per_group, places, depth, groups, inputs, outputs, weights, area)


def describe(rows: Frame, ops: Sequence[str]) -> tuple[list[str], np.ndarray]:
  """(names, values [layers, names]): logarithms of sizes, flags, and which of the ops it is."""
  q = quantities(rows)
  size = {name: rows[name].to_numpy(float) for name in _NUMBERS if name in rows}
  product = q.depth > 0
  window = size['kernel_0'] * size['kernel_1']
  stride = size['stride_0'] * size['stride_1']
  in_group = size['input_size_0'] / q.groups
  found: dict[str, np.ndarray] = {
    'inputs': _log(q.inputs), 'outputs': _log(q.outputs), 'weights': _log(q.weights),
    'input_channels': _log(size['input_size_0']), 'output_channels': _log(size['output_size_0']),
    'input_area': _log(size['input_size_1'] * size['input_size_2']),
    'output_area': _log(size['output_size_1'] * size['output_size_2']),
    'batch': _log(size['batch_size']), 'window': _log(window), 'stride': _log(stride),
    'groups': _log(q.groups), 'input_channels_of_group': _log(in_group),
    'output_channels_of_group': _log(q.rows), 'macs': _log(q.macs), 'bytes': _log(q.bytes_moved),
    'intensity': _log(100 * q.macs / q.bytes_moved), 'depth': _log(q.depth),
    'places': _log(q.columns),
  }  # fmt: skip
  each = np.maximum(q.inputs / q.outputs, 1)
  found['inputs_of_output'] = _log(each)
  found['padding_of_lanes'] = _log(np.ceil(each / _LANES) * _LANES / each)
  for side in _TILES:
    tall, wide = np.ceil(q.rows / side), np.ceil(q.columns / side)
    found[f'tiles_{side}'] = _log(tall * wide * q.groups)
    found[f'padding_to_{side}'] = _log(tall * wide * side**2 / (q.rows * q.columns))
  blocks = np.ceil(q.depth / _REDUCTION_BLOCK) * _REDUCTION_BLOCK
  found['padding_of_depth'] = _log(blocks / np.maximum(q.depth, 1))
  for name, channels in (('input_alignment', in_group), ('output_alignment', q.rows)):
    found[name] = np.sum([channels % n == 0 for n in _ALIGNMENTS], axis=0).astype(float)
  found['grouped'] = (q.groups > 1).astype(float)
  found['pointwise'] = ((window == 1) & product).astype(float)
  found['dense_3x3'] = ((window == 9) & (stride == 1) & product).astype(float)
  for op in ops:
    found[f'op {op}'] = (rows['op'].astype(str) == op).to_numpy(float)
  return list(found), np.stack([np.asarray(v, float) for v in found.values()], axis=1)


_NUMBERS = {c.name for c in columns.CONFIGURATION} - {'layer_type', 'op', 'dtype'}
_NUMBERS |= {c.name for c in columns.DERIVED}


def _log(values: np.ndarray) -> np.ndarray:
  """The logarithm, 0 for what is below 1."""
  return np.log(np.maximum(values, 1.0))
