"""This file is a U-Net with batch norm, in PyTorch."""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from algorithmic_efficiency.frameworks import layers_pytorch
from algorithmic_efficiency.workloads.facts import Facts

OUTPUT_PARAMS = ('output.weight', 'output.bias')

_Norm = Callable[[int], layers_pytorch.BatchNorm2d]


class ConvBlock(nn.Module):
  """Twice a convolution of 3 x 3, batch norm and ReLU; inputs [batch, channels, height, width]."""

  def __init__(self, inputs: int, width: int, norm: _Norm) -> None:
    super().__init__()
    self.conv1 = _convolution(inputs, width)
    self.norm1 = norm(width)
    self.conv2 = _convolution(width, width)
    self.norm2 = norm(width)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(self.norm1(self.conv1(x)))
    return torch.relu(self.norm2(self.conv2(x)))


class UNet(nn.Module):
  """A block a level down, the image halved between them; then up again, beside what went down.

  Dropout, where it is asked for, is at the bottom.
  """

  def __init__(self, channels: int, widths: Sequence[int], num_classes: int, norm: _Norm) -> None:
    super().__init__()
    *levels, bottom = widths
    self.down = nn.ModuleList(
      ConvBlock(inputs, width, norm)
      for inputs, width in zip([channels, *levels], levels, strict=False)
    )
    self.bottom = ConvBlock(levels[-1], bottom, norm)
    self.enlarge = nn.ModuleList()
    self.up = nn.ModuleList()
    inputs = bottom
    for width in levels[::-1]:
      self.enlarge.append(nn.ConvTranspose2d(inputs, width, 2, 2))
      self.up.append(ConvBlock(2 * width, width, norm))
      inputs = width
    self.output = nn.Conv2d(inputs, num_classes, 1)
    for layer in (*self.enlarge, self.output):
      _init_like_flax(layer)

  def forward(self, inputs: torch.Tensor, dropout_rate: float = 0.0) -> torch.Tensor:
    """Logits, [batch, height, width, classes], of `inputs`, [batch, height, width, channels]."""
    x = inputs.permute(0, 3, 1, 2)
    skipped: list[torch.Tensor] = []
    for block in self.down:
      skipped.append(block(x))
      x = functional.max_pool2d(skipped[-1], 2)
    x = layers_pytorch.dropout(self.bottom(x), dropout_rate, self.training)
    for enlarge, block in zip(self.enlarge, self.up, strict=True):
      x = block(torch.cat([enlarge(x), skipped.pop()], dim=1))
    return self.output(x).permute(0, 2, 3, 1)


def build_model(facts: Facts) -> Callable[[], UNet]:
  """Builds the module that `facts.model` describes, drawing its weights, when called."""
  norm = functools.partial(
    layers_pytorch.BatchNorm2d,
    eps=facts.model['batch_norm_epsilon'],
    momentum=1 - facts.model['batch_norm_momentum'],
  )
  return functools.partial(
    UNet, facts.input_shape[-1], facts.model['widths'], facts.num_classes, norm
  )


def _convolution(inputs: int, width: int) -> nn.Conv2d:
  """A convolution of 3 x 3 without bias; its weights are those of He and others, by fan-in."""
  layer = nn.Conv2d(inputs, width, 3, padding=1, bias=False)
  nn.init.kaiming_normal_(layer.weight, mode='fan_in', nonlinearity='relu')
  return layer


def _init_like_flax(layer: nn.Module) -> None:
  """Variance 1 / channels, since each number it makes has one window; biases zero."""
  assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
  nn.init.normal_(layer.weight, std=layer.in_channels**-0.5)
  if layer.bias is not None:
    nn.init.zeros_(layer.bias)
