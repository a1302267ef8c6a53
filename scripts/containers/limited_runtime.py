#!/usr/bin/env python3
"""This file is a runtime for containers: runc, asked for no more than this machine's root may give.

Root of a guest may lack CAP_SYS_RESOURCE, and with it the right to raise limits. An engine that
asks runc for more (--privileged, --ulimit memlock=-1) would then start no container. Here what is
asked for is lowered to what there is, so that containers of such commands can be tried.
"""

import json
import os
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SYS_RESOURCE = 24  # the bit of CAP_SYS_RESOURCE in a set of capabilities
_UNLIMITED = (1 << 64) - 1


def lower(config: dict[str, Any], limits: Mapping[str, int]) -> None:
  """Takes out of a container's configuration what only CAP_SYS_RESOURCE can give.

  Args:
    config: config.json of the container's bundle, altered in place.
    limits: the hard limit of this process for each name in `rlimits`, by that name.
  """
  process = config['process']
  for names in (process.get('capabilities') or {}).values():
    if 'CAP_SYS_RESOURCE' in names:
      names.remove('CAP_SYS_RESOURCE')
  for limit in process.get('rlimits') or []:
    most = limits.get(limit['type'], _UNLIMITED)
    limit['hard'] = min(limit['hard'], most)
    limit['soft'] = min(limit['soft'], limit['hard'])
  process.pop('oomScoreAdj', None)


def may_raise_limits() -> bool:
  """Whether this process has CAP_SYS_RESOURCE."""
  for line in Path('/proc/self/status').read_text().splitlines():
    name, _, value = line.partition(':')
    if name == 'CapEff':
      return bool(int(value, 16) >> _SYS_RESOURCE & 1)
  return False


def own_limits() -> dict[str, int]:
  """The hard limits of this process, by the names that a configuration has."""
  numbers = {name: getattr(resource, name) for name in dir(resource) if name.startswith('RLIMIT_')}
  limits = {name: resource.getrlimit(number)[1] for name, number in numbers.items()}
  return {name: _UNLIMITED if most == -1 else most for name, most in limits.items()}


def bundle(arguments: list[str]) -> Path:
  """The folder with config.json that runc is told of; the present one if it is not."""
  for i, argument in enumerate(arguments):
    name, equals, value = argument.partition('=')
    if name in ('--bundle', '-b'):
      return Path(value if equals else arguments[i + 1])
  return Path()


def run(arguments: list[str], alter: Any = None) -> None:
  """Becomes runc, with the configuration of a container that is made altered first."""
  if {'create', 'run'} & set(arguments):
    path = bundle(arguments) / 'config.json'
    config = json.loads(path.read_text())
    if not may_raise_limits():
      lower(config, own_limits())
    if alter is not None:
      alter(config)
    path.write_text(json.dumps(config))
  os.execvp('runc', ['runc', *arguments])


if __name__ == '__main__':
  run(sys.argv[1:])
