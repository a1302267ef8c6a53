"""Batch sizes."""

NAME = 'own mesh'


def size_of(workload_name):
  """Examples in a batch."""
  if workload_name not in ('digits', 'mnist', 'cifar'):
    raise ValueError(workload_name)
  return 64
