"""Roots of matrices."""

import torch


def inverse_root(matrix, root):
  """matrix ** (-1 / root), for a symmetric positive one."""
  values, vectors = torch.linalg.eigh(matrix)
  return vectors @ torch.diag(values.clamp(min=1e-6) ** (-1 / root)) @ vectors.T
