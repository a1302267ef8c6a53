"""Traces of torch.profiler: kernels and the operators, layers, phases and steps around them."""

import gzip
import json

import pytest

from algorithmic_efficiency.profiling import kernels
from algorithmic_efficiency.profiling.activities import Empty, Kind, Launch, NotATrace, TraceError
from algorithmic_efficiency.profiling.chrome import ChromeReader

KERNELS = frozenset({Kind.KERNEL})
HOST = frozenset({Kind.HOST})


def cpu(name, begin, duration, thread=1, category='cpu_op', **arguments):
  return {
    'ph': 'X', 'cat': category, 'name': name, 'pid': 9, 'tid': thread, 'ts': begin,
    'dur': duration, 'args': {k.replace('_', ' '): v for k, v in arguments.items()},
  }  # fmt: skip


def note(name, begin, duration, thread=1):
  return cpu(name, begin, duration, thread, 'user_annotation')


def launch(correlation, begin, thread=1):
  return cpu('cudaLaunchKernel', begin, 1, thread, 'cuda_runtime', correlation=correlation)


def kernel(name, begin, duration, correlation, external=None, **more):
  arguments = {'device': 0, 'stream': 7, 'correlation': correlation, **more}
  if external is not None:
    arguments['External id'] = external
  return {
    'ph': 'X', 'cat': 'kernel', 'name': name, 'pid': 0, 'tid': 7, 'ts': begin, 'dur': duration,
    'args': arguments,
  }  # fmt: skip


# One step: a convolution forward, its backward on another thread, the optimizer's step.
STEP = [
  note('ProfilerStep#5', 0, 100),
  note('nn.Module: block.conv1', 5, 20),
  cpu('aten::conv2d', 6, 18, External_id=1, Sequence_number=70),
  cpu('aten::cudnn_convolution', 8, 10, External_id=2),
  launch(101, 10),
  cpu('autograd::engine::evaluate_function: ConvolutionBackward0', 30, 20, 2, Sequence_number=70),
  cpu('ConvolutionBackward0', 31, 18, 2, External_id=3, Sequence_number=70),
  cpu('aten::convolution_backward', 32, 15, 2, External_id=4),
  launch(102, 35, 2),
  note('Optimizer.step#SGD.step', 60, 20),
  cpu('aten::_foreach_add_', 61, 10, External_id=5),
  launch(103, 62),
  note('ProfilerStep#6', 100, 100),
  cpu('aten::relu', 110, 5, External_id=6),
  launch(104, 111),
]
LAUNCHED = {
  'registers per thread': 64, 'shared memory': 2048, 'block': [128, 1, 1], 'grid': [2, 3, 1],
  'est. achieved occupancy %': 25,
}  # fmt: skip
DEVICE = [
  kernel('sm80_xmma_fprop', 40, 12.5, 101, 2, **LAUNCHED),
  kernel('sm80_xmma_dgrad', 95, 20, 102, 4),
  kernel('multi_tensor_apply', 140, 3, 103, 5),
  kernel('relu_kernel', 250, 0, 104, 6),
]


def write(path, events, **head):
  text = json.dumps({'schemaVersion': 1, **head, 'traceEvents': events})
  if path.suffix == '.gz':
    path.write_bytes(gzip.compress(text.encode()))
  else:
    path.write_text(text)
  return path


def read(path, kinds=KERNELS):
  return list(ChromeReader(path).activities(kinds))


@pytest.mark.parametrize('name', ['a.pt.trace.json', 'a.pt.trace.json.gz'])
def test_kernels_find_their_operators_phases_layers_and_steps(tmp_path, name):
  found = read(write(tmp_path / name, STEP + DEVICE))
  assert [(a.op_name, a.phase, a.layer, a.step) for a in found] == [
    ('aten::cudnn_convolution', 'forward', 'block.conv1', 5),
    ('aten::convolution_backward', 'backward', 'block.conv1', 5),
    ('aten::_foreach_add_', 'update', '', 5),
    ('aten::relu', '', '', 6),  # launched in step 6, though the device was late
  ]
  assert found[0].launch == Launch(64, 2048, '128,1,1', '2,3,1', 25.0)
  assert [a.duration_ps for a in found] == [12_500_000, 20_000_000, 3_000_000, 0]


def test_kernels_before_what_launched_them(tmp_path):
  assert read(write(tmp_path / 'a.json', DEVICE + STEP)) == read(
    write(tmp_path / 'b.json', STEP + DEVICE)
  )


def test_without_external_ids_the_launch_tells_the_operator(tmp_path):
  bare = [{**e, 'args': {k: v for k, v in e['args'].items() if k != 'External id'}} for e in DEVICE]
  found = read(write(tmp_path / 'a.json', STEP + bare))
  assert [a.op_name for a in found] == [
    'aten::cudnn_convolution', 'aten::convolution_backward', 'aten::_foreach_add_', 'aten::relu',
  ]  # fmt: skip


def test_categories_of_the_first_writers(tmp_path):
  old = {'cpu_op': 'Operator', 'kernel': 'Kernel', 'cuda_runtime': 'Runtime'}
  events = [
    {
      **e,
      'cat': old.get(e['cat'], e['cat']),
      'args': {k.replace('External id', 'external id'): v for k, v in e['args'].items()},
    }
    for e in STEP + DEVICE
  ]
  found = read(write(tmp_path / 'a.json', events))
  assert [a.op_name for a in found][:2] == ['aten::cudnn_convolution', 'aten::convolution_backward']


def test_kernels_nobody_launched_are_not_attributed(tmp_path):
  path = write(tmp_path / 'a.json', [*STEP, *DEVICE, kernel('ncclAllReduce', 300, 4.5, 999)])
  rows = kernels.statistics(read(path), by_step=False)
  assert {row['not_attributed_pct'] for row in rows} == {11.25}  # 4.5 of 40


def test_evaluation_and_copies(tmp_path):
  events = [
    *STEP,
    note('evaluation', 80, 15),
    cpu('aten::mm', 81, 5, External_id=8),
    launch(108, 82),
    kernel('gemm', 400, 1, 108, 8),
    {**kernel('Memcpy HtoD', 410, 2, 109), 'cat': 'gpu_memcpy'},
  ]
  reader = ChromeReader(write(tmp_path / 'a.json', events))
  assert all(reader.has(kind) for kind in Kind)
  (mm,) = reader.activities(KERNELS)
  assert (mm.phase, mm.step) == ('evaluation', None)


def test_own_time_agrees_with_the_profilers_own_table(tmp_path):
  torch = pytest.importorskip('torch')
  net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
  net.append(torch.nn.Linear(4 * 26 * 26, 1))
  with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
    net(torch.ones(2, 1, 28, 28)).sum().backward()
  path = tmp_path / 'a.pt.trace.json.gz'
  profile.export_chrome_trace(str(path))
  own: dict[str, float] = {}
  counts: dict[str, int] = {}
  for activity in read(path, HOST):
    own[activity.name] = own.get(activity.name, 0.0) + activity.duration_ps / 1e6
    counts[activity.name] = counts.get(activity.name, 0) + 1
  table = {event.key: event for event in profile.key_averages()}
  assert set(own) <= set(table)
  # Of an operator that does nothing but call itself the table leaves out the outer one.
  alike = [name for name in own if counts[name] == table[name].count]
  assert len(alike) > 15
  for name in alike:
    # The trace has nanoseconds, and the table is made of them before they are written.
    told = table[name].self_cpu_time_total
    assert own[name] == pytest.approx(told, abs=0.02 * counts[name])


@pytest.mark.parametrize('cut', [0.3, 0.9])
@pytest.mark.parametrize('name', ['a.json', 'a.json.gz'])
def test_a_cut_trace_says_so(tmp_path, name, cut):
  path = write(tmp_path / name, (STEP + DEVICE) * 20)
  content = path.read_bytes()
  path.write_bytes(content[: int(len(content) * cut)])
  with pytest.raises(TraceError, match=r'ends in the middle|cut or damaged'):
    ChromeReader(path)


@pytest.mark.parametrize(
  ('text', 'error', 'says'),
  [
    ('', Empty, 'empty'),
    ('hello', NotATrace, 'no JSON trace'),
    ('{"a": 1}', NotATrace, 'traceEvents'),
    ('{"metadata": {"highres-ticks": true}, "traceEvents": []}', NotATrace, 'viewer'),
    ('{"traceEvents": [{"ph": "X"} nonsense]}', TraceError, 'no JSON|middle'),
  ],
)
def test_what_is_no_trace(tmp_path, text, error, says):
  path = tmp_path / 'a.json'
  path.write_text(text)
  with pytest.raises(error, match=says):
    ChromeReader(path)


def test_events_across_the_borders_of_what_is_read_at_once(tmp_path, monkeypatch):
  path = write(tmp_path / 'a.json', STEP + DEVICE)
  whole = read(path)
  monkeypatch.setattr('algorithmic_efficiency.profiling.json_stream._CHUNK_CHARS', 7)
  assert read(path) == whole
