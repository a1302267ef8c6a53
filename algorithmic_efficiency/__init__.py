"""One bench for training algorithms: how fast to a target, and at what cost.

This package's root is its front door. A submission imports `spec`, `pytorch_utils` or
`jax_sharding_utils` from here and nothing else; everything else lives in the rooms below.
"""

__version__ = '0.1.0'
