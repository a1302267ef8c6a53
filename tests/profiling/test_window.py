"""Tracing a few steps through the command: what is traced, what is recorded, what goes wrong."""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.profiling.window import NoProfiler, Window, parse
from algorithmic_efficiency.records.run_folder import RunFolder, TrialFolder

FRAMEWORKS = ('jax', 'pytorch')
STEPS = [3, 4, 5, 6]
FLAGS: dict[str, Any] = {'max_global_steps': 12, 'eval_period_steps': 5}


def trial_of(command: Command, framework: str) -> TrialFolder:
  """The folder of the only trial."""
  return RunFolder(command.log_dir, f'digits_{framework}').trial(0)


def profile_of(folder: TrialFolder) -> dict[str, Any]:
  """profile.json; the files that it names are there."""
  profile = json.loads(folder.trace().profile.read_text())
  assert all((folder.traces / name).is_file() for name in profile['files'])
  return profile


def annotations(folder: TrialFolder) -> list[tuple[str, float, float]]:
  """(name, begin, end) of what is marked in the trace; steps as 'step 3'."""
  jax_files = list(folder.traces.glob('plugins/profile/*/*.xplane.pb'))
  if jax_files:
    return annotations_jax(jax_files)
  (path,) = folder.traces.glob('*.pt.trace.json.gz')
  assert re.fullmatch(r'.+_\d+\.\d{19}\.pt\.trace\.json\.gz', path.name)
  events = [e for e in chrome_events(path) if e.get('cat') == 'user_annotation']
  marks = [(e['name'], e['ts'], e['ts'] + e['dur']) for e in events]
  return sorted(
    ((name.replace('ProfilerStep#', 'step '), b, e) for name, b, e in marks), key=lambda m: m[1]
  )


def chrome_events(path: Path) -> list[dict[str, Any]]:
  """What has a duration in a Chrome trace."""
  events = json.loads(gzip.decompress(path.read_bytes()))['traceEvents']
  return [event for event in events if event.get('ph') == 'X']


def xplane_events(files: list[Path]) -> list[tuple[Any, dict[str, Any]]]:
  """(event, its numbers) of an xplane."""
  import jax

  (path,) = files
  data = jax.profiler.ProfileData.from_file(str(path))
  lines = [line for plane in data.planes for line in plane.lines]
  return [(event, dict(event.stats)) for line in lines for event in line.events]


def annotations_jax(files: list[Path]) -> list[tuple[str, float, float]]:
  """The same of an xplane."""
  found = [
    (f'step {stats["step_num"]}' if event.name == 'train' else event.name, event)
    for event, stats in xplane_events(files)
    if event.name in ('train', 'evaluation')
  ]
  return sorted(((n, e.start_ns, e.start_ns + e.duration_ns) for n, e in found), key=lambda m: m[1])


@pytest.fixture(scope='module')
def traced(tmp_path_factory) -> dict[str, Command]:
  """By framework: a run that traced four steps, with an evaluation among them."""
  commands = {}
  for framework in FRAMEWORKS:
    command = commands[framework] = Command(tmp_path_factory.mktemp(framework) / 'logs')
    arguments = command.arguments(framework, profile_steps='3:7', **FLAGS)
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'the time of trial 1 is that of a profiled run' in done.stdout
  return commands


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_exactly_the_steps_asked_for_are_in_the_trace(framework, traced):
  found = annotations(trial_of(traced[framework], framework))
  names = [name for name, _, _ in found if name.startswith(('step', 'evaluation'))]
  assert names == ['step 3', 'step 4', 'evaluation', 'step 5', 'step 6']
  steps = [mark for mark in found if mark[0].startswith('step')]
  (evaluation,) = (mark for mark in found if mark[0] == 'evaluation')
  assert steps[1][2] <= evaluation[1] < evaluation[2] <= steps[2][1]  # no part of a step


def test_the_kernels_are_those_of_the_steps_in_jax(traced):
  files = list(trial_of(traced['jax'], 'jax').traces.glob('plugins/profile/*/*.xplane.pb'))
  runs: dict[str, set[int]] = {}
  for _, stats in xplane_events(files):
    if 'hlo_op' in stats:
      runs.setdefault(stats['hlo_module'], set()).add(stats['run_id'])
  assert len(runs['jit_train_step']) == len(STEPS)
  assert len(runs['jit_predict']) == 3  # the splits


def within(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
  return outer['ts'] <= inner['ts'] and inner['ts'] + inner['dur'] <= outer['ts'] + outer['dur']


def test_the_kernels_are_those_of_the_steps_and_their_layers_in_pytorch(traced):
  (path,) = trial_of(traced['pytorch'], 'pytorch').traces.glob('*.gz')
  events = chrome_events(path)
  steps = [e for e in events if e['name'].startswith('ProfilerStep#')]
  layers = [e for e in events if e['name'].startswith('nn.Module: ')]
  (evaluation,) = (e for e in events if e['name'] == 'evaluation')
  products = [e for e in events if e['name'] == 'aten::addmm']
  trained = [e for e in products if any(within(e, step) for step in steps)]
  shapes: dict[str, set[str]] = {}
  for product in products:
    (layer,) = (e for e in layers if within(product, e))
    shapes.setdefault(layer['name'], set()).add(str(product['args']['Input Dims'][2]))
  assert shapes == {'nn.Module: hidden': {'[64, 128]'}, 'nn.Module: output': {'[128, 10]'}}
  assert len(trained) == 2 * len(STEPS)
  assert all(within(e, evaluation) for e in products if e not in trained)
  backward = [
    e for e in events if e['name'] == 'autograd::engine::evaluate_function: AddmmBackward0'
  ]
  linked = {e['args']['Sequence number'] for e in trained}
  assert {e['args']['Sequence number'] for e in backward} == linked


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_the_record_says_that_the_run_was_profiled(framework, traced):
  command = traced[framework]
  name = f'digits_{framework}'
  assert command.metadata(name)['profile_steps'] == '3:7'
  rows = command.rows(name)
  assert [(r['global_step'], r['profiled']) for r in rows] == [
    ('1', 'FALSE'), ('5', 'TRUE'), ('10', 'TRUE'), ('12', 'TRUE'),
  ]  # fmt: skip
  state = command.state(name)
  profiled = state['profiled']
  assert profiled['steps_asked'] == profiled['steps_traced'] == [3, 7]
  assert profiled['problem'] is None
  spent = float(rows[-1]['accumulated_profiling_time'])
  assert spent == state['seconds']['profiling'] >= profiled['seconds'] > 0
  assert float(rows[0]['accumulated_profiling_time']) == 0
  lines = trial_of(command, framework).phases.read_text().splitlines()
  phases = [json.loads(line) for line in lines]
  marks = [phase['step'] for phase in phases if phase['phase'] == 'profiling']
  assert marks == [2, 3, 7]  # warmed up, opened, closed


@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_profile_json_says_what_was_traced_and_on_what(framework, traced):
  profile = profile_of(trial_of(traced[framework], framework))
  assert profile['files']
  assert profile['steps_traced'] == [3, 7]
  library = {'pytorch': 'torch'}.get(framework, framework)
  assert profile['versions'][library].startswith(__import__(library).__version__)
  assert (profile['framework'], profile['device'], profile['device_kind']) == (
    framework, 'cpu', 'cpu',
  )  # fmt: skip
  assert profile['begin']['monotonic_sec'] < profile['end']['monotonic_sec']


@pytest.mark.slow
@pytest.mark.parametrize('framework', FRAMEWORKS)
def test_a_profiled_run_trains_to_the_same_losses(framework, traced, command):
  command.run(framework, **FLAGS)
  plain, profiled = (c.rows(f'digits_{framework}') for c in (command, traced[framework]))
  assert not {'profiled', 'accumulated_profiling_time'} & set(plain[0])
  names = [n for n in plain[0] if re.match(r'(train|validation|test)/|global_step|loss', n)]
  assert len(names) > 8
  for ours, theirs in zip(plain, profiled, strict=True):
    assert {n: ours[n] for n in names} == {n: theirs[n] for n in names}
  assert not trial_of(command, framework).traces.exists()


@pytest.mark.parametrize(
  ('text', 'told'),
  [
    ('3', "'3' is not two whole numbers START:STOP"),
    ('a:b', 'is not two whole numbers'),
    ('1:2:3', 'is not two whole numbers'),
    ('-1:3', 'is not two whole numbers'),
    (' 1:3', 'is not two whole numbers'),
    ('1.0:3', 'is not two whole numbers'),
    ('1:' + '9' * 5000, 'is not two whole numbers'),
    ('', 'is not two whole numbers'),
    ('5:5', '5:5 names no step'),
    ('7:5', '7:5 names no step'),
    ('0:3', '0:3 begins with step 0'),
    ('3:13', '3:13 ends beyond --max_global_steps=12'),
  ],
)
def test_bad_windows_are_refused(text, told):
  with pytest.raises(UsageError, match=r'^--profile_steps=.*\.$') as caught:
    parse(text, 12)
  assert told in str(caught.value)


def test_good_windows():
  assert parse(None, 12) is None
  assert parse('3:12', 12) == Window(3, 12)
  assert str(parse('03:0012', None)) == '3:12'


def test_a_bad_window_ends_the_command_before_anything_is_touched(command):
  line = command.arguments(profile_steps='0:3')
  done = subprocess.run(line, capture_output=True, text=True, timeout=60)
  assert done.returncode == 2
  assert done.stderr.startswith('submission_runner: error: --profile_steps=0:3 begins with step 0')
  assert done.stderr.count('\n') == 1
  assert not command.log_dir.exists()


def test_no_profiler_marks_nothing():
  profiler = NoProfiler()
  with profiler, profiler.annotate('evaluation'):
    profiler.begin_step(3)
    profiler.end_step()
  assert (profiler.columns(), profiler.summary(), profiler.state()) == ({}, None, None)


# What goes wrong is done to trials by their number, in one process: what is left behind in it can
# be looked at, and the last trial shows that the profiler works after all that.

WATCHED = """
import errno, json, signal, subprocess, sys, threading, time
sys.argv = {arguments!r}
from algorithmic_efficiency.profiling import collect_{framework} as collect
from algorithmic_efficiency.profiling.window import Profiler
from algorithmic_efficiency.runner import streams
from algorithmic_efficiency.runner.attempt import Attempt
from algorithmic_efficiency.runner.rules import Rules

def instead(owner):
  def replace(function):
    own = getattr(owner, function.__name__)
    setattr(owner, function.__name__, lambda *arguments: function(own, *arguments))
  return replace

trial = [0]
@instead(Attempt)
def run(own, self):
  trial[0] = self._number
  return own(self)

def look():
  found = {{'threads': [t.name for t in threading.enumerate() if not t.daemon]}}
  if 'torch' in sys.modules:
    from torch.nn.modules import module
    found['hooks'] = len(module._global_forward_hooks) + len(module._global_forward_pre_hooks)
  found['imported'] = [m for m in ('jax', 'torch', 'tensorflow', 'tensorboard', 'xprof')
                       if m in sys.modules]
  sys.stderr.write('left: ' + json.dumps(found) + '\\n')

@instead(streams)
def leave(own, code):
  look()
  own(code)

@instead(streams)
def leave_at_once(own, code):
  look()
  own(code)

{faults}
from algorithmic_efficiency import submission_runner
submission_runner.main()
"""

FAULTS = """
@instead(collect.Collector)
def step(own, self, number):
  if trial[0] == 1 and number == 6:
    raise ValueError('broken')
  return own(self, number)

@instead(collect.Collector)
def start(own, self, model, folder):
  if trial[0] == 2:
    raise RuntimeError('no counters\\nhere')
  own(self, model, folder)

@instead(Rules)
def reason_to_stop(own, self, state):
  end = {3: 2, 4: 4, 5: 6}.get(trial[0])
  return 'enough' if state.global_step == end else own(self, state)

@instead(collect.TraceFolder)
def make_anew(own, self):
  own(self)
  if trial[0] == 6 and MOUNTS:
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(self.path)]
    subprocess.run(mount, check=True)

@instead(collect.Collector)
def stop(own, self, folder):
  if trial[0] == 6 and MOUNTS:
    with (folder.path / 'filler').open('wb', buffering=0) as file:
      try:
        while True:
          file.write(bytes(1000))
      except OSError as error:
        assert error.errno == errno.ENOSPC
  if trial[0] == 7:
    time.sleep(SLOW_SEC)
  own(self, folder)
"""
WINDOW = '4:8'
SLOW_SEC = 0.8  # to write a trace: more than all steps take


def watched(
  command: Command, framework: str, faults: str, **flags: object
) -> tuple[int, list[str]]:
  """Runs the command with faults; its exit code and stderr. Nothing may be left in its process."""
  _, *arguments = command.arguments(framework, **{**FLAGS, **flags})
  script = WATCHED.format(arguments=arguments, framework=framework, faults=faults)
  done = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, timeout=120, cwd=ROOT
  )
  *told, left = done.stderr.splitlines()
  assert left.startswith('left: '), done.stderr
  found = json.loads(left.removeprefix('left: '))
  assert found['threads'] == ['MainThread']
  assert found.get('hooks', 0) == 0
  assert found['imported'] == [{'pytorch': 'torch'}.get(framework, framework)]
  return done.returncode, told


def can_mount(folder: Path) -> bool:
  """Whether a small disk can be made here."""
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(folder)]
  if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
    return False
  subprocess.run(['umount', str(folder)], check=True)
  return True


class Faulty:
  """A study in which all goes wrong; by trial what it told, recorded and traced."""

  def __init__(self, framework: str, folder: Path) -> None:
    command = Command(folder / 'logs')
    self.mounts = can_mount(folder)
    points = json.loads((folder / 'points.json').read_text())
    (folder / 'points.json').write_text(json.dumps([points[0]] * 7))
    trials = [RunFolder(command.log_dir, f'digits_{framework}').trial(i) for i in range(7)]
    flags = {'profile_steps': WINDOW, 'num_tuning_trials': 7}
    try:
      faults = f'MOUNTS, SLOW_SEC = {self.mounts}, {SLOW_SEC}\n{FAULTS}'
      self.code, self.told = watched(command, framework, faults, **flags)
      self.profiles = [
        json.loads(f.trace().profile.read_text()) if f.trace().profile.exists() else None
        for f in trials
      ]
    finally:
      if self.mounts:
        subprocess.run(['umount', str(trials[5].traces)], capture_output=True)
    self.trials = dict(enumerate(trials, start=1))
    self.states = {n: command.state(f'digits_{framework}', n) for n in self.trials}
    self.rows = {n: command.rows(f'digits_{framework}', n) for n in self.trials}

  def problem(self, number: int) -> str:
    """The one thing that was told of a trial; the records say the same."""
    (told,) = (line for line in self.told if f'trial {number}/7 ' in line)
    problem = self.states[number]['profiled']['problem']
    assert told == f'warning: trial {number}/7 {problem}.'
    profile = self.profiles[number - 1]
    assert profile is None or profile['problem'] == problem
    return problem

  def steps(self, number: int) -> list[str]:
    """In the trace."""
    return [name for name, _, _ in annotations(self.trials[number]) if name.startswith('step')]


@pytest.fixture(scope='module', params=FRAMEWORKS)
def faulty(request, tmp_path_factory) -> Faulty:
  return Faulty(request.param, tmp_path_factory.mktemp('faulty'))


def test_a_failure_within_the_window_stops_the_profiler_and_keeps_its_trace(faulty):
  assert faulty.code == 1
  assert faulty.states[1]['status'] == 'failed'
  told = [line for line in faulty.told if 'trial 1 ' in line or 'trial 1/' in line]
  assert len(told) == 1
  assert told[0].startswith('warning: trial 1 failed: ValueError: broken')
  assert faulty.profiles[0]['steps_traced'] == [4, 6]
  assert faulty.steps(1) == ['step 4', 'step 5']


def test_a_profiler_that_cannot_start_costs_the_trace_and_not_the_trial(faulty):
  assert faulty.problem(2) == 'cannot be profiled (no counters); it goes on without a trace'
  assert faulty.states[2]['status'] == 'complete'
  assert [row['profiled'] for row in faulty.rows[2]] == ['FALSE'] * 4
  assert faulty.profiles[1]['steps_traced'] == []


@pytest.mark.parametrize(('number', 'made', 'traced'), [(3, 2, 0), (4, 4, 0), (5, 6, 2)])
def test_a_trial_that_ends_too_early_is_told_what_to_do(number, made, traced, faulty):
  what = f'the trace has {traced} of the steps' if traced else 'there is no trace'
  assert faulty.problem(number) == (
    f'ended after {made} steps, so {what} of --profile_steps=4:8; '
    'give earlier steps, or let trials train for longer'
  )
  assert faulty.states[number]['status'] == 'complete'
  assert faulty.states[number]['profiled']['steps_traced'] == ([4, 6] if traced else [])
  if traced:
    assert faulty.steps(number) == ['step 4', 'step 5']
  else:
    assert not faulty.states[number]['profiled']['files']


def test_a_full_disk_costs_the_trace_and_not_the_trial(faulty):
  if not faulty.mounts:
    pytest.skip('needs the right to mount a small disk')
  told = faulty.problem(6)
  assert told.startswith('has no trace, which cannot be written (')
  assert re.search('No space left|disk full', told)
  assert faulty.states[6]['status'] == 'complete'
  assert faulty.profiles[5]['files'] == []


def test_after_all_that_a_trial_is_traced_as_ever(faulty):
  assert not [line for line in faulty.told if 'trial 7' in line]
  assert faulty.states[7]['profiled']['problem'] is None
  assert faulty.profiles[6]['steps_traced'] == [4, 8]
  assert faulty.steps(7) == ['step 4', 'step 5', 'step 6', 'step 7']


def test_what_the_profiler_takes_is_not_scored(faulty):
  rows = faulty.rows[7]
  first, last = (float(row['accumulated_submission_time']) for row in (rows[0], rows[-1]))
  assert last - first < SLOW_SEC < float(rows[-1]['accumulated_profiling_time'])


STOPS = """
@instead(collect.Collector)
def step(own, self, number):
  if number == 5:
    signal.raise_signal(signal.SIGTERM)
  return own(self, number)
"""


@pytest.mark.slow
def test_an_interrupted_window_is_traced_anew_when_the_trial_goes_on(command):
  code, _ = watched(command, 'jax', STOPS, profile_steps='3:9')
  assert code == 75
  folder = trial_of(command, 'jax')
  assert profile_of(folder)['steps_traced'] == [3, 6]  # the step is made, and saved
  assert command.state('digits_jax')['profiled']['steps_traced'] == [3, 6]

  line = [*command.arguments(**FLAGS, profile_steps='3:8'), '--resume']
  other = subprocess.run(line, capture_output=True, text=True, timeout=60)
  assert other.returncode == 2
  assert "profile_steps is '3:8', there it is '3:9'" in other.stderr

  command.run(resume='true', **FLAGS, profile_steps='3:9')
  assert profile_of(folder)['steps_traced'] == [6, 9]
  names = [name for name, _, _ in annotations(folder) if name.startswith('step')]
  assert names == ['step 6', 'step 7', 'step 8']
  aside = folder.path / 'traces.attempt_1'
  assert json.loads((aside / 'profile.json').read_text())['steps_traced'] == [3, 6]
  profiled = [(row['global_step'], row['profiled']) for row in command.rows('digits_jax')]
  assert profiled == [('1', 'FALSE'), ('5', 'TRUE'), ('10', 'TRUE'), ('12', 'TRUE')]


STOPS_LATER = """
@instead(Profiler)
def begin_step(own, self, step):
  if step == 10:
    signal.raise_signal(signal.SIGTERM)
  own(self, step)
"""


@pytest.mark.slow
def test_a_trace_that_is_done_is_kept_when_the_trial_goes_on(command):
  code, _ = watched(command, 'jax', STOPS_LATER, profile_steps='1:3')
  assert code == 75
  folder = trial_of(command, 'jax')
  before = {path: path.stat().st_mtime_ns for path in folder.traces.rglob('*')}
  told = command.state('digits_jax')['profiled']
  command.run(resume='true', **FLAGS, profile_steps='1:3')
  assert {path: path.stat().st_mtime_ns for path in folder.traces.rglob('*')} == before
  assert command.state('digits_jax')['status'] == 'complete'
  assert command.state('digits_jax')['profiled'] == told
  assert told['steps_traced'] == [1, 3]
  assert not list(folder.path.glob('traces.*'))
  assert [row['profiled'] for row in command.rows('digits_jax')] == ['FALSE', *['TRUE'] * 3]
  command.run(overwrite='true', max_global_steps=2)
  assert not folder.traces.exists()


@pytest.mark.slow
def test_every_process_traces_itself(command):
  arguments = command.arguments('pytorch', profile_steps='3:5', **FLAGS)[1:]
  torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
  done = subprocess.run(
    [sys.executable, *torchrun, *arguments], capture_output=True, text=True, timeout=120
  )
  assert done.returncode == 0, done.stderr
  folder = trial_of(command, 'pytorch')
  for process in (0, 1):
    trace = folder.trace(process, 2)
    assert trace.path == folder.traces / f'process_{process}'
    profile = json.loads(trace.profile.read_text())
    assert (profile['process'], profile['num_processes']) == (process, 2)
    (name,) = profile['files']
    names = {event['name'] for event in chrome_events(trace.path / name)}
    assert {'ProfilerStep#3', 'ProfilerStep#4', 'nn.Module: hidden'} <= names
