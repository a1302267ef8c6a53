"""This file is a residual network of 18 layers for small images, in PyTorch."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn

from algorithmic_efficiency.frameworks import layers_pytorch
from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('output.weight', 'output.bias')

_Norm = Callable[[int], layers_pytorch.BatchNorm2d]


class BasicBlock(nn.Module):
  """Two convolutions of 3 x 3 beside a shortcut; inputs [batch, channels, height, width]."""

  def __init__(self, inputs: int, width: int, stride: int, norm: _Norm) -> None:
    super().__init__()
    self.conv1 = _convolution(inputs, width, 3, stride)
    self.norm1 = norm(width)
    self.conv2 = _convolution(width, width, 3)
    self.norm2 = norm(width)
    nn.init.zeros_(self.norm2.weight)  # the block begins as its shortcut
    self.shortcut = nn.Sequential()
    if stride != 1 or inputs != width:
      self.shortcut.append(_convolution(inputs, width, 1, stride)).append(norm(width))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = torch.relu(self.norm1(self.conv1(x)))
    y = self.norm2(self.conv2(y))
    return torch.relu(self.shortcut(x) + y)


class ResNet(nn.Module):
  """Stem → stages of blocks → average over the image → dropout → logits.

  The width doubles and the image halves from each stage to the next. The stem is one convolution
  of stride 1 without pooling, since the images are small.
  """

  def __init__(
    self, stage_sizes: Sequence[int], channels: int, width: int, num_classes: int, norm: _Norm
  ) -> None:
    super().__init__()
    self.conv = _convolution(channels, width, 3)
    self.norm = norm(width)
    blocks: list[BasicBlock] = []
    inputs = width
    for stage, size in enumerate(stage_sizes):
      for block in range(size):
        stride = 2 if stage and not block else 1
        blocks.append(BasicBlock(inputs, width << stage, stride, norm))
        inputs = width << stage
    self.blocks = nn.Sequential(*blocks)
    self.output = nn.Linear(inputs, num_classes)
    layers_pytorch.init_dense_like_flax(self.output)

  def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
    """Logits of `inputs`, [batch, height, width, channels]."""
    x = inputs.permute(0, 3, 1, 2)
    x = torch.relu(self.norm(self.conv(x)))
    x = self.blocks(x).mean((2, 3))
    return self.output(layers_pytorch.dropout(x, dropout_rate, self.training))


def build_model(facts: Facts) -> Callable[[], ResNet]:
  """Builds the module that `facts.model` describes, drawing its weights, when called."""
  norm = functools.partial(
    layers_pytorch.BatchNorm2d,
    eps=facts.model['batch_norm_epsilon'],
    momentum=1 - facts.model['batch_norm_momentum'],
  )
  return functools.partial(
    ResNet,
    facts.model['stage_sizes'],
    facts.input_shape[-1],
    facts.model['width'],
    facts.num_classes,
    norm,
  )


def _convolution(inputs: int, width: int, size: int, stride: int = 1) -> nn.Conv2d:
  """A convolution without bias; its weights are those of He and others, by fan-out."""
  layer = nn.Conv2d(inputs, width, size, stride, padding=size // 2, bias=False)
  nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
  return layer
