"""This file says which device JAX is to run on. Its neighbour for PyTorch has the same name."""

import jax


def choose(asked: str) -> None:
  """JAX runs on this from here on: 'cpu' or 'cuda', or what it finds itself for 'auto'.

  To be called before anything asks JAX for its devices, which is also when JAX says that there are
  none of the kind.
  """
  if asked != 'auto':
    # The first is the one that computes; with the CPU beside it code may still ask for that.
    jax.config.update('jax_platforms', 'cuda,cpu' if asked == 'cuda' else asked)
