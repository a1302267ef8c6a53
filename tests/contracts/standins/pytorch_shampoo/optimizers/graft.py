"""Whose length a step has."""


def norm_of(grad):
  """That of gradient descent."""
  return grad.norm()
