"""Traces of TensorFlow and JAX: every writer's way of telling operator, launch and step."""

import pytest

from algorithmic_efficiency.profiling import kernels, one_trace
from algorithmic_efficiency.profiling.activities import Kind, Launch
from algorithmic_efficiency.profiling.finding import Source
from algorithmic_efficiency.profiling.one_trace import Options
from algorithmic_efficiency.profiling.xplane import XPlaneReader
from tests.profiling.xspaces import Event, Line, Ref, hlo, write

pytest.importorskip('jax', reason='JAX encodes the traces of these tests')

KERNELS = frozenset({Kind.KERNEL})
COMPUTE = 'Stream #13(Compute)'


def kernels_of(path):
  return list(XPlaneReader(path).activities(KERNELS))


def tf_kernel(op, offset_ps=0, duration_ps=1000, details='regs:16 shm:8 grid:2,1,1 block:32,2,1'):
  stats = {'annotation': op, 'kernel_details': details, 'correlation_id': 1}
  return Event('volta_sgemm', offset_ps, duration_ps, stats)


def test_operator_and_launch_of_the_writer_of_2020(tmp_path):
  path = write(tmp_path / 'h.xplane.pb', {
    '/device:GPU:0': [Line(COMPUTE, [tf_kernel('model/dense/MatMul:MatMul')])]
  })  # fmt: skip
  (found,) = kernels_of(path)
  assert (found.op_name, found.op_type, found.name) == (
    'model/dense/MatMul',
    'MatMul',
    'volta_sgemm',
  )
  assert found.launch == Launch(16, 8, '32,2,1', '2,1,1', None)


def test_operator_of_a_program_of_xla_and_interned_texts(tmp_path):
  details = 'regs:32 static_shared:128 dynamic_shared:64 grid:3,1,1 block:128,1,1 occ_pct:66.7'
  texts = {'kernel_details': details, 'hlo_op': 'fusion.1', 'hlo_module': 'jit_f'}
  stats = {**{name: Ref(text) for name, text in texts.items()}, 'program_id': 5}
  path = write(
    tmp_path / 'h.xplane.pb',
    {'/device:GPU:0': [Line('Stream #7', [Event('loop_fusion', 0, 10, stats)])]},
    {'jit_f(5)': hlo('jit_f', {'fusion.1': 'jit(f)/transpose(jvp(Net))/Conv_0/conv_general'})},
  )
  (found,) = kernels_of(path)
  assert found.op_name == 'jit(f)/transpose(jvp(Net))/Conv_0/conv_general'
  assert found.hlo_op == 'fusion.1'
  assert found.launch == Launch(32, 192, '128,1,1', '3,1,1', 66.7)
  (row,) = kernels.statistics([found], by_step=False)
  assert (row['phase'], row['layer']) == ('backward', 'Conv_0')


def test_two_programs_with_the_same_instruction_keep_their_operators(tmp_path):
  def kernel(program):
    stats = {'kernel_details': 'regs:1', 'hlo_op': 'dot.1', 'hlo_module': 'jit_f'}
    return Event('gemm', 0, 10, {**stats, 'program_id': program})

  path = write(
    tmp_path / 'h.xplane.pb',
    {'/device:GPU:0': [Line('Stream #7', [kernel(1), kernel(2)])]},
    {f'jit_f({n})': hlo('jit_f', {'dot.1': f'jit(f)/Dense_{n}/dot_general'}) for n in (1, 2)},
  )
  assert [k.op_name for k in kernels_of(path)] == [
    'jit(f)/Dense_1/dot_general', 'jit(f)/Dense_2/dot_general',
  ]  # fmt: skip


def test_annotation_of_xla_names_the_instruction(tmp_path):
  note = 'XlaModule:#hlo_module=jit_f,program_id=5#::Thunk:#hlo_op=dot.2#'
  path = write(
    tmp_path / 'h.xplane.pb',
    {'/device:GPU:0': [Line('Stream #7', [tf_kernel(note)])]},
    {'jit_f(5)': hlo('jit_f', {'dot.2': 'jit(f)/Dense_0/dot_general'})},
  )
  (found,) = kernels_of(path)
  assert (found.op_name, found.hlo_op) == ('jit(f)/Dense_0/dot_general', 'dot.2')


def test_derived_lines_are_not_counted_and_copies_are_no_kernels(tmp_path):
  path = write(tmp_path / 'h.xplane.pb', {
    '/device:GPU:0': [
      Line(COMPUTE, [tf_kernel('a:A')]),
      Line('Stream #14(MemcpyH2D)', [Event('MemcpyH2D', 0, 7, {'memcpy_details': 'size:4'})]),
      Line('Stream #15', [Event('Memset', 0, 7, {'Memset_details': 'size:4'})]),
      Line('Stream #16', [Event('MemoryAlloc', 0, 0, {'memalloc_details': 'size:4'})]),
      Line('TensorFlow Ops', [Event('a:A', 0, 1000)]),
      Line('XLA Ops', [Event('fusion', 0, 1000, {'kernel_details': 'regs:1'})]),
    ]
  })  # fmt: skip
  assert len(kernels_of(path)) == 1
  both = list(XPlaneReader(path).activities(frozenset({Kind.KERNEL, Kind.MEMORY})))
  assert [a.kind for a in both] == [Kind.KERNEL, Kind.MEMORY, Kind.MEMORY]


def test_what_lasted_no_time_counts(tmp_path):
  events = [tf_kernel('a:A', duration_ps=0), tf_kernel('a:A', duration_ps=500)]
  path = write(tmp_path / 'h.xplane.pb', {'/device:GPU:0': [Line(COMPUTE, events)]})
  (row,) = kernels.statistics(kernels_of(path), by_step=False)
  assert (row['occurrences'], row['total_duration_us'], row['min_duration_us']) == (2, 0.0005, 0)


def test_devices_are_not_merged(tmp_path):
  lines = [Line(COMPUTE, [tf_kernel('a:A')])]
  path = write(tmp_path / 'h.xplane.pb', {'/device:GPU:0': lines, '/device:GPU:1': lines})
  rows = kernels.statistics(kernels_of(path), by_step=False)
  assert [(r['device'], r['rank']) for r in rows] == [('/device:GPU:0', 1), ('/device:GPU:1', 1)]


def test_more_than_a_thousand_kernels_are_kept(tmp_path):
  events = [tf_kernel(f'op_{n}:A', duration_ps=n) for n in range(1500)]
  path = write(tmp_path / 'h.xplane.pb', {'/device:GPU:0': [Line(COMPUTE, events)]})
  rows = kernels.statistics(kernels_of(path), by_step=False)
  assert [row['rank'] for row in rows] == list(range(1, 1501))
  assert rows[0]['op_name'] == 'op_1499'


def marked(*steps, evaluation=None, more=()):
  """A host that marks steps; each launches the kernel of its own number."""
  events = [Event('train', b, e - b, {'step_num': n, '_r': 1}) for n, b, e in steps]
  events += [Event('cuLaunchKernel', b + 1, 1, {'correlation_id': n}) for n, b, _ in steps]
  if evaluation:
    events.append(Event('evaluation', *evaluation))
  return {'/host:CPU': [Line('python', [*events, *more])]}


def test_a_kernel_belongs_to_the_step_that_launched_it(tmp_path):
  # The device's clock is far from the host's, and its work lags behind.
  def kernel(step):
    return tf_kernel('a:A', 10**9 + step, 5)._replace(
      stats={'kernel_details': 'regs:1', 'correlation_id': step}
    )

  planes = {'/device:GPU:0': [Line(COMPUTE, [kernel(3), kernel(4)], timestamp_ns=77)]}
  path = write(tmp_path / 'h.xplane.pb', {**planes, **marked((3, 100, 110), (4, 110, 120))})
  assert [k.step for k in kernels_of(path)] == [3, 4]


def test_steps_of_a_writer_that_grouped_its_events(tmp_path):
  events = [Event('k', n, 1, {'kernel_details': 'regs:1', 'group_id': n}) for n in (0, 1, 1)]
  steps = [Event(name, 0, 5, {'group_id': n}) for n, name in enumerate(('41', '42'))]
  path = write(tmp_path / 'h.xplane.pb', {
    '/device:GPU:0': [Line(COMPUTE, events), Line('Steps', steps)]
  })  # fmt: skip
  assert [k.step for k in kernels_of(path)] == [41, 42, 42]


def test_an_evaluation_between_two_steps_is_none_of_theirs(tmp_path):
  def kernel(number, offset):
    return Event('k', offset, 1, {'kernel_details': 'regs:1', 'correlation_id': number})

  launch = Event('cuLaunchKernel', 125, 1, {'correlation_id': 4})
  host = marked((3, 100, 110), (5, 150, 160), evaluation=(120, 20), more=[launch])
  planes = {'/device:GPU:0': [Line(COMPUTE, [kernel(3, 102), kernel(4, 126), kernel(5, 152)])]}
  path = write(tmp_path / 'h.xplane.pb', {**planes, **host})
  assert [(k.step, k.phase) for k in kernels_of(path)] == [(3, ''), (None, 'evaluation'), (5, '')]


def test_share_of_a_step_that_is_covered(tmp_path):
  def kernel(step, offset, duration):
    return Event('k', offset, duration, {'kernel_details': 'r:1', 'correlation_id': step})

  # Two streams: [0, 40) and [30, 50) of a step that lasts until the next begins at 100.
  lines = [
    Line('Stream #1', [kernel(1, 0, 40), kernel(2, 100, 10)]),
    Line('Stream #2', [kernel(1, 30, 20)]),
  ]
  host = marked((1, 0, 60), (2, 60, 120))
  path = write(tmp_path / 'h.xplane.pb', {'/device:GPU:0': lines, **host})
  result = one_trace.read(Source('t', 'h', xplane=path), Options(by_step=True))
  first, second = result.steps
  assert first == {
    'device': '/device:GPU:0', 'step': 1, 'duration_us': 1e-4, 'busy_us': 5e-5, 'covered_pct': 50.0,
  }  # fmt: skip
  assert second['step'] == 2
  assert second['duration_us'] == pytest.approx(2e-5)  # to its end on the host


def test_host_operators_have_their_own_time(tmp_path):
  # A loop that lasts 100 with two operators of 30 within.
  def op(name, offset, duration):
    return Event(name, offset, duration, {'hlo_op': name, 'hlo_module': 'jit_f', 'run_id': 1})

  events = [op('while', 0, 100), op('dot', 10, 30), op('add', 50, 30)]
  path = write(tmp_path / 'h.xplane.pb', {'/host:CPU': [Line('tf_XLAEigen', events)]})
  found = XPlaneReader(path).activities(frozenset({Kind.HOST}))
  assert {a.name: a.duration_ps for a in found} == {'while': 40, 'dot': 30, 'add': 30}


def test_runs_of_a_cpu_belong_to_the_steps_that_launched_them(tmp_path):
  # The second program runs when the third step has long begun.
  def op(run, offset):
    return Event('dot', offset, 5, {'hlo_op': 'dot', 'hlo_module': 'jit_f', 'run_id': run})

  launches = [Event('TfrtCpuExecutable::ExecuteHelper', b, 1) for b in (101, 111, 121)]
  host = marked((1, 100, 110), (2, 110, 120), (3, 120, 130), more=launches)
  host['/host:CPU'].append(Line('tf_XLA', [op(70, 105), op(71, 200), op(72, 300)]))
  path = write(tmp_path / 'h.xplane.pb', host)
  found = XPlaneReader(path).activities(frozenset({Kind.HOST}))
  assert [a.step for a in found] == [1, 2, 3]


def test_a_line_in_pieces_is_the_line(tmp_path, monkeypatch):
  events = [tf_kernel(f'op_{n}:A', n * 10, n) for n in range(300)]
  path = write(tmp_path / 'h.xplane.pb', {
    '/device:GPU:0': [Line(COMPUTE, events, timestamp_ns=5)]
  })  # fmt: skip
  whole = kernels_of(path)
  monkeypatch.setattr('algorithmic_efficiency.profiling.planes._PIECE_BYTES', 100)
  assert kernels_of(path) == whole
  assert whole[0].begin_ps == 5000


def test_agrees_with_an_independent_reader_on_a_trace_of_jax(tmp_path):
  import jax
  import jax.numpy as jnp
  from jax.profiler import ProfileData

  @jax.jit
  def f(x):
    return (jnp.sin(x) @ x).sum()

  f(jnp.ones((64, 64))).block_until_ready()
  with jax.profiler.trace(str(tmp_path)):
    for step in range(3):
      with jax.profiler.StepTraceAnnotation('train', step_num=step):
        f(jnp.ones((64, 64))).block_until_ready()
  (path,) = tmp_path.rglob('*.xplane.pb')
  data = ProfileData.from_file(str(path))
  names = [
    dict(event.stats)['hlo_op']
    for plane in data.planes
    for line in plane.lines
    for event in line.events
    if 'hlo_op' in dict(event.stats)
  ]
  found = list(XPlaneReader(path).activities(frozenset({Kind.HOST})))
  assert sorted(a.name for a in found) == sorted(names)
  assert {a.step for a in found} == {0, 1, 2}
  assert any(a.op_name.startswith('jit(f)/') for a in found)
