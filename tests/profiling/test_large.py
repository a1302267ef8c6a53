"""A trace that is larger than what may be taken of memory."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.profiling.test_export import EXPORT, table
from tests.profiling.xspaces import varint

pytestmark = pytest.mark.slow
_MOST_MEBIBYTES = 300
_EVENTS_OF_PIECE = 10_000
_NOTE_BYTES = 500  # of each event, as a deep call stack would be


def _field(number: int, content: bytes) -> bytes:
  return varint(number << 3 | 2) + varint(len(content)) + content


def _events(details: bytes) -> bytes:
  """Events of a line; the bytes of a number of them, which may be repeated."""
  stats = _field(4, varint(1 << 3) + varint(1) + _field(5, details))
  stats += _field(4, varint(1 << 3) + varint(2) + _field(5, b'x' * _NOTE_BYTES))
  parts = []
  for number in range(_EVENTS_OF_PIECE):
    head = varint(1 << 3) + varint(1) + varint(2 << 3) + varint(number * 1000)
    parts.append(_field(4, head + varint(3 << 3) + varint(500) + stats))
  return b''.join(parts)


def _write(path: Path, repeats: int) -> int:
  """An XSpace whose one line has the events so many times; returns how many events."""
  events = _events(b'regs:16 shm:0 grid:1,1,1 block:32,1,1')
  entry = varint(1 << 3) + varint(1)
  head = _field(4, entry + _field(2, entry + _field(2, b'sgemm')))
  head += _field(5, entry + _field(2, entry + _field(2, b'kernel_details')))
  line_head = _field(2, b'Stream #7')
  line = len(line_head) + repeats * len(events)
  plane = _field(2, b'/device:GPU:0') + varint(3 << 3 | 2) + varint(line)
  size = len(plane) + line + len(head)
  with path.open('wb') as file:
    file.write(varint(1 << 3 | 2) + varint(size) + plane + line_head)
    for _ in range(repeats):
      file.write(events)
    file.write(head)
  return repeats * _EVENTS_OF_PIECE


def _own_mebibytes(process: subprocess.Popen) -> float:
  """What the process and those it started have of their own; pages of the file are the system's."""
  children = Path(f'/proc/{process.pid}/task/{process.pid}/children')
  try:
    pids = [process.pid, *map(int, children.read_text().split())]
    texts = [Path(f'/proc/{pid}/status').read_text() for pid in pids]
  except OSError:
    return 0.0  # one has just ended
  own = [int(line.split()[1]) for t in texts for line in t.splitlines() if 'RssAnon' in line]
  return sum(own) / 1024


@pytest.mark.skipif(not Path('/proc/self/status').exists(), reason='needs /proc')
def test_an_xplane_of_a_gigabyte_takes_little_memory(tmp_path):
  count = _write(tmp_path / 'node.xplane.pb', repeats=200)
  size = (tmp_path / 'node.xplane.pb').stat().st_size
  assert size > 1e9
  output = tmp_path / 'out'
  command = [sys.executable, EXPORT, tmp_path, f'--output_dir={output}', '--jobs=1']
  process = subprocess.Popen(command)
  peak = 0.0
  while process.poll() is None:
    peak = max(peak, _own_mebibytes(process))
    time.sleep(0.02)
  assert process.returncode == 0
  (row,) = table(output / 'kernels.csv')
  assert (row['occurrences'], row['total_duration_us']) == (str(count), str(count * 500 / 1e6))
  assert peak < _MOST_MEBIBYTES, f'{peak:.0f} MiB'


def test_a_chrome_trace_keeps_no_text(tmp_path):
  path = tmp_path / 'large.pt.trace.json'
  event = {
    'ph': 'X', 'cat': 'cpu_op', 'name': 'aten::add', 'pid': 1, 'tid': 1, 'dur': 1,
    'args': {'Input Dims': [[32, 64, 128]] * 150},
  }  # fmt: skip
  with path.open('w') as file:
    file.write('{"schemaVersion": 1, "traceEvents": [')
    for number in range(100_000):
      event['ts'] = 2 * number
      file.write(json.dumps(event) + ',\n')
    file.write('{}]}')
  assert path.stat().st_size > 2e8
  output = tmp_path / 'out'
  command = [sys.executable, EXPORT, tmp_path, f'--output_dir={output}', '--kinds=host']
  code = (
    'import resource, subprocess, sys\n'
    'done = subprocess.run(sys.argv[1:])\n'
    'print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n'
    'sys.exit(done.returncode)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, *map(str, command)], capture_output=True, text=True, check=True
  )
  peak = int(done.stdout.splitlines()[-1]) / 1024
  (row,) = table(output / 'kernels.csv')
  assert row['occurrences'] == '100000'
  assert peak < _MOST_MEBIBYTES, f'{peak:.0f} MiB'
