"""Real processes, one with a known answer among them, are traced by the command."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from scripts_in_process import run

from algorithmic_efficiency.memory_trace import analysis, backends, refs, sampling
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.trace_file import Trace, Writer

SCRIPT = ROOT / 'scripts' / 'trace_memory.py'
TOUCHER = Path(__file__).with_name('toucher.py')
PAGE = 4096
SPIN = 'import time\nprint(1, flush=True)\nwhile True: time.sleep(0.001)'


def available(name):
  agents = None
  return not backends.load(name, chunk_bytes=1 << 16, agents=agents, sample_sec=1.0).probe()


needs_refs = pytest.mark.skipif(not available('refs'), reason='needs clear_refs and smaps of Linux')
needs_uffd = pytest.mark.skipif(not available('uffd_wp'), reason='needs PAGEMAP_SCAN, Linux 6.7')


@pytest.fixture
def start():
  """Starts programs that print a line when they are ready, and ends them."""
  programs = []

  def started(*command):
    programs.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    return programs[-1], programs[-1].stdout.readline()

  yield started
  for program in programs:
    program.kill()
    program.wait()
    program.stdout.close()


def toucher(start, *options):
  program, line = start(sys.executable, '-S', TOUCHER, '--total_mib=32', '--hot_mib=4', *options)
  assert program.stdout.readline() == 'ready\n'
  return program.pid, json.loads(line)


def hot_extents(sample, told):
  return [e for e in sample.touched.extents if e.mapping.begin <= told['hot'] < e.mapping.end]


def state(pid):
  return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]


def goes_on(pid, within_sec=5.0):
  end = time.monotonic() + within_sec
  while state(pid) == 'T' and time.monotonic() < end:
    time.sleep(0.01)
  return state(pid) != 'T'


@needs_refs
@pytest.mark.parametrize(
  ('access', 'order'),
  [('read', 'sequential'), ('write', 'random'), ('mixed', 'strided')],
)
def test_what_is_touched_is_seen_to_the_page(start, tmp_path, access, order):
  pid, told = toucher(start, f'--access={access}', f'--order={order}')
  path = tmp_path / 'memory.jsonl'
  done = run(SCRIPT, f'--pid={pid}', '--duration_sec=1', '--sample_sec=0.2', f'--output={path}')
  assert done.returncode == 0, done.stderr
  assert state(pid) != 'T'
  trace = Trace(path)
  samples = list(trace.samples())
  assert len(samples) >= 3
  for sample in samples:
    (extent,) = hot_extents(sample, told)
    # Some pages of the array's mapping may be touched for another reason, none of the hot missed.
    assert told['pages'] * PAGE <= extent.touched <= (told['pages'] + 8) * PAGE
    assert sample.touched.resident >= told['bytes']
    assert sample.window.end_ns - sample.window.begin_ns >= 0.2e9 or sample is samples[-1]
    assert 0 < sample.window.paused_ns < 2e9
  assert trace.end['reason'] == 'its time is over'


@needs_refs
@pytest.mark.parametrize(('backend', 'unit'), [('refs_split', 16384), ('uffd_wp', PAGE)])
def test_units_are_those_that_are_touched(tmp_path, backend, unit):
  if not available(backend):
    pytest.skip(f'{backend} is not to be had here')
  path = tmp_path / 'memory.jsonl'
  command = [sys.executable, SCRIPT, f'--backend={backend}', f'--output={path}', '--chunk_kib=16',
             '--', sys.executable, TOUCHER, '--total_mib=16', '--hot_mib=4', '--hot_at_mib=8',
             '--access=write', '--duration_sec=3']  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  told = json.loads(done.stdout.splitlines()[0])
  trace = Trace(path)
  assert trace.header['unit_bytes'] == unit
  truth = np.unique(np.arange(told['hot'], told['hot'] + told['hot_bytes'], PAGE) // unit)
  # After the window in which the last of its memory was filled, and the one in which it was split.
  filled = [
    s for s in trace.samples() if sum(e.resident for e in hot_extents(s, told)) >= told['bytes']
  ]
  full = [s for s in filled[2:] if s.touched.unplaced < 1 << 20]
  assert len(full) >= 2
  for sample in full:
    units = np.concatenate([np.arange(first, first + n) for first, n in sample.touched.units])
    assert np.isin(truth, units).all()
    base = told['base'] // unit
    within = units[(units > base) & (units < base + told['bytes'] // unit)]
    assert len(within) <= len(truth) + 4


@needs_refs
def test_children_are_followed_and_a_commands_exit_code_is_the_scripts(tmp_path):
  path = tmp_path / 'memory.jsonl'
  program = f'{sys.executable} -S {TOUCHER} --total_mib=16 --hot_mib=2 --hot_at_mib=4'
  command = [sys.executable, SCRIPT, '--children', '--quiet', f'--output={path}', '--',
             'sh', '-c', f'{program} --duration_sec=1.2; exit 7']  # fmt: skip
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 7
  assert done.stderr == ''
  told = json.loads(done.stdout.splitlines()[0])
  trace = Trace(path)
  assert told['pid'] in {line['pid'] for line in trace.lines('process')}
  own = [s for s in trace.samples() if s.pid == told['pid']]
  assert any(sum(e.touched for e in hot_extents(s, told)) >= 2 << 20 for s in own)


SLOW = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from algorithmic_efficiency.memory_trace import refs, sampling
from algorithmic_efficiency.memory_trace.processes import Process
from algorithmic_efficiency.memory_trace.trace_file import Writer
sampling._PAUSE_LIMIT_SEC = {limit}
class Watch(refs.Watch):
  def collect(self):
    print('paused', flush=True)
    time.sleep(60)
class Backend(refs.Backend):
  def watch(self, process, keeps):
    return Watch(process, keeps)
process = Process(int(sys.argv[1]))
sampling.Sampler(Backend(), process, Writer(Path(sys.argv[2]), {{}}), sampling.Settings()).run()
"""


@needs_refs
@pytest.mark.parametrize(('number', 'limit'), [(signal.SIGKILL, 60.0), (signal.SIGSTOP, 0.5)])
def test_a_process_goes_on_when_its_tracer_is_killed_or_stands_still(
  start, tmp_path, number, limit
):
  program, _ = start(sys.executable, '-S', '-c', SPIN)
  code = SLOW.format(root=str(ROOT), limit=limit)
  tracer, line = start(sys.executable, '-c', code, str(program.pid), str(tmp_path / 'm.jsonl'))
  assert line == 'paused\n'
  assert state(program.pid) == 'T'
  tracer.send_signal(number)
  assert goes_on(program.pid)


@needs_refs
@pytest.mark.parametrize(('decode_sec', 'least', 'most'), [(0.3, 0.5, 0.75), (0.6, 0.6, 0.95)])
def test_a_window_is_as_long_as_asked_whatever_it_takes_to_make_sense_of_the_last(
  start, tmp_path, decode_sec, least, most
):
  program, _ = start(sys.executable, '-S', '-c', SPIN)

  class Watch(refs.Watch):
    def decode(self, raw):
      time.sleep(decode_sec)
      return super().decode(raw)

  class Backend(refs.Backend):
    def watch(self, process, keeps):
      return Watch(process, keeps)

  writer = Writer(tmp_path / 'm.jsonl', {})
  settings = sampling.Settings(sample_sec=0.5, duration_sec=3)
  sampling.Sampler(Backend(), Process(program.pid), writer, settings).run()
  windows = [sample.window for sample in Trace(tmp_path / 'm.jsonl').samples()]
  lengths = [(window.end_ns - window.begin_ns) / 1e9 for window in windows[1:-1]]
  assert len(lengths) >= 2
  assert least - 0.01 <= np.median(lengths) <= most


@needs_refs
def test_one_that_ignores_sigcont_goes_on_all_the_same(start, tmp_path):
  ignoring = f'import signal\nsignal.signal(signal.SIGCONT, signal.SIG_IGN)\n{SPIN}'
  program, _ = start(sys.executable, '-S', '-c', ignoring)
  path = tmp_path / 'm.jsonl'
  done = run(SCRIPT, f'--pid={program.pid}', '--duration_sec=0.5', f'--output={path}')
  assert done.returncode == 0, done.stderr
  assert len(list(Trace(path).samples())) >= 2
  assert goes_on(program.pid)


@needs_refs
def test_one_that_somebody_else_has_stopped_is_left_alone(start, tmp_path):
  program, _ = start(sys.executable, '-S', '-c', SPIN)
  program.send_signal(signal.SIGSTOP)
  while state(program.pid) != 'T':
    time.sleep(0.01)
  done = run(SCRIPT, f'--pid={program.pid}', f'--output={tmp_path / "m.jsonl"}')
  assert done.returncode == 2
  assert f'process {program.pid} is stopped; let it go on first' in done.stderr
  assert state(program.pid) == 'T'


def zombie(start):
  program, _ = start('sh', '-c', 'echo; exit 0')
  while state(program.pid) != 'Z':
    time.sleep(0.01)
  return program.pid


@needs_refs
@pytest.mark.parametrize(
  ('flags', 'told'),
  [
    (['--pid=ended'], 'has ended'),
    (['--pid=2'], "it is the kernel's"),
    (['--pid=2147483000'], 'there is no process 2147483000'),
    (['--pid=x'], "argument --pid: 'x' is not a positive integer"),
    ([], 'give either --pid=PID or a command after --'),
    (['--', 'no_such_program_here'], 'cannot be started (No such file or directory)'),
    (['--backend=uffd_wp', '--pid=self'], 'needs its helper within the process'),
    (['--drop=nothing', '--', 'true'], "'nothing' names no mappings to drop"),
    (['--path=[', '--', 'true'], 'is no regular expression'),
    (['--sample_sec=0', '--', 'true'], '0 is not a positive number'),
    (['--backend=refs_split', '--chunk_kib=3', '--', 'true'], 'give a power of two'),
    (['--output=.', '--', 'true'], 'is there already'),
  ],
)  # fmt: skip
def test_a_wrong_command_is_told_in_one_line(start, tmp_path, flags, told):
  if '--backend=uffd_wp' in flags and not available('uffd_wp'):
    pytest.skip('uffd_wp is not to be had here')
  kernels = Path('/proc/2/comm')
  if '--pid=2' in flags and not (kernels.exists() and kernels.read_text() == 'kthreadd\n'):
    pytest.skip('the kernel has no process 2 here')
  known = {'--pid=ended': lambda: f'--pid={zombie(start)}', '--pid=self': lambda: '--pid=1'}
  flags = [known[flag]() if flag in known else flag for flag in flags]
  done = run(SCRIPT, f'--output={tmp_path / "m.jsonl"}', *flags)
  assert done.returncode == 2
  assert told in done.stderr.splitlines()[-1]
  assert 'Traceback' not in done.stderr


@needs_refs
def test_a_disk_that_is_full_costs_the_trace_and_not_the_command(tmp_path):
  path = tmp_path / 'memory.jsonl'
  small_files = ['sh', '-c', 'ulimit -f 58; exec "$@"', 'sh']  # blocks of 512 bytes
  command = [
    *small_files,
    sys.executable,
    SCRIPT,
    f'--output={path}',
    '--sample_sec=0.05',
    '--',
    sys.executable,
    TOUCHER,
    '--total_mib=32',
    '--hot_mib=4',
    '--duration_sec=2',
  ]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 1
  assert 'cannot be written (File too large)' in done.stderr
  assert 'The command goes on without a trace.' in done.stderr
  assert done.stdout.splitlines()[-1] == 'ready'
  assert path.read_bytes().endswith(b'\n')
  assert list(Trace(path).lines('mapping'))


@needs_refs
def test_another_users_process_is_refused_and_ones_own_needs_no_root(start, request):
  nobody = 65534
  if os.geteuid() != 0:
    pytest.skip('needs root to become two users')
  folder = Path(tempfile.mkdtemp())  # pytest's is closed to others
  request.addfinalizer(lambda: shutil.rmtree(folder))
  folder.chmod(0o777)
  reach = [sys.executable, '-c', 'import numpy']
  try:
    subprocess.run(reach, user=nobody, group=nobody, capture_output=True, check=True)
  except (PermissionError, subprocess.CalledProcessError):
    pytest.skip('this Python is closed to other users')
  program, _ = start(sys.executable, '-S', '-c', SPIN)
  path = folder / 'memory.jsonl'
  command = [sys.executable, SCRIPT, f'--output={path}']
  who = {'user': nobody, 'group': nobody, 'capture_output': True, 'text': True}
  done = subprocess.run([*command, f'--pid={program.pid}'], **who)
  assert done.returncode == 2
  assert 'only that user and root may look at it' in done.stderr
  done = subprocess.run([*command, '--', 'sleep', '1'], **who)
  assert done.returncode == 0, done.stderr
  assert len(list(Trace(path).samples())) >= 3


RUN = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from algorithmic_efficiency.memory_trace.handle import MemoryTrace, parse
MADE = {{'device': 'made:0', 'in_use': 5 << 20, 'peak': 7 << 20, 'reserved': None}}
wanted = parse({wanted!r})
trace = MemoryTrace(wanted, Path(sys.argv[1]), lambda: None, lambda: [dict(MADE)], print)
with trace:
  begin, began = trace.now(), time.perf_counter()
  for step in range(1, 101):
    time.sleep(0.01)
    trace.step_ended(step)
  ours, walls = trace.now() - begin, time.perf_counter() - began
print(ours, walls, trace.summary()['left_out_sec'], trace.summary()['windows'])
"""


@needs_refs
@pytest.mark.parametrize(('wanted', 'windows'), [('refs:0.1', None), ('refs:20steps', 5)])
def test_a_runs_clock_leaves_out_what_it_stood_still(tmp_path, wanted, windows):
  path = tmp_path / 'memory.jsonl'
  code = RUN.format(root=str(ROOT), wanted=wanted)
  done = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  ours, walls, left_out, counted = map(float, done.stdout.split())
  assert left_out > 0
  assert ours + left_out == pytest.approx(walls, abs=0.02)
  samples = list(Trace(path).samples())
  assert len(samples) == counted
  allocators = analysis.analyse(Trace(path), analysis.Options(heat_map=False)).allocators
  assert {row['in_use'] for row in allocators} == {5 << 20}
  assert [row['step'] for row in allocators] == sorted(row['step'] for row in allocators)
  last = (samples[-1].window.end_ns - samples[0].window.begin_ns) / 1e9
  assert all(-0.1 <= row['sec'] <= last + 0.3 for row in allocators)
  steps = [s.window.step for s in samples]
  if windows is None:
    assert counted >= 4
    assert steps == sorted(steps)
  else:  # and one that the end of the trial cuts
    assert steps[:windows] == [20, 40, 60, 80, 100]
    assert sum(s.window.paused_ns for s in samples[:windows]) <= left_out * 1e9


@needs_refs
def test_a_run_goes_on_when_its_trace_cannot_be_written_or_its_tracer_is_killed(tmp_path):
  code = RUN.format(root=str(ROOT), wanted='refs:0.1')
  path = tmp_path / 'nowhere' / 'memory.jsonl'
  done = subprocess.run([sys.executable, '-c', code, path], capture_output=True, text=True)
  assert 'the memory trace goes no further: ' in done.stdout, done.stderr
  assert 'cannot be written (No such file or directory)' in done.stdout
  killing = code.replace(
    'for step in', 'import os; os.kill(trace._program.pid, 9)\n  for step in'
  ).replace("['windows']", "['backend']")
  path = tmp_path / 'memory.jsonl'
  done = subprocess.run([sys.executable, '-c', killing, path], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  assert 'the memory trace goes no further: ' in done.stdout
  assert done.stdout.splitlines()[-1].endswith(' refs')
