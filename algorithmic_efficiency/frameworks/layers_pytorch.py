"""This file has the layers in which flax and PyTorch differ, in PyTorch; see layers_jax.py."""

import math
from typing import Any

import torch
from torch import distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def dropout(x: torch.Tensor, rate: float, training: bool) -> torch.Tensor:
  """Zeros each number with probability `rate`, scales the rest; rate 0 costs nothing."""
  return functional.dropout(x, rate, training) if training and rate else x


def init_dense_like_flax(layer: nn.Linear) -> None:
  """Variance 1 / fan-in, a normal cut at two standard deviations, biases zero.

  Both frameworks draw from one distribution, so that their trials can be compared.
  """
  cut = 0.87962566103423978  # standard deviation of a unit normal cut at ±2
  stddev = 1 / math.sqrt(layer.in_features) / cut
  nn.init.trunc_normal_(layer.weight, std=stddev, a=-2 * stddev, b=2 * stddev)
  nn.init.zeros_(layer.bias)


class BatchNorm2d(nn.BatchNorm2d):
  """torch.nn.BatchNorm2d with flax's statistics, taken over the batches of all processes.

  The running variance averages the variance itself, where torch's averages n / (n - 1) times it.
  In training under torch.distributed with several processes, mean and variance are those of all
  their batches together, on any device; every process must then run the same passes.
  """

  def forward(self, input: torch.Tensor) -> torch.Tensor:
    """Normalised `input`, [batch, channels, height, width]."""
    if not self.training:
      return super().forward(input)
    self._check_input_dim(input)
    if _several_processes():
      output, mean, variance = _SharedBatchNorm.apply(input, self.weight, self.bias, self.eps)
    else:
      output, mean, variance = self._normalise_alone(input)
    if self.track_running_stats and self.running_mean is not None:
      self._update_running_stats(mean, variance)
    return output

  def _normalise_alone(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Output, mean and variance of this process's batch, by torch's own fused function."""
    if not (self.track_running_stats and self.running_mean is not None):
      nothing = x.new_zeros(0)
      output = functional.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
      return output, nothing, nothing
    # With momentum 1 the function overwrites what it is handed by the statistics of the batch.
    mean, variance = self.running_mean.new_zeros(2, self.num_features)
    output = functional.batch_norm(x, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
    count = x.numel() // self.num_features
    return output, mean, variance * ((count - 1) / count)

  @torch.no_grad()
  def _update_running_stats(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
    assert self.running_mean is not None
    assert self.running_var is not None
    assert self.num_batches_tracked is not None
    self.num_batches_tracked.add_(1)
    if self.momentum is None:  # the plain average over all batches
      share = 1 / self.num_batches_tracked.to(mean.dtype)
      self.running_mean.lerp_(mean, share)
      self.running_var.lerp_(variance, share)
    else:
      self.running_mean.lerp_(mean, self.momentum)
      self.running_var.lerp_(variance, self.momentum)


class _SharedBatchNorm(torch.autograd.Function):
  """Batch norm over the batches of all processes; one collective forward and one backward.

  Gives (output, mean, variance); the last two carry no gradient.
  """

  @staticmethod
  def forward(
    ctx: Any,
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
  ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean, variance, count = _shared_statistics(x)
    output = functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)
    ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), count)
    ctx.mark_non_differentiable(mean, variance)
    return output, mean, variance

  @staticmethod
  @once_differentiable
  def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, weight, mean, scale, count = ctx.saved_tensors
    gradient = gradients[0].to(mean.dtype)
    centred = x.to(mean.dtype) - _per_channel(mean)
    sums = torch.stack([gradient.sum(_OTHERS), (gradient * centred).sum(_OTHERS) * scale])
    bias_gradient, weight_gradient = sums  # of this process's loss alone, as of any other layer
    shared = sums.clone()
    distributed.all_reduce(shared)
    of_mean, of_scale = shared / count
    scaled = gradient - _per_channel(of_mean) - centred * _per_channel(of_scale * scale)
    x_gradient = scaled * _per_channel(scale if weight is None else scale * weight)
    return (
      x_gradient.to(x.dtype),
      weight_gradient if ctx.needs_input_grad[1] else None,
      bias_gradient if ctx.needs_input_grad[2] else None,
      None,
    )


_OTHERS = (0, 2, 3)  # the dimensions that are averaged over


def _shared_statistics(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
  """Mean and variance [channels] of the batches of all processes, and how many numbers each has."""
  x = x.to(torch.promote_types(x.dtype, torch.float32))
  own_variance, own_mean = torch.var_mean(x, _OTHERS, correction=0)
  own_count = x.new_full((1,), x.numel() // x.shape[1])
  own = torch.cat([own_mean, own_variance, own_count])
  parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
  distributed.all_gather(parts, own)
  means, variances, counts = torch.stack(parts).split([len(own_mean), len(own_mean), 1], dim=1)
  total = counts.sum()
  mean = (counts * means).sum(0) / total
  # Deviations from the common mean, rather than a difference of squares, which loses digits.
  variance = (counts * (variances + (means - mean).square())).sum(0) / total
  return mean, variance, total


def _per_channel(vector: torch.Tensor) -> torch.Tensor:
  return vector.view(1, -1, 1, 1)


def _several_processes() -> bool:
  return (
    distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
  )
