"""This file is the model of digits in PyTorch."""

from algorithmic_efficiency.workloads.mlp_pytorch import OUTPUT_PARAMS, build_model

__all__ = ['OUTPUT_PARAMS', 'build_model']
