"""This file lists the networks of the edge study: what they take, and what is published of them.

Parameters and GMACs are those that torchvision publishes for its models (pytorch.org/vision, tables
of classification weights); GoogLeNet's are without its two auxiliary classifiers. LeNet-5 is that
of LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998, with dense
connections and average pooling.
"""

import re
from typing import NamedTuple


class Network(NamedTuple):
  """What is known of a network.

  Attributes:
    parameters: trained numbers.
    gmacs: of a forward pass of one example, in thousand millions, to two digits behind the point.
    input_shape: channels, height, width.
    in_study_test: one of the three that the study held out.
  """

  parameters: int
  gmacs: float
  input_shape: tuple[int, int, int] = (3, 224, 224)
  in_study_test: bool = False


NETWORKS = {
  'alexnet': Network(61_100_840, 0.71),
  'vgg11': Network(132_863_336, 7.61),
  'vgg13': Network(133_047_848, 11.31),
  'vgg16': Network(138_357_544, 15.47, in_study_test=True),
  'vgg19': Network(143_667_240, 19.63),
  'googlenet': Network(6_624_904, 1.50),
  'lenet': Network(61_706, 0.0, (1, 32, 32), in_study_test=True),
  'resnet18': Network(11_689_512, 1.81, in_study_test=True),
  'resnet34': Network(21_797_672, 3.66),
  'resnet50': Network(25_557_032, 4.09),
  'resnet101': Network(44_549_160, 7.80),
  'resnet152': Network(60_192_808, 11.51),
  'resnext50_32x4d': Network(25_028_904, 4.23),
  'resnext101_32x8d': Network(88_791_336, 16.41),
  'resnext101_64x4d': Network(83_455_272, 15.46),
  'mobilenet_v2': Network(3_504_872, 0.30),
  'mobilenet_v3_small': Network(2_542_856, 0.06),
  'mobilenet_v3_large': Network(5_483_032, 0.22),
  'convnext_tiny': Network(28_589_128, 4.46),
  'convnext_small': Network(50_223_688, 8.68),
  'convnext_base': Network(88_591_464, 15.36),
}


def family(network: str) -> str:
  """Networks that are built alike, left out together when a prediction is tested.

  'resnet18' is of the family 'resnet', 'mobilenet_v2' of 'mobilenet', 'module:callable' of its own;
  '' is of none.
  """
  if ':' in network:
    return network
  found = re.match(r'[a-z]+(?:_(?![a-z]?\d)(?:resnet|net|former))?', network.lower())
  return found[0] if found else ''
