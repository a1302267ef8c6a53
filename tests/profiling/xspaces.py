"""Writes XSpaces as profilers do, by JAX's own encoder, which knows nothing of our reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Event(NamedTuple):
  """An event: name, picoseconds, statistics."""

  name: str
  offset_ps: int
  duration_ps: int
  stats: Mapping[str, Any] = {}


class Line(NamedTuple):
  """A stream or a thread."""

  name: str
  events: Sequence[Event]
  timestamp_ns: int = 0


class Ref(NamedTuple):
  """A text that the writer interns."""

  text: str


def write(path: Path, planes: Mapping[str, Sequence[Line]], programs: Mapping[str, bytes] = {}):
  """Writes the planes; programs are compiled modules by name, such as 'jit_f(5)'."""
  from jax.profiler import ProfileData

  texts = [_plane(name, lines) for name, lines in planes.items()]
  if programs:
    texts.append(_programs(programs))
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(ProfileData.text_proto_to_serialized_xspace('\n'.join(texts)))
  return path


def hlo(module: str, op_names: Mapping[str, str]) -> bytes:
  """A compiled module with an instruction for each name; encoded by hand."""
  instructions = b''.join(
    _field(2, _field(1, name.encode()) + _field(7, _field(2, op_name.encode())))
    for name, op_name in op_names.items()
  )
  return _field(1, _field(1, module.encode()) + _field(3, _field(1, b'main') + instructions))


def kernel_stats(path: Path, reports: Sequence[Mapping[int, Any]]) -> Path:
  """A kernel_stats.pb of reports by field number; encoded by hand."""
  content = b''
  for report in reports:
    fields = b''
    for number, value in report.items():
      if isinstance(value, str):
        fields += _field(number, value.encode())
      elif isinstance(value, list):
        fields += _field(number, b''.join(map(varint, value)))
      else:
        fields += varint(number << 3) + varint(value)
    content += _field(1, fields)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content)
  return path


def varint(value: int) -> bytes:
  """A number in protobuf's encoding."""
  parts = []
  while value > 0x7F:
    parts.append(value & 0x7F | 0x80)
    value >>= 7
  return bytes([*parts, value])


def _field(number: int, content: bytes) -> bytes:
  return varint(number << 3 | 2) + varint(len(content)) + content


def _plane(name: str, lines: Sequence[Line]) -> str:
  names: dict[str, int] = {}
  stats: dict[str, int] = {}
  body = []
  for number, line in enumerate(lines):
    events = []
    for event in line.events:
      told = ' '.join(_stat(stats, key, value) for key, value in event.stats.items())
      key = names.setdefault(event.name, len(names) + 1)
      events.append(
        f'events {{ metadata_id: {key} offset_ps: {event.offset_ps} '
        f'duration_ps: {event.duration_ps} {told} }}'
      )
    inside = '\n'.join(events)
    body.append(
      f'lines {{ id: {number} name: {_quoted(line.name)} timestamp_ns: {line.timestamp_ns} '
      f'{inside} }}'
    )
  for text, key in names.items():
    body.append(f'event_metadata {{ key: {key} value {{ id: {key} name: {_quoted(text)} }} }}')
  body += _stat_metadata(stats)
  return f'planes {{ name: {_quoted(name)} {" ".join(body)} }}'


def _programs(programs: Mapping[str, bytes]) -> str:
  body = []
  for number, (name, content) in enumerate(programs.items(), 1):
    escaped = ''.join(f'\\{byte:03o}' for byte in content)
    body.append(
      f'event_metadata {{ key: {number} value {{ id: {number} name: {_quoted(name)} '
      f'stats {{ metadata_id: 1 bytes_value: "{escaped}" }} }} }}'
    )
  body.append('stat_metadata { key: 1 value { id: 1 name: "Hlo Proto" } }')
  return f'planes {{ name: "/host:metadata" {" ".join(body)} }}'


def _stat(stats: dict[str, int], name: str, value: Any) -> str:
  key = stats.setdefault(name, len(stats) + 1)
  if isinstance(value, Ref):
    told = f'ref_value: {stats.setdefault(value.text, len(stats) + 1)}'
  elif isinstance(value, str):
    told = f'str_value: {_quoted(value)}'
  elif isinstance(value, float):
    told = f'double_value: {value}'
  else:
    told = f'int64_value: {value}'
  return f'stats {{ metadata_id: {key} {told} }}'


def _stat_metadata(stats: Mapping[str, int]) -> list[str]:
  return [
    f'stat_metadata {{ key: {key} value {{ id: {key} name: {_quoted(name)} }} }}'
    for name, key in stats.items()
  ]


def _quoted(text: str) -> str:
  escaped = text.replace('\\', '\\\\').replace('"', '\\"')
  return f'"{escaped}"'
