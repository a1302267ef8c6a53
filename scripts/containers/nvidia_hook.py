#!/usr/bin/env python3
"""This file stands in for NVIDIA's hook, so that an engine takes --gpus where there is no GPU.

The engine starts it before a container with GPUs. With FAIL_NVIDIA_HOOK in the engine's environment
it says what NVIDIA's says without a driver, and the container does not start.
"""

import os
import sys


def main() -> int:
  """Reads the state of the container, as a hook must, and agrees."""
  sys.stdin.read()
  if os.environ.get('FAIL_NVIDIA_HOOK'):
    said = 'nvidia-container-cli: initialization error: nvml error: driver not loaded'
    print(said, file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
