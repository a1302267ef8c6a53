"""This file is the model of mnist in JAX."""

from algorithmic_efficiency.workloads.mlp_jax import OUTPUT_PARAMS, build_model

__all__ = ['OUTPUT_PARAMS', 'build_model']
