"""What JAX and PyTorch do differently, once each: on_jax.py beside on_pytorch.py.

Both files have the same names, so they can be read side by side, and nothing else in the package
calls a framework.
"""

import importlib
import importlib.util
from typing import Any

from algorithmic_efficiency.errors import UsageError

# Each framework (and the extra of the same name) to the modules it brings.
FRAMEWORKS = {'jax': ('jax', 'flax', 'optax'), 'pytorch': ('torch',)}


def load(name: str, device_axis: bool = False) -> Any:
  """The module for 'jax' or 'pytorch', imported now. Raises UsageError if it cannot be had.

  Args:
    name: of the framework.
    device_axis: gives JAX as submissions written for jax.pmap see it.
  """
  missing = [m for m in FRAMEWORKS[name] if importlib.util.find_spec(m) is None]
  if missing:
    raise UsageError(
      f'--framework={name} needs {", ".join(missing)}, which is not installed; '
      f'pip install "algorithmic-efficiency[{name}]", '
      f'or in a checkout: pip install -e ".[{name}]".'
    )
  try:
    for module in FRAMEWORKS[name]:
      importlib.import_module(module)
    framework = importlib.import_module(f'{__name__}.on_{"pmap_" * device_axis}{name}')
    framework.processes.join()
    framework.num_devices()
  except (ImportError, OSError, RuntimeError, ValueError, AssertionError) as error:
    reason = ''.join(str(error).strip().splitlines()[:1]) or type(error).__name__
    raise UsageError(
      f'--framework={name} is installed but does not start: {reason}; mend the installation, or '
      'what the environment says of devices (JAX_PLATFORMS, CUDA_VISIBLE_DEVICES, …).'
    ) from error
  return framework
