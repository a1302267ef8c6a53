"""This file divides a machine into slots: the devices or cores that one trial has for itself."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.launch.plan import Resources
from algorithmic_efficiency.telemetry.habana import Habana
from algorithmic_efficiency.telemetry.nvidia import Nvidia


@dataclass(frozen=True)
class Slot:
  """Where one trial runs at a time.

  Attributes:
    index: from 0.
    devices: GPUs by UUID or index, or Gaudis by module; none for the CPU.
    cores: that it is bound to; none if it is not.
  """

  index: int
  devices: tuple[str, ...] = ()
  cores: tuple[int, ...] = ()

  def __str__(self) -> str:
    if self.devices:
      return f'device{"s" if len(self.devices) > 1 else ""} {",".join(self.devices)}'
    if self.cores:
      return f'core{"s" if len(self.cores) > 1 else ""} {",".join(map(str, self.cores))}'
    return f'slot {self.index + 1}'


def divide(resources: Resources, devices: Sequence[str] | None, slots: int | None) -> list[Slot]:
  """The slots of this machine.

  Args:
    resources: what a trial gets.
    devices: accelerators to use; all that are found if None.
    slots: how many; as many as the devices allow if None, and one on the CPU.

  Raises:
    UsageError: too few devices, or none found.
  """
  if resources.accelerator == 'cpu':
    if devices is not None:
      raise UsageError(
        '--devices chooses accelerators, and the plan trains on the CPU; drop it, or give '
        '--accelerator=cuda or --accelerator=hpu.'
      )
    return _by_cores(resources, slots or 1)
  found = list(devices) if devices is not None else find(resources.accelerator)
  if len(set(found)) != len(found):
    raise UsageError(f'--devices={",".join(found)} names a device twice; name each once.')
  most, each = len(found) // resources.devices, resources.devices
  if most < 1 or (slots or 1) > most:
    raise UsageError(
      f'{len(found)} device(s) ({", ".join(found)}) do not make {slots or 1} slot(s) of {each}; '
      'name more with --devices, or give fewer --slots or devices to a trial.'
    )
  groups = [tuple(found[i * each : (i + 1) * each]) for i in range(slots or most)]
  return [Slot(index, group) for index, group in enumerate(groups)]


def _by_cores(resources: Resources, slots: int) -> list[Slot]:
  """Slots with cores of their own where there are enough: trials then disturb each other less."""
  cores = sorted(os.sched_getaffinity(0))
  each = int(resources.cpus or len(cores) // slots)
  if slots == 1 or each < 1 or each * slots > len(cores):
    return [Slot(index) for index in range(slots)]
  return [Slot(i, cores=tuple(cores[i * each : (i + 1) * each])) for i in range(slots)]


def find(accelerator: str) -> list[str]:
  """The accelerators of this machine: GPUs by UUID, Gaudis by module. Raises UsageError if none."""
  source = Nvidia() if accelerator == 'cuda' else Habana()
  there, reason = source.probe()
  found = source.devices() if there else []
  names = [device.uuid if accelerator == 'cuda' else device.name.split('.')[-1] for device in found]
  names = [name for name, device in zip(names, found, strict=True) if name and device.in_job]
  if not names:
    kind = 'NVIDIA GPU' if accelerator == 'cuda' else 'Gaudi'
    raise UsageError(
      f'No {kind} was found here ({reason}); name them, as in --devices=0,1, or train on the '
      'CPU with --accelerator=cpu.'
    )
  return names
