"""This file knows what the fields of nvidia-smi and hl-smi mean, as columns of the record.

A table of numbers for people is never read: nvidia-smi itself says that it changes at any time.
"""

import re
from dataclasses import dataclass

# Field of the tool, in any of its ages, to (column, what it is multiplied by).
_BOTH = {
  'memory.total': ('mem.total', 1.0),
  'memory.used': ('mem.used', 1.0),
  'memory.free': ('mem.free', 1.0),
  'power.draw': ('power.watts', 1.0),
}
NVIDIA = {
  **_BOTH,
  'utilization.gpu': ('compute.util', 0.01),
  'utilization.memory': ('mem.controller.util', 0.01),
  'temperature.gpu': ('temp.current', 1.0),
  'temperature.memory': ('temp.memory', 1.0),
  'power.draw.average': ('power.average_watts', 1.0),
  'power.draw.instant': ('power.instant_watts', 1.0),
  'clocks.sm': ('clock.sm', 1.0),
  'clocks.current.sm': ('clock.sm', 1.0),
  'clocks.mem': ('clock.mem', 1.0),
  'clocks.current.memory': ('clock.mem', 1.0),
}
HABANA = {
  **_BOTH,
  'utilization.aip': ('compute.util', 0.01),
  'utilization.memory': ('mem.util', 0.01),
  'temperature.aip': ('temp.current', 1.0),
  'clocks.current.soc': ('clock.soc', 1.0),
}
# Columns of `nvidia-smi dmon` and `pmon`.
MONITOR = {
  'pwr': ('power.watts', 1.0),
  'gtemp': ('temp.current', 1.0),
  'mtemp': ('temp.memory', 1.0),
  'sm': ('compute.util', 0.01),
  'mem': ('mem.controller.util', 0.01),
  'enc': ('encoder.util', 0.01),
  'dec': ('decoder.util', 0.01),
  'jpg': ('jpeg.util', 0.01),
  'ofa': ('optical_flow.util', 0.01),
  'mclk': ('clock.mem', 1.0),
  'pclk': ('clock.sm', 1.0),
  'fb': ('mem.used', 1.0),
}

# Fields that name the device, by what they are. A reboot may change an index.
IDENTITY = {
  'index': 'index', 'gpu': 'index', 'module_id': 'module', 'uuid': 'uuid', 'gpu_uuid': 'uuid',
  'pci.bus_id': 'bus', 'gpu_bus_id': 'bus', 'bus_id': 'bus', 'name': 'model', 'gpu_name': 'model',
  'serial': 'serial', 'gpu_serial': 'serial', 'timestamp': 'time',
  'pid': 'pid', 'process_name': 'command', 'name_of_process': 'command',
}  # fmt: skip


@dataclass(frozen=True)
class Field:
  """A field of a header.

  Attributes:
    name: without its unit.
    unit: that stood in brackets.
    identity: what of a device it names; empty for a reading.
    column: of a reading; of a field that this project has no column for, 'smi.<name>'.
    factor: from the tool's unit to the column's.
  """

  name: str
  unit: str
  identity: str
  column: str
  factor: float

  @property
  def known(self) -> bool:
    """Whether the field is known to be one of these tools'."""
    return bool(self.identity) or not self.column.startswith('smi.')


def field(text: str, kind: str) -> Field:
  """A header's field, such as 'power.draw [W]'; `kind` is 'gpu' or 'hpu'."""
  name, _, unit = text.strip().partition(' [')
  table = HABANA if kind == 'hpu' else NVIDIA
  column, factor = table.get(name, (f'smi.{name}', 1.0))
  return Field(name, unit.rstrip(']'), IDENTITY.get(name, ''), column, factor)


# What a query's field looks like, with or without its unit; no value of these tools does.
_FIELD = re.compile(r'[a-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*(?: \[[^\]]*\])?')


def header(cells: list[str]) -> tuple[str, list[Field]] | None:
  """('gpu' or 'hpu', fields) if these cells are the header of a query; None otherwise."""
  if not _FIELD.fullmatch(cells[0].strip()):
    return None
  if len(cells) == 1 and '[' not in cells[0]:  # a word of a sentence
    return None
  names = [cell.strip().partition(' [')[0] for cell in cells]
  habana = any(name.endswith('.aip') or name == 'module_id' for name in names)
  kind = 'hpu' if habana else 'gpu'
  fields = [field(cell, kind) for cell in cells]
  shaped = all(_FIELD.fullmatch(cell.strip()) for cell in cells)
  return (kind, fields) if shaped and any(f.known for f in fields) else None
