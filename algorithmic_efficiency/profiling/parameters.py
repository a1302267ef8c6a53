"""This file finds what a trace was made with: in the names of its folders, or in our own record.

A researcher who traces many settings writes them into names, `20200512-1402-b64s2k3f10`; a run of
ours has them in hparams.json and metadata.json.
"""

import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algorithmic_efficiency.errors import UsageError

# Letters and a number, at least two in a row: b64s2k3f10.
_PACKED = re.compile(r'(?<![A-Za-z0-9])((?:[A-Za-z]+\d+(?:\.\d+)?){2,})(?![A-Za-z0-9])')
_PAIR = re.compile(r'([A-Za-z]+)(\d+(?:\.\d+)?)')
# What users call those letters, in the grids that made them so.
LONG_NAMES = {'b': 'batch_size', 's': 'stride_length', 'k': 'kernel_size', 'f': 'filter_count'}
_FIELD = re.compile(r'\{(\w+)\}')
_METADATA = ('workload', 'framework', 'batch_size', 'rng_seed')


def pattern(text: str) -> re.Pattern[str]:
  """A pattern of the user's: 'b{batch_size}s{stride}', or a regular expression with named groups.

  Raises UsageError.
  """
  source = text
  if _FIELD.search(text):
    parts = _FIELD.split(text)
    named = [f'(?P<{p}>[-+.0-9eE]+|[A-Za-z_]+)' if i % 2 else re.escape(p)
             for i, p in enumerate(parts)]  # fmt: skip
    source = ''.join(named)
  try:
    compiled = re.compile(source)
  except re.error as error:
    raise UsageError(f'--pattern={text!r} is no pattern: {error}; mend it.') from error
  if not compiled.groupindex:
    raise UsageError(
      f'--pattern={text!r} names no parameter; write b{{batch_size}}s{{stride}}, or a regular '
      'expression with groups such as (?P<batch_size>[0-9]+).'
    )
  return compiled


def of_name(name: str, given: re.Pattern[str] | None = None) -> dict[str, Any]:
  """Parameters in a trace's name; by the user's pattern, else letters with numbers (b64s2k3f10)."""
  if given is not None:
    match = given.search(name)
    named: dict[str, Any] = match.groupdict() if match else {}
    return {name: _value(text) for name, text in named.items() if text}
  packed = _PACKED.findall(name)
  if not packed:
    return {}
  pairs: list[tuple[str, str]] = _PAIR.findall(packed[-1])
  return {LONG_NAMES.get(letters, letters): _value(text) for letters, text in pairs}


def of_record(file: Path) -> dict[str, Any]:
  """Parameters of the run of ours that a trace belongs to; empty where it belongs to none."""
  found: dict[str, Any] = {}
  for folder in file.parents:
    if (folder / 'hparams.json').is_file():
      found = dict(_of_trial(folder))
      break
  return found


@functools.lru_cache(4096)
def _of_trial(folder: Path) -> tuple[tuple[str, Any], ...]:
  metadata, state = _json(folder.parent / 'metadata.json'), _json(folder / 'trial.json')
  found = {name: metadata[name] for name in _METADATA if name in metadata}
  if 'run_idx' in state:
    found['run_idx'] = state['run_idx']
  hparams = _json(folder / 'hparams.json')
  plain = {n: v for n, v in hparams.items() if isinstance(v, int | float | str)}
  found.update({f'hparam.{name}': value for name, value in plain.items()})
  return tuple(found.items())


def _json(file: Path) -> Mapping[str, Any]:
  try:
    content = json.loads(file.read_text(encoding='utf-8'))
  except (OSError, ValueError):
    return {}  # a record that is not whole tells nothing; the trace is exported without it
  return content if isinstance(content, dict) else {}


def _value(text: str) -> int | float | str:
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      continue
  return text
