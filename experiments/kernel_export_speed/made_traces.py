"""Writes traces of the size and shape that TensorFlow and JAX leave of a GPU, about 1.5 MB each."""

import random
from pathlib import Path
from typing import Any

from algorithmic_efficiency.profiling import schema

_KERNELS = ['volta_scudnn_128x64_relu_interior_nn_v1', 'turing_fp16_s1688gemm_fp16_128x128_tn',
            'void cudnn::cnn::wgrad_alg0_engine<float, 512, 6, 5, 3, 3, 3, false, 512>(int, int)',
            'void Eigen::internal::EigenMetaKernel<Eigen::TensorEvaluator<float>, long>(long)',
            'loop_add_fusion', 'input_reduce_fusion_1', 'MemcpyH2D']  # fmt: skip
_HOST_EVENTS = ['ExecutorState::Process', 'EagerKernelExecute', 'MemoryAllocation',
                'cuLaunchKernel', 'IteratorGetNext:IteratorGetNext', 'PjitFunction(f)']  # fmt: skip
_DETAILS = 'regs:{} static_shared:{} dynamic_shared:0 grid:{},1,1 block:256,1,1 occ_pct:75'


def write(path: Path, seed: int, kernels: int = 150, host_events: int = 22_000) -> None:
  """A trace with so many kernels, and host events that nobody asks for."""
  chance = random.Random(seed)
  device = _Plane('/device:GPU:0')
  for stream in range(2):
    device.line(f'Stream #{13 + stream}(Compute)', [
      (chance.choice(_KERNELS), n * 20_000_000, chance.randrange(500_000, 90_000_000), {
        'correlation_id': n,
        'annotation': f'model/conv2d_{n % 40}/Conv2D:Conv2D',
        'kernel_details': _DETAILS.format(16 * (1 + n % 8), 512 * (n % 5), 1 + n % 9),
        'group_id': n % 2,
      }) for n in range(kernels // 2)
    ])  # fmt: skip
  host = _Plane('/host:CPU')
  for thread in range(8):
    host.line(f'tf_Compute/{thread}', [
      (chance.choice(_HOST_EVENTS), n * 1_000_000, chance.randrange(10_000, 900_000), {
        'id': chance.randrange(1 << 40), 'iter_num': n, 'group_id': n % 2, '_ct': 1,
        '_c': chance.randrange(1 << 50),
      }) for n in range(host_events // 8)
    ])  # fmt: skip
  path.write_bytes(b''.join(_field(1, plane.encoded()) for plane in (device, host)))


class _Plane:
  """A plane under construction: names are interned as writers do."""

  def __init__(self, name: str) -> None:
    self._message = schema.messages()
    self._head = self._message['PlaneHead'](name=name.encode())
    self._events: dict[str, int] = {}
    self._stats: dict[str, int] = {}
    self._lines: list[bytes] = []

  def line(self, name: str, events: list[tuple[str, int, int, dict[str, Any]]]) -> None:
    """A stream or a thread."""
    line = self._message['Line'](id=len(self._lines), name=name.encode(), timestamp_ns=10**9)
    for event_name, offset_ps, duration_ps, stats in events:
      key = self._events.setdefault(event_name, len(self._events) + 1)
      event = line.events.add(metadata_id=key, offset_ps=offset_ps, duration_ps=duration_ps)
      for stat, value in stats.items():
        number = self._stats.setdefault(stat, len(self._stats) + 1)
        if isinstance(value, str):
          event.stats.add(metadata_id=number, str_value=value.encode())
        else:
          event.stats.add(metadata_id=number, int64_value=value)
    self._lines.append(line.SerializeToString())

  def encoded(self) -> bytes:
    """The plane's message."""
    for name, key in self._events.items():
      entry = self._head.event_metadata.add(key=key)
      entry.value.id, entry.value.name = key, name.encode()
    for name, key in self._stats.items():
      entry = self._head.stat_metadata.add(key=key)
      entry.value.id, entry.value.name = key, name.encode()
    return b''.join(_field(3, line) for line in self._lines) + self._head.SerializeToString()


def _field(number: int, content: bytes) -> bytes:
  length, size = [], len(content)
  while size > 0x7F:
    length.append(size & 0x7F | 0x80)
    size >>= 7
  return bytes([number << 3 | 2, *length, size]) + content
