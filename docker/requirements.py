#!/usr/bin/env python3
"""This file prints what an image must install, as pip's requirement lines, from setup.cfg's extras.

  python3 docker/requirements.py jax plots                            the core and these extras
  python3 docker/requirements.py --image=cuda --frameworks=jax        what an image's builder needs

It needs nothing but Python's own library, for it runs before anything is installed. Exit code 2: an
extra, accelerator or framework that there is not.
"""

import argparse
import configparser
import sys
from pathlib import Path

# Beside this script in a checkout's parent, and beside it while an image is built.
HERE = Path(__file__).resolve().parent
FRAMEWORKS = ('jax', 'pytorch')
# The extras that bring a framework and what the baselines need beside it. Gaudi's PyTorch is its
# vendor's and comes with the base image: pip must not bring another, nor what asks for one.
EXTRAS = {
  'cpu': {'jax': ('jax',), 'pytorch': ('pytorch', 'baselines')},
  'cuda': {'jax': ('jax_cuda',), 'pytorch': ('pytorch', 'baselines')},
  'habana': {'pytorch': ()},
}
EVERYWHERE = ('telemetry', 'plots')
BESIDES = {'habana': ('habana',)}
# What launchers hand into a container is YAML.
NOT_IN_EXTRAS = ('PyYAML>=6',)


class RequirementError(Exception):
  """A request that cannot be met; its text is one sentence."""


def frameworks_of(text: str) -> list[str]:
  """The frameworks of a list. RequirementError: one is unknown or twice."""
  names = text.split(',')
  if unknown := [name for name in names if name not in FRAMEWORKS]:
    raise RequirementError(f'{unknown[0]!r} is no framework; give jax, pytorch or jax,pytorch.')
  if len(set(names)) < len(names):
    raise RequirementError(f'{text!r} names a framework twice; give jax, pytorch or jax,pytorch.')
  return names


def extras_of(accelerator: str, frameworks: str) -> list[str]:
  """The extras of an image. Raises RequirementError for what cannot be built."""
  if accelerator not in EXTRAS:
    raise RequirementError(f'{accelerator!r} is no accelerator; give {", ".join(EXTRAS)}.')
  extras: list[str] = []
  for framework in frameworks_of(frameworks):
    if framework not in EXTRAS[accelerator]:
      possible = ', '.join(EXTRAS[accelerator])
      raise RequirementError(f'{framework} does not run on {accelerator}; give {possible}.')
    extras += EXTRAS[accelerator][framework]
  return [*extras, *EVERYWHERE, *BESIDES.get(accelerator, ())]


def lines_of(config: configparser.ConfigParser, extras: list[str]) -> list[str]:
  """The core's requirements and those of the extras, each once, in their order.

  Raises RequirementError if setup.cfg has no such extra.
  """
  known = dict(config['options.extras_require'])
  texts = [config['options']['install_requires']]
  for extra in extras:
    if extra not in known:
      raise RequirementError(f'setup.cfg has no extra {extra!r}; it has {", ".join(known)}.')
    texts.append(known[extra])
  lines = [line.strip() for text in texts for line in text.splitlines()]
  return list(dict.fromkeys(line for line in lines if line and not line.startswith('#')))


def read_config() -> configparser.ConfigParser:
  """setup.cfg. Raises RequirementError where there is none."""
  for folder in (HERE, HERE.parent):
    if (folder / 'setup.cfg').is_file():
      config = configparser.ConfigParser(interpolation=None)
      config.read(folder / 'setup.cfg', encoding='utf-8')
      return config
  raise RequirementError(f'there is no setup.cfg in {HERE} or above it; copy it there.')


def main() -> int:
  """Prints the lines."""
  parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n')[0])
  parser.add_argument('extras', nargs='*')
  parser.add_argument('--image', help='an accelerator: cpu, cuda or habana')
  parser.add_argument('--frameworks', default='jax,pytorch', help='jax, pytorch or jax,pytorch')
  given = parser.parse_args()
  try:
    extras, besides = list(given.extras), ()
    if given.image is not None:
      extras, besides = [*extras_of(given.image, given.frameworks), *extras], NOT_IN_EXTRAS
    lines = [*lines_of(read_config(), extras), *besides]
  except RequirementError as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print('\n'.join(lines))
  return 0


if __name__ == '__main__':
  sys.exit(main())
