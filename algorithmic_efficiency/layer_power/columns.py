"""This file lists what is known of a layer and what was measured of it: names, units, meanings."""

from typing import NamedTuple


class Column(NamedTuple):
  """A column: its name and what it holds."""

  name: str
  meaning: str


# Kinds of layers that have features of their own; all others are 'other', counted and shown.
CONV, POOLING, DENSE = 'conv', 'pooling', 'dense'
NORMALISATION, ACTIVATION, ATTENTION, OTHER = 'normalisation', 'activation', 'attention', 'other'
LAYER_TYPES = (CONV, POOLING, DENSE, NORMALISATION, ACTIVATION, ATTENTION, OTHER)

# What decides how long a layer takes and what it draws; two layers that agree in all of these are
# one configuration. Sizes are channels, height, width; a missing dimension is 1.
CONFIGURATION = (
  Column('layer_type', 'conv, pooling, dense, normalisation, activation, attention or other.'),
  Column(
    'op', 'The operator within its type: Conv2d, MaxPool2d, AdaptiveAvgPool2d, Linear, ReLU …'
  ),
  Column('dtype', 'Of its input: float32, float16, bfloat16 …'),
  Column('batch_size', 'Examples.'),
  Column('input_size_0', 'Channels of the input; of a dense layer its features.'),
  Column('input_size_1', 'Height of the input; of attention or a sequence its length.'),
  Column('input_size_2', 'Width of the input.'),
  Column('output_size_0', 'Channels of the output; of a dense layer its features.'),
  Column('output_size_1', 'Height of the output.'),
  Column('output_size_2', 'Width of the output.'),
  Column('kernel_0', 'Height of the kernel or window.'),
  Column('kernel_1', 'Width of the kernel or window.'),
  Column('padding_0', 'Rows added: above and below together.'),
  Column('padding_1', 'Columns added: left and right together.'),
  Column('stride_0', 'Rows between two windows.'),
  Column('stride_1', 'Columns between two windows.'),
  Column('groups', 'Groups of channels that are convolved apart.'),
)
DERIVED = (
  Column('macs', 'Multiplications with an addition, of the whole batch; 0 where there are none.'),
  Column('bytes_moved', 'Input, output and weights, each moved once; bytes.'),
)
MEASURED = (
  Column('runtime', 'Milliseconds of one forward pass through the layer.'),
  Column('runtime_std', 'Its standard deviation over repeats, milliseconds.'),
  Column('power', 'Watts while the layer ran; empty where nothing measures them.'),
  Column('power_std', 'Its standard deviation over repeats, watts.'),
  Column('power_above_idle', 'Watts above those of the idle device; empty where not measured.'),
  Column('power_source', 'counter, nvml, rapl, …, or none.'),
)
WHERE = (
  Column('network', 'The network that the layer is in.'),
  Column('layer', "The layer's name in it."),
  Column('device', 'What it was measured on.'),
)

# The features of the edge study that this room replaces, in its order. Its dense layers have a
# product of all input and of all output dimensions.
_SIZES = ('batch_size', 'input_size_0', 'input_size_1', 'input_size_2', 'output_size_0',
          'output_size_1', 'output_size_2')  # fmt: skip
STUDY_FEATURES = {
  CONV: (*_SIZES, 'kernel_0', 'kernel_1', 'padding_0', 'padding_1', 'stride_0', 'stride_1'),
  POOLING: (*_SIZES, 'kernel_0', 'kernel_1', 'stride_0', 'stride_1'),
  DENSE: ('batch_size', 'input_size', 'output_size'),
}
NAMES = tuple(c.name for c in (*WHERE, *CONFIGURATION, *DERIVED, *MEASURED))
