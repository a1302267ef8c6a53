"""Batch sizes."""

NAME = 'averaging'
_SIZES = {'digits': 64, 'mnist': 64, 'cifar': 128}


def size_of(workload_name):
  """Examples in a batch."""
  if workload_name not in _SIZES:
    raise ValueError(workload_name)
  return _SIZES[workload_name]
