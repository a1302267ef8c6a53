#!/usr/bin/env python3
"""This file stands in for the runtime of Gaudis: it gives a container the devices it asks for.

HABANA_VISIBLE_DEVICES in the container's environment is `all` or a list of numbers; for each there
is a /dev/accel/accel<i> inside, which is /dev/null under another name.
"""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import limited_runtime

DEVICES = 8  # of a server


def asked_for(environment: list[str]) -> list[int]:
  """The numbers of the devices that a container's environment asks for."""
  values = dict(entry.partition('=')[::2] for entry in environment)
  asked = values.get('HABANA_VISIBLE_DEVICES', '')
  if asked == 'all':
    return list(range(DEVICES))
  return [int(number) for number in asked.split(',') if number.isdecimal()]


def add_devices(config: dict[str, Any]) -> None:
  """Adds the devices to a container's configuration."""
  devices = config['linux'].setdefault('devices', [])
  for number in asked_for(config['process'].get('env') or []):
    node = {'type': 'c', 'major': 1, 'minor': 3, 'fileMode': 0o666, 'uid': 0, 'gid': 0}
    devices.append({'path': f'/dev/accel/accel{number}', **node})


if __name__ == '__main__':
  limited_runtime.run(sys.argv[1:], add_devices)
