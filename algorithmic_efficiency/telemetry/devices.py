"""This file tells which of a machine's accelerators belong to the job, by their UUIDs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NONE = ('', '-1', 'none', 'void', 'NoDevFiles')


@dataclass(frozen=True)
class Device:
  """Something that draws power.

  Attributes:
    name: the beginning of its columns, such as 'gpu.0'.
    uuid: of the device; empty where it has none.
    model: for people.
    in_job: whether the job may use it.
    facts: what else is known, as plain data.
  """

  name: str
  uuid: str = ''
  model: str = ''
  in_job: bool = True
  facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

  def describe(self) -> dict[str, Any]:
    """As plain data, for the header of telemetry.jsonl."""
    plain = {'name': self.name, 'uuid': self.uuid, 'model': self.model, 'in_job': self.in_job}
    return {**plain, **self.facts}


def cuda_visible(uuids: Sequence[str], environ: Mapping[str, str]) -> list[int]:
  """Indices of the GPUs that CUDA shows to a process, in its order.

  As the CUDA driver reads CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, environment variables):
  indices, UUIDs or unambiguous beginnings of them, MIG instances; what follows the first entry that
  names nothing is not seen, and a GPU named twice means none at all.

  Args:
    uuids: of all GPUs in the order of CUDA's indices, 'GPU-…'.
    environ: with or without the variable.
  """
  given = environ.get('CUDA_VISIBLE_DEVICES')
  if given is None:
    return list(range(len(uuids)))
  if given.strip() in _NONE:
    return []
  found: list[int] = []
  whole_gpus: list[int] = []
  for entry in (part.strip() for part in given.split(',')):
    index = _cuda_index(entry, uuids)
    if index is None:
      break
    if not entry.startswith('MIG-'):  # several instances of one GPU may be named
      whole_gpus.append(index)
    if index not in found:
      found.append(index)
  return [] if len(set(whole_gpus)) < len(whole_gpus) else found


def _cuda_index(entry: str, uuids: Sequence[str]) -> int | None:
  if re.fullmatch(r'\d+', entry):
    return int(entry) if int(entry) < len(uuids) else None
  # The older spelling of an instance names its GPU: MIG-GPU-<uuid>/<gi>/<ci>.
  text = entry.removeprefix('MIG-').partition('/')[0] if entry.startswith('MIG-GPU-') else entry
  if not text.startswith('GPU-') or len(text) < len('GPU-') + 1:
    return None
  matches = [place for place, uuid in enumerate(uuids) if uuid.startswith(text)]
  return matches[0] if len(matches) == 1 else None


def habana_visible(modules: Sequence[int], environ: Mapping[str, str]) -> list[int]:
  """Places in `modules` of the Gaudis that a process may use.

  HABANA_VISIBLE_MODULES names module ids, HABANA_VISIBLE_DEVICES indices; the first, which do not
  change with a reboot, wins. 'all' or neither variable means every one.

  Args:
    modules: the module id of each device, in the order of the driver's indices.
    environ: with or without the variables.
  """
  given = environ.get('HABANA_VISIBLE_MODULES')
  if given is not None and given.strip() != 'all':
    wanted = _numbers(given)
    return [place for place, module in enumerate(modules) if module in wanted]
  given = environ.get('HABANA_VISIBLE_DEVICES')
  if given is not None and given.strip() != 'all':
    wanted = _numbers(given)
    return [place for place in range(len(modules)) if place in wanted]
  return list(range(len(modules)))


def _numbers(text: str) -> set[int]:
  return {int(part) for part in text.split(',') if part.strip().isdigit()}
