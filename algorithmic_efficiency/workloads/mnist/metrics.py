"""This file is how mnist is scored."""

from algorithmic_efficiency.workloads.classification import summed_metrics

__all__ = ['summed_metrics']
