"""This file says which fields of XSpace and HloProto are read, and has protobuf read them.

Texts are declared as bytes: a kernel's name that was cut within a letter would else make the whole
trace unreadable. Lines of a plane are left undecoded until they are asked for. Field numbers are
those of xplane.proto and hlo.proto of OpenXLA.
"""

import functools
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import UsageError

_PACKAGE = 'algorithmic_efficiency.profiling'


class _Field(NamedTuple):
  name: str
  number: int
  kind: str  # of protobuf's, or the name of a message here
  repeated: bool = False


_MESSAGES: dict[str, tuple[_Field, ...]] = {
  'Stat': (
    _Field('metadata_id', 1, 'INT64'),
    _Field('double_value', 2, 'DOUBLE'),
    _Field('uint64_value', 3, 'UINT64'),
    _Field('int64_value', 4, 'INT64'),
    _Field('str_value', 5, 'BYTES'),
    _Field('bytes_value', 6, 'BYTES'),
    _Field('ref_value', 7, 'UINT64'),
  ),
  'Event': (
    _Field('metadata_id', 1, 'INT64'),
    _Field('offset_ps', 2, 'INT64'),
    _Field('duration_ps', 3, 'INT64'),
    _Field('stats', 4, 'Stat', True),
    _Field('num_occurrences', 5, 'INT64'),
  ),
  'Line': (
    _Field('id', 1, 'INT64'),
    _Field('name', 2, 'BYTES'),
    _Field('timestamp_ns', 3, 'INT64'),
    _Field('events', 4, 'Event', True),
    _Field('display_name', 11, 'BYTES'),
  ),
  'EventMetadata': (
    _Field('id', 1, 'INT64'),
    _Field('name', 2, 'BYTES'),
    _Field('display_name', 4, 'BYTES'),
    _Field('stats', 5, 'Stat', True),
  ),
  'EventMetadataEntry': (_Field('key', 1, 'INT64'), _Field('value', 2, 'EventMetadata')),
  'StatMetadata': (_Field('id', 1, 'INT64'), _Field('name', 2, 'BYTES')),
  'StatMetadataEntry': (_Field('key', 1, 'INT64'), _Field('value', 2, 'StatMetadata')),
  # What describes a plane; its lines (field 3) are found by their place.
  'PlaneHead': (
    _Field('id', 1, 'INT64'),
    _Field('name', 2, 'BYTES'),
    _Field('event_metadata', 4, 'EventMetadataEntry', True),
    _Field('stat_metadata', 5, 'StatMetadataEntry', True),
    _Field('stats', 6, 'Stat', True),
  ),
  'OpMetadata': (_Field('op_type', 1, 'BYTES'), _Field('op_name', 2, 'BYTES')),
  'Instruction': (
    _Field('name', 1, 'BYTES'),
    _Field('opcode', 2, 'BYTES'),
    _Field('metadata', 7, 'OpMetadata'),
  ),
  'Computation': (_Field('name', 1, 'BYTES'), _Field('instructions', 2, 'Instruction', True)),
  'Module': (_Field('name', 1, 'BYTES'), _Field('computations', 3, 'Computation', True)),
  'Hlo': (_Field('hlo_module', 1, 'Module'),),
}


@functools.cache
def messages() -> dict[str, Any]:
  """The message classes by name. Raises UsageError where protobuf is not installed."""
  try:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
  except ImportError as error:
    raise UsageError(
      'Reading *.xplane.pb needs protobuf, which is not installed; pip install protobuf.'
    ) from error
  kinds: Any = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(
    name='algorithmic_efficiency/profiling/xplane.proto', package=_PACKAGE, syntax='proto3'
  )
  for name, fields in _MESSAGES.items():
    message = file.message_type.add(name=name)
    for field in fields:
      added = message.field.add(name=field.name, number=field.number)
      added.label = kinds.LABEL_REPEATED if field.repeated else kinds.LABEL_OPTIONAL
      if field.kind in _MESSAGES:
        added.type, added.type_name = kinds.TYPE_MESSAGE, f'.{_PACKAGE}.{field.kind}'
      else:
        added.type = getattr(kinds, f'TYPE_{field.kind}')
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return {
    name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f'{_PACKAGE}.{name}'))
    for name in _MESSAGES
  }


def parse(name: str, content: bytes) -> Any:
  """The message of that name. Raises protobuf's DecodeError."""
  return messages()[name].FromString(content)
