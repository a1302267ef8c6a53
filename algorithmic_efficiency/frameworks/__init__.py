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

# What may be asked for; auto is the best that is there. An HPU is a Habana Gaudi.
DEVICES = ('auto', 'cpu', 'cuda', 'hpu')


def check_device(name: str, device: str) -> None:
  """Raises UsageError where this framework knows no device of the kind, wherever it runs."""
  if name == 'jax' and device == 'hpu':
    raise UsageError(
      '--device=hpu is for --framework=pytorch, JAX knows no HPU; choose auto, cpu or cuda.'
    )


def load(name: str, device_axis: bool = False, device: str = 'auto') -> Any:
  """The module for 'jax' or 'pytorch', imported now. Raises UsageError if it cannot be had.

  Args:
    name: of the framework.
    device_axis: gives JAX as submissions written for jax.pmap see it.
    device: one of DEVICES; to be asked for by the first to load the framework.
  """
  check_device(name, device)
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
    # Before anything asks for the devices there are.
    importlib.import_module(f'{__name__}.devices_{name}').choose(device)
    framework = importlib.import_module(f'{__name__}.on_{"pmap_" * device_axis}{name}')
    framework.processes.join()
    framework.num_devices()
  except (ImportError, OSError, RuntimeError, ValueError, AssertionError) as error:
    told = ''.join(str(error).strip().splitlines()[:1])
    if device not in ('auto', 'cpu'):  # a CPU is always there
      raise UsageError(
        f'--device={device} is not to be had here with --framework={name} '
        f'({told or "none is found"}); choose another, or install what it needs.'
      ) from error
    raise UsageError(
      f'--framework={name} is installed but does not start: {told or type(error).__name__}; mend '
      'the installation, or what the environment says of devices (JAX_PLATFORMS, '
      'CUDA_VISIBLE_DEVICES, …).'
    ) from error
  if device not in ('auto', framework.device()):
    # JAX without a build for CUDA takes the CPU in silence; or the choice was made before.
    raise UsageError(
      f'--device={device} is not to be had here with --framework={name}, which runs on '
      f'{framework.device()}; choose another, or install what it needs.'
    )
  return framework
