"""Workloads: a model, its data and its target, one folder each."""
