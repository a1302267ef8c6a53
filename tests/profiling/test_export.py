"""The command that exports every trace below a folder, and the one that analyses the table."""

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import scripts_in_process
from tests.profiling.test_chrome import DEVICE, STEP
from tests.profiling.test_chrome import write as write_chrome
from tests.profiling.xspaces import Event, Line, hlo, kernel_stats, write

pytest.importorskip('jax', reason='JAX encodes the traces of these tests')

ROOT = Path(__file__).resolve().parents[2]
EXPORT = ROOT / 'scripts' / 'export_kernels.py'
ANALYSE = ROOT / 'scripts' / 'analyse_kernels.py'
SAMPLES = ROOT.parent / 'shared' / 'samples' / 'profiles'


def run(*arguments, script=EXPORT):
  return scripts_in_process.run(script, *arguments)


def table(path):
  with path.open(newline='') as file:
    return list(csv.DictReader(file))


def gpu_trace(folder, host='node', count=3, op='model/conv2d/Conv2D:Conv2D', duration_ps=2000):
  events = [
    Event(f'kernel_{n}', n * 10_000, duration_ps, {
      'annotation': op, 'kernel_details': 'regs:16 shm:0 grid:1,1,1 block:32,1,1',
    }) for n in range(count)
  ]  # fmt: skip
  planes = {'/device:GPU:0': [Line('Stream #13(Compute)', events)], '/host:CPU': []}
  return write(folder / 'plugins' / 'profile' / '2020' / f'{host}.xplane.pb', planes)


def report(kernel, op, ns, occurrences=1):
  return {1: kernel, 5: [1, 1, 1], 6: [1, 1, 1], 7: ns, 8: ns, 9: ns, 12: op, 13: occurrences}


@pytest.fixture
def logs(tmp_path):
  """Two good traces and one of each kind of bad."""
  folder = tmp_path / 'logs'
  gpu_trace(folder / '20200512-1402-b64s2k3f10')
  (folder / 'torch_b8s1k1f2').mkdir()
  write_chrome(folder / 'torch_b8s1k1f2' / 'x.pt.trace.json.gz', [*STEP, *DEVICE])
  whole = gpu_trace(folder / 'truncated', count=50).read_bytes()
  (folder / 'truncated' / 'plugins' / 'profile' / '2020' / 'node.xplane.pb').write_bytes(
    whole[: len(whole) // 2]
  )
  for name, content in (('empty', b''), ('text', b'hello, this is no trace')):
    (folder / name).mkdir()
    (folder / name / 'node.xplane.pb').write_bytes(content)
  host_op = Event('dot', 0, 5, {'hlo_op': 'dot', 'hlo_module': 'jit_f', 'run_id': 1})
  write(folder / 'cpu' / 'node.xplane.pb', {'/host:CPU': [Line('tf_XLA', [host_op])]},
        {'jit_f': hlo('jit_f', {'dot': 'jit(f)/dot_general'})})  # fmt: skip
  return folder


def test_exports_what_can_be_read_and_names_what_cannot(logs):
  done = run(logs)
  assert done.returncode == 1
  manifest = {row['trace']: row for row in table(logs.with_name('logs_kernels') / 'manifest.csv')}
  assert {name.split('/')[0]: row['status'] for name, row in manifest.items()} == {
    '20200512-1402-b64s2k3f10': 'ok',
    'torch_b8s1k1f2': 'ok',
    'truncated': 'corrupt',
    'empty': 'empty',
    'text': 'not a trace',
    'cpu': 'no kernels',
  }
  assert 'ends in the middle' in manifest['truncated/2020']['reason']
  assert 'may still be being written' in manifest['truncated/2020']['reason']
  assert '--kinds=host' in manifest['cpu']['reason']
  assert 'truncated/2020 (node)' in done.stderr
  rows = table(logs.with_name('logs_kernels') / 'kernels.csv')
  assert len(rows) == 3 + 4
  conv = next(r for r in rows if r['trace'].startswith('2020'))
  assert [conv[n] for n in ('batch_size', 'stride_length', 'kernel_size', 'filter_count')] == [
    '64', '2', '3', '10',
  ]  # fmt: skip
  assert conv['total_duration_us'] == '0.002'


def test_host_operators_on_demand(logs):
  done = run(logs / 'cpu', '--kinds=host', '--by_step')
  assert done.returncode == 0, done.stderr
  (row,) = table(logs / 'cpu_kernels' / 'kernels.csv')
  assert (row['kernel_name'], row['op_name'], row['kind']) == ('dot', 'jit(f)/dot_general', 'host')
  assert row['is_op_tensor_core_eligible'] == 'True'


def test_goes_on_where_it_was_and_reads_what_has_changed(logs):
  output = logs.with_name('out')
  run(logs, f'--output_dir={output}')
  lines = (output / 'export.jsonl').read_bytes().splitlines()
  lines.sort(key=lambda line: b'20200512' not in line)  # they come in any order
  # Cut within the last line, as by a kill; and one trace is another now.
  (output / 'export.jsonl').write_bytes(b'\n'.join(lines)[:-7])
  gpu_trace(logs / '20200512-1402-b64s2k3f10', count=5)
  run(logs, f'--output_dir={output}')
  after = (output / 'export.jsonl').read_text().splitlines()
  assert len(after) == len(lines) + 2
  assert len(table(output / 'kernels.csv')) == 5 + 4
  run(logs, f'--output_dir={output}')
  assert len((output / 'export.jsonl').read_text().splitlines()) == len(after)
  # Another question is no continuation.
  run(logs, f'--output_dir={output}', '--kinds=kernel,host')
  assert any(row['kind'] == 'host' for row in table(output / 'kernels.csv'))


@pytest.mark.slow
def test_a_killed_export_leaves_whole_lines_and_goes_on(tmp_path):
  folder = tmp_path / 'logs'
  for number in range(40):
    gpu_trace(folder / f'b{number}s1', count=300)
  output = tmp_path / 'out'
  command = [sys.executable, EXPORT, folder, f'--output_dir={output}', '--jobs=1']
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
  lines = output / 'export.jsonl'
  deadline = time.monotonic() + 60
  while not (lines.exists() and lines.read_bytes().count(b'\n') >= 3):
    assert time.monotonic() < deadline
  process.send_signal(signal.SIGKILL)
  process.wait()
  before = lines.read_bytes()
  for line in before[: before.rindex(b'\n')].splitlines():
    json.loads(line)
  done = run(folder, f'--output_dir={output}')
  assert done.returncode == 0, done.stderr
  assert lines.read_bytes().startswith(before)
  assert len(table(output / 'kernels.csv')) == 40 * 300


def test_the_old_table_with_launches_from_beside_it(tmp_path):
  folder = gpu_trace(tmp_path / 'logs' / 'run', count=2).parent
  reports = [report(f'kernel_{n}', 'model/conv2d/Conv2D', 2500 + n) for n in range(2)]
  kernel_stats(folder / 'node.kernel_stats.pb', reports)
  assert run(tmp_path / 'logs').returncode == 0
  rows = table(tmp_path / 'logs_kernels' / 'kernels.csv')
  assert [(r['total_duration_us'], r['registers_per_thread'], r['rank']) for r in rows] == [
    ('2.501', '16', '1'), ('2.5', '16', '2'),
  ]  # fmt: skip
  run(tmp_path / 'logs', '--source=xplane')
  assert table(tmp_path / 'logs_kernels' / 'kernels.csv')[0]['total_duration_us'] == '0.002'


def test_an_old_table_that_was_capped_or_broken_gives_way(tmp_path):
  folder = gpu_trace(tmp_path / 'logs' / 'run', count=2).parent
  file = folder / 'node.kernel_stats.pb'
  kernel_stats(file, [report(f'k{n}', 'op', 1) for n in range(1000)])
  run(tmp_path / 'logs')
  assert len(table(tmp_path / 'logs_kernels' / 'kernels.csv')) == 2
  file.write_bytes(file.read_bytes()[:-3])
  assert run(tmp_path / 'logs').returncode == 0
  (line,) = table(tmp_path / 'logs_kernels' / 'manifest.csv')
  assert (line['status'], line['read']) == ('ok', 'node.xplane.pb')
  assert 'kernel_stats.pb' in line['reason']


def test_several_hosts_runs_and_folders_are_told_apart(tmp_path):
  for root in ('a', 'b'):
    for host in ('one', 'two'):
      gpu_trace(tmp_path / root / 'run', host)
  done = run(tmp_path / 'a', tmp_path / 'b', f'--output_dir={tmp_path / "out"}', '--gviz')
  assert done.returncode == 0, done.stderr
  rows = table(tmp_path / 'out' / 'kernels.csv')
  assert len({(row['trace'], row['host']) for row in rows}) == 4
  assert len(list((tmp_path / 'out' / 'gviz').iterdir())) == 4


def test_json_is_readable_by_scripts_written_for_the_page(tmp_path):
  folder = tmp_path / 'logs'
  for repeat in ('x', 'y'):
    gpu_trace(folder / repeat / '20200512-1402-b64s2k3f10', count=2)
  assert run(folder, '--gviz').returncode == 0
  files = sorted((tmp_path / 'logs_kernels' / 'gviz').iterdir())
  assert [f.name for f in files] == ['b64s2k3f10.json', 'b64s2k3f10_2.json']
  # As such scripts do: columns by their ids, rows by their places.
  content = json.loads(files[0].read_text())
  assert [column['id'] for column in content['cols']] == [
    'rank', 'kernel_name', 'registers_per_thread', 'shmem_bytes', 'block_dim', 'grid_dim',
    'is_op_tensor_core_eligible', 'is_kernel_using_tensor_core', 'op_name', 'occurrences',
    'total_duration_us', 'avg_duration_us', 'min_duration_us', 'max_duration_us',
  ]  # fmt: skip
  rows = [[cell['v'] for cell in row['c']] for row in content['rows']]
  assert rows[0] == [
    1, 'kernel_0', 16, 0, '32,1,1', '1,1,1', True, False, 'model/conv2d/Conv2D', 1, 0.002, 0.002,
    0.002, 0.002,
  ]  # fmt: skip


def test_parquet_holds_the_same(logs):
  pandas = pytest.importorskip('pandas')
  pytest.importorskip('pyarrow')
  output = logs.with_name('logs_kernels')
  run(logs, '--parquet', '--kinds=kernel,host', '--by_step')
  ours, same = (
    pandas.read_csv(output / 'kernels.csv'),
    pandas.read_parquet(output / 'kernels.parquet'),
  )
  assert list(ours.columns) == list(same.columns)
  pandas.testing.assert_series_equal(
    ours['total_duration_us'], same['total_duration_us'], check_dtype=False
  )
  assert list(same['kernel_name']) == list(ours['kernel_name'])


@pytest.mark.slow
def test_a_process_that_dies_takes_one_trace_with_it(logs, tmp_path):
  # A worker that is killed as the machine kills what takes too much memory.
  (tmp_path / 'sitecustomize.py').write_text(
    'import os, signal\n'
    'import algorithmic_efficiency.profiling.one_trace as one\n'
    'import algorithmic_efficiency.profiling.export as export\n'
    'export._NO_WORKERS_BYTES = 0\n'
    'read = one.read\n'
    'def deadly(source, options):\n'
    '  if source.name.startswith("torch"):\n'
    '    os.kill(os.getpid(), signal.SIGKILL)\n'
    '  return read(source, options)\n'
    'one.read = deadly\n'
  )
  environment = {**os.environ, 'PYTHONPATH': f'{tmp_path}{os.pathsep}{ROOT}'}
  done = subprocess.run(
    [sys.executable, EXPORT, logs, '--jobs=2'], env=environment, capture_output=True, text=True,
    check=False,
  )  # fmt: skip
  assert done.returncode == 1
  manifest = {
    r['trace']: r['status'] for r in table(logs.with_name('logs_kernels') / 'manifest.csv')
  }
  assert manifest['torch_b8s1k1f2'] == 'crashed'
  assert manifest['20200512-1402-b64s2k3f10/2020'] == 'ok'


def test_parameters_by_a_pattern_and_from_our_own_record(tmp_path):
  gpu_trace(tmp_path / 'logs' / 'lr0.1_warm')
  run(tmp_path / 'logs', '--pattern=lr{lr}_{schedule}')
  row = table(tmp_path / 'logs_kernels' / 'kernels.csv')[0]
  assert (row['lr'], row['schedule']) == ('0.1', 'warm')
  trial = tmp_path / 'runs' / 'digits_jax' / 'run_2'
  gpu_trace(trial / 'traces')
  (trial / 'hparams.json').write_text('{"learning_rate": 0.01}')
  (trial / 'trial.json').write_text('{"run_idx": 2}')
  (trial.parent / 'metadata.json').write_text('{"workload": "digits_jax", "batch_size": 64}')
  run(tmp_path / 'runs')
  row = table(tmp_path / 'runs_kernels' / 'kernels.csv')[0]
  assert [row[n] for n in ('workload', 'batch_size', 'run_idx', 'hparam.learning_rate')] == [
    'digits_jax', '64', '2', '0.01',
  ]  # fmt: skip


@pytest.mark.parametrize(
  ('arguments', 'says'),
  [
    (['nowhere'], "there is no 'nowhere'"),
    (['.', '--kinds=kernels'], "'kernels' is not of host, kernel, memory"),
    (['.', '--jobs=0'], "'0' is not a positive integer"),
    (['.', '--pattern=b(', '--output_dir=x'], 'is no pattern'),
    (['.', '--pattern=b1', '--output_dir=x'], 'names no parameter'),
    (['.', '--gviz', '--by_step'], '--gviz holds kernels over all steps'),
  ],
)
def test_wrong_commands(tmp_path, monkeypatch, arguments, says):
  monkeypatch.chdir(tmp_path)
  done = run(*arguments)
  assert done.returncode == 2
  assert says in done.stderr.splitlines()[-1]
  assert not list(tmp_path.iterdir())


def test_a_folder_without_traces(tmp_path):
  done = run(tmp_path)
  assert done.returncode == 1
  assert 'no trace was found' in done.stderr


def test_the_viewers_copy_beside_an_xplane_is_passed_over(tmp_path):
  folder = gpu_trace(tmp_path / 'logs' / 'run').parent
  viewer = {'displayTimeUnit': 'ns', 'metadata': {'highres-ticks': True}, 'traceEvents': []}
  (folder / 'node.trace.json.gz').write_bytes(gzip.compress(json.dumps(viewer).encode()))
  (folder / 'other.json').write_text('{"a": 1}')
  assert run(tmp_path / 'logs').returncode == 0
  assert len(table(tmp_path / 'logs_kernels' / 'manifest.csv')) == 1


def test_names_no_framework():
  code = (
    f'import runpy, sys; sys.argv = ["x", "--help"]; script = {str(EXPORT)!r}\n'
    'try: runpy.run_path(script, run_name="__main__")\n'
    'except SystemExit: pass\n'
    'loaded = {"jax", "torch", "tensorflow", "pandas", "pyarrow"} & set(sys.modules)\n'
    'assert not loaded, loaded'
  )
  subprocess.run([sys.executable, '-c', code], check=True, capture_output=True)


def test_analysis_agrees_with_pandas(logs):
  pandas = pytest.importorskip('pandas')
  output = logs.with_name('logs_kernels')
  run(logs, '--kinds=kernel,host', '--by_step')
  shown = output / 'shown.csv'
  done = run(output / 'kernels.csv', '--by=phase,op_name', f'--output={shown}', script=ANALYSE)
  assert done.returncode == 0, done.stderr
  frame = pandas.read_csv(output / 'kernels.csv', keep_default_na=False)
  sums = frame.groupby(['phase', 'op_name'])['total_duration_us'].sum()
  ours = {(r['phase'], r['op_name']): float(r['total_us']) for r in table(shown)}
  assert ours == pytest.approx(sums.to_dict())


def test_sum_of_an_operator_by_parameters_with_repeats(tmp_path):
  for batch, repeats in ((1, (1000, 3000)), (8, (5000,))):
    for number, duration in enumerate(repeats):
      gpu_trace(tmp_path / 'logs' / f'{number}-b{batch}s1k1f1', count=2, duration_ps=duration)
  run(tmp_path / 'logs')
  shown = tmp_path / 'shown.csv'
  run(tmp_path / 'logs_kernels' / 'kernels.csv', '--ops=Conv2D$', '--over=batch_size',
      f'--output={shown}', script=ANALYSE)  # fmt: skip
  assert [(r['batch_size'], r['traces'], r['median_us']) for r in table(shown)] == [
    ('1', '2', '0.004'), ('8', '1', '0.01'),
  ]  # fmt: skip


def test_comparison_of_two_runs(tmp_path):
  for name, duration in (('old', 1000), ('new', 4000)):
    gpu_trace(tmp_path / name / 'run', count=1, duration_ps=duration)
    run(tmp_path / name)
  shown = tmp_path / 'shown.csv'
  done = run(
    tmp_path / 'old_kernels' / 'kernels.csv', f'--compare={tmp_path / "new_kernels/kernels.csv"}',
    '--by=op_name', f'--output={shown}', script=ANALYSE,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  (row,) = table(shown)
  assert (row['before_us'], row['after_us']) == ('0.001', '0.004')
  assert float(row['difference_us']) == pytest.approx(0.003)
  wrong = run(tmp_path / 'old_kernels' / 'manifest.csv', script=ANALYSE)
  assert wrong.returncode == 2
  assert 'is no table of kernels' in wrong.stderr


def test_the_second_engine_agrees(tmp_path):
  pytest.importorskip('xprof', reason='needs xprof, which no extra installs')
  gpu_trace(tmp_path / 'logs' / 'run', count=4, duration_ps=3_000_000)
  sums = {}
  for source in ('xplane', 'xprof'):
    output = tmp_path / source
    assert run(tmp_path / 'logs', f'--output_dir={output}', f'--source={source}').returncode == 0
    rows = table(output / 'kernels.csv')
    sums[source] = {row['kernel_name']: float(row['total_duration_us']) for row in rows}
  assert sums['xprof'] == pytest.approx(sums['xplane'])
  # It writes beside the trace that it is given, which is a link of ours.
  (folder,) = (tmp_path / 'logs').rglob('2020')
  assert [path.name for path in folder.iterdir()] == ['node.xplane.pb']


@pytest.mark.skipif(not SAMPLES.is_dir(), reason='needs the real traces in ../shared/samples')
def test_the_real_trace_of_2021(tmp_path):
  conv = {}
  for source in ('kernel_stats', 'xplane'):
    output = tmp_path / source
    assert run(SAMPLES, f'--output_dir={output}', f'--source={source}').returncode == 0
    rows = table(output / 'kernels.csv')
    assert len(rows) == 145
    assert sum(float(row['total_duration_us']) for row in rows) == pytest.approx(719.853)
    assert all(row['op_name'] for row in rows)
    conv[source] = sorted(
      (row['kernel_name'], row['op_name'], row['total_duration_us'], row['occurrences'],
       row['is_op_tensor_core_eligible'])
      for row in rows if 'Conv2D' in row['op_name']
    )  # fmt: skip
  assert conv['kernel_stats'] == conv['xplane']
  assert len(conv['xplane']) > 60


def test_the_columns_are_described_as_they_are():
  file = ROOT / 'algorithmic_efficiency' / 'profiling' / 'KERNELS.md'
  command = [sys.executable, '-m', 'algorithmic_efficiency.profiling.columns']
  printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
  assert file.read_text() == printed, f'{command[-1]} > {file}'
