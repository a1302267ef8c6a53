"""This file walks the wire format of protobuf without decoding what nobody asks for.

A trace of a gigabyte is then never in memory as a whole: its planes and lines are found by their
lengths, and only the parts that are wanted go to a decoder.
Source: protobuf.dev/programming-guides/encoding.
"""

import mmap
from collections.abc import Iterator

from algorithmic_efficiency.profiling.activities import TraceError

Buffer = bytes | memoryview | mmap.mmap

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def fields(buffer: Buffer, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
  """(field number, number, begin, end) of each field of the message in buffer[begin:end].

  A varint has its value in `number` and an empty content; all others have 0 and their content.
  Raises TraceError where it is no message, or where it ends in the middle of one.
  """
  at = begin
  while at < end:
    tag, at = varint(buffer, at, end)
    wire, field = tag & 7, tag >> 3
    if field == 0:
      raise TraceError(f'it is no protobuf message (byte {at:,})')
    if wire == _VARINT:
      value, at = varint(buffer, at, end)
      yield field, value, at, at
      continue
    if wire == _LENGTH:
      length, at = varint(buffer, at, end)
    elif wire in (_FIXED32, _FIXED64):
      length = 4 if wire == _FIXED32 else 8
    else:
      raise TraceError(f'it is no protobuf message (byte {at:,})')
    if at + length > end:
      raise TraceError(f'it ends in the middle: {at + length - end:,} bytes of a field are missing')
    yield field, 0, at, at + length
    at += length


def varint(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
  """(value, index behind it) of the varint at `at`. Raises TraceError."""
  value = shift = 0
  while at < end and shift < 70:
    byte = buffer[at]
    at += 1
    value |= (byte & 0x7F) << shift
    if byte < 0x80:
      return value, at
    shift += 7
  if at >= end:
    raise TraceError(f'it ends in the middle of a number (byte {at:,})')
  raise TraceError(f'it is no protobuf message (byte {at:,})')


def pieces(buffer: Buffer, begin: int, end: int, size: int) -> Iterator[bytes]:
  """A message cut between its fields into messages of about `size` bytes.

  Protobuf allows it: a message is the concatenation of its fields. Writers put a message's single
  fields first where their numbers are lower, so the first piece has what describes the whole.
  """
  if end - begin <= size:
    yield bytes(buffer[begin:end])
    return
  cut = last = begin
  for _, _, _, last in fields(buffer, begin, end):
    if last - cut >= size:
      yield bytes(buffer[cut:last])
      cut = last
  if cut < last:
    yield bytes(buffer[cut:last])
