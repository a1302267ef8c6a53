"""An exponential average of weights."""

import functools

import jax

DECAY = 0.5


def start(params):
  """The average of one."""
  return jax.tree_map(lambda x: x, params)


@functools.partial(jax.pmap, axis_name='batch')
def update(average, params):
  """The average, moved towards the newest."""
  return jax.tree_map(lambda a, p: DECAY * a + (1 - DECAY) * p, average, params)
