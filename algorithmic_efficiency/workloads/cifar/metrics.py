"""This file is how cifar is scored."""

from algorithmic_efficiency.workloads.classification import summed_metrics

__all__ = ['summed_metrics']
