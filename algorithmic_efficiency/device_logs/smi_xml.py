"""This file reads one document of `nvidia-smi -q -x`, of every version of its schema since 10."""

import xml.etree.ElementTree as ET
from typing import Any

from algorithmic_efficiency.device_logs import cells

# Column to the places it has had, the newest first; schema 12 renamed power_readings, 13 split it.
_PLACES = {
  'compute.util': ('utilization/gpu_util',),
  'mem.controller.util': ('utilization/memory_util',),
  'mem.total': ('fb_memory_usage/total',),
  'mem.used': ('fb_memory_usage/used',),
  'mem.free': ('fb_memory_usage/free',),
  'temp.current': ('temperature/gpu_temp',),
  'temp.memory': ('temperature/memory_temp',),
  'power.watts': (
    'gpu_power_readings/average_power_draw',
    'gpu_power_readings/power_draw',
    'power_readings/power_draw',
  ),
  'power.average_watts': ('gpu_power_readings/average_power_draw',),
  'power.instant_watts': ('gpu_power_readings/instant_power_draw',),
  'clock.sm': ('clocks/sm_clock',),
  'clock.mem': ('clocks/mem_clock',),
}


def gpus(document: str) -> list[tuple[str, dict[str, str], dict[str, Any]]]:
  """(time, identity, values) of each GPU. Raises ParseError."""
  root = ET.fromstring(document.strip())
  time = root.findtext('timestamp') or ''
  return [(time.strip(), _identity(gpu), _values(gpu)) for gpu in root.iter('gpu')]


def _identity(gpu: ET.Element) -> dict[str, str]:
  found = {
    'bus': gpu.get('id') or '',
    'uuid': gpu.findtext('uuid') or '',
    'model': gpu.findtext('product_name') or '',
  }
  return {key: value.strip() for key, value in found.items() if value.strip()}


def _values(gpu: ET.Element) -> dict[str, Any]:
  values: dict[str, Any] = {}
  for column, places in _PLACES.items():
    for place in places:
      text = gpu.findtext(place)
      if text is None or cells.is_absent(text):
        continue
      value = cells.number(text)
      if value is not None:
        values[column] = value / 100 if column.endswith('util') else value
        break
  return values
