"""This file reads `<host>.xplane.pb` of old and new writers: TensorFlow, JAX, PyTorch/XLA.

A kernel is an event of a device's plane that has `kernel_details`; lines that a writer derived from
others (steps, operators) have none. The operator is found, in this order: in the event's own
`tf_op`, in its annotation, and in the compiled program that lies beside (the HLO instruction's
metadata). Steps are those that the writer derived, or what the host marked with `step_num`: a
kernel belongs to the step that its launch was in.
"""

import bisect
import functools
import re
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from algorithmic_efficiency.profiling import details
from algorithmic_efficiency.profiling.activities import NO_LAUNCH, Activity, Kind, Step
from algorithmic_efficiency.profiling.hlo import OpNames
from algorithmic_efficiency.profiling.nesting import own_durations
from algorithmic_efficiency.profiling.planes import Plane, number, open_space

# What writers derive from the events of streams, in lines of their own.
_DERIVED = {'Steps', 'TensorFlow Ops', 'TensorFlow Name Scope', 'XLA Modules', 'XLA Ops',
            'XLA TraceMe', 'Framework Ops', 'Framework Name Scope', 'Source code',
            'Source Code', 'Launch Stats', 'Async XLA Ops'}  # fmt: skip
# Allocations are events too, and no work of the device.
_MEMORY = ('memcpy_details', 'Memset_details', 'memset_details')
_STATS = ('kernel_details', *_MEMORY, 'annotation', 'tf_op', 'name',
          'hlo_op', 'hlo_module', 'program_id', 'group_id', 'correlation_id',
          'theoretical_occupancy_pct')  # fmt: skip
_HOST_STATS = ('hlo_op', 'hlo_module', 'program_id', 'run_id', 'tf_op')

# What the bytes of a plane with activities of a kind have in them.
_WORDS = {
  Kind.KERNEL: (b'kernel_details',),
  Kind.MEMORY: (b'memcpy_details', b'Memset_details', b'memset_details'),
  Kind.HOST: (b'hlo_op', b'ExecutorState::Process'),
}

# TensorFlow's operators on a host are events named 'name:Type'.
_TF_HOST_OP = re.compile(r'([\w./>-]+):([A-Z]\w*)')
_LAUNCHES_OF_XLA = re.compile(r'\w*LoadedExecutable::ExecuteHelper|\w*Executable::ExecuteHelper')
_HLO_PROTO = ('hlo_proto', 'hlo proto')
_EVALUATION = 'evaluation'  # the annotation around an evaluation in our own traces


class _Found(NamedTuple):
  """What an event's statistics tell, as texts."""

  launch: str = ''
  is_memory: bool = False
  annotation: str = ''
  op_name: str = ''
  hlo_op: str = ''
  hlo_module: str = ''
  program_id: str = ''
  group: int | None = None
  correlation: int = 0
  occupancy_pct: float | None = None


class _Marks(NamedTuple):
  """What the host marked and launched; picoseconds.

  Attributes:
    steps, evaluations: marked, in order.
    launched: when what has this correlation number was launched.
    launches_of_xla: when programs were launched.
    runs: numbers of the runs of programs.
  """

  steps: list[Step]
  evaluations: list[tuple[int, int]]
  launched: dict[int, int]
  launches_of_xla: list[int]
  runs: set[str]


class XPlaneReader:
  """A file of planes, open. Raises TraceError where it is none or broken."""

  def __init__(self, path: Path) -> None:
    planes = open_space(path)
    self._devices = [p for p in planes if p.name.startswith('/device:')]
    self._hosts = [p for p in planes if p.name.startswith('/host:')]
    self._metadata = [p for p in planes if p.name == '/host:metadata']
    for plane in self._devices:
      plane.check()

  def has(self, kind: Kind) -> bool:
    """Whether there are activities of this kind; by their words in the bytes, undecoded."""
    return any(plane.mentions(word) for plane in self._planes(kind) for word in _WORDS[kind])

  def steps(self) -> list[Step]:
    """The steps that the host marked."""
    return self._marks.steps

  def activities(self, kinds: frozenset[Kind]) -> Iterator[Activity]:
    """All activities of these kinds. Raises TraceError where the file is broken."""
    if kinds & {Kind.KERNEL, Kind.MEMORY}:
      for plane in self._devices:
        yield from self._on_device(plane, kinds)
    if Kind.HOST in kinds:
      for plane in self._hosts:
        if any(plane.mentions(word) for word in _WORDS[Kind.HOST]):
          yield from self._on_host(plane)

  def _planes(self, kind: Kind) -> list[Plane]:
    return self._hosts if kind is Kind.HOST else self._devices

  def _on_device(self, plane: Plane, kinds: frozenset[Kind]) -> Iterator[Activity]:
    roles = plane.stat_ids(*_STATS)
    shared = {key: _find(plane, roles, stats) for key, stats in plane.event_stats.items()}
    groups = self._groups(plane)
    for line, start_ps, events in plane.lines():
      if line in _DERIVED:
        continue
      for event in events:
        found = _find(plane, roles, event.stats, shared.get(event.metadata_id))
        kind = Kind.MEMORY if found.is_memory else Kind.KERNEL
        if kind not in kinds or not (found.launch or found.is_memory):
          continue
        told = self._annotated(found.annotation, found.op_name)
        op_name = told.op_name or self._op_names.of(
          found.hlo_module or told.hlo_module,
          found.program_id or told.program_id,
          found.hlo_op or told.hlo_op,
        )
        begin_ps = start_ps + event.offset_ps
        step, phase = self._place(found, begin_ps, groups)
        launch = NO_LAUNCH
        if kind is Kind.KERNEL:
          launch = details.launch(found.launch, found.occupancy_pct)
        name = plane.event_names.get(event.metadata_id, '')
        yield Activity(
          kind, plane.name, name, op_name, told.op_type, found.hlo_op or told.hlo_op, launch,
          phase, '', step, begin_ps, begin_ps + event.duration_ps, event.duration_ps,
        )  # fmt: skip

  def _annotated(self, annotation: str, op_name: str) -> details.Annotation:
    """The annotation's operator, or the one that the event itself names."""
    told = details.annotation(annotation)
    if op_name:
      own = details.annotation(op_name)
      return own._replace(hlo_op=told.hlo_op, hlo_module=told.hlo_module)
    return told

  def _on_host(self, plane: Plane) -> Iterator[Activity]:
    roles = plane.stat_ids(*_HOST_STATS)
    runs = self._runs
    names = plane.event_names
    tf_ops = {key: match for key, name in names.items() if (match := _TF_HOST_OP.fullmatch(name))}
    functions = _functions_of_python(plane)
    for _, start_ps, events in plane.lines():
      wanted: list[tuple[int, int, int, dict[str, str]]] = []  # begin, end, name's number, told
      for event in events:
        key = event.metadata_id
        if key in functions:
          continue
        told = {roles[s.metadata_id]: plane.text(s) for s in event.stats if s.metadata_id in roles}
        if 'hlo_op' in told or key in tf_ops:
          begin_ps = start_ps + event.offset_ps
          wanted.append((begin_ps, begin_ps + event.duration_ps, key, told))
      wanted.sort(key=lambda op: (op[0], -op[1]))
      own = own_durations([op[:2] for op in wanted])
      for (begin_ps, end_ps, key, told), duration_ps in zip(wanted, own, strict=True):
        launched = runs.get(told.get('run_id', ''), begin_ps)
        step, phase = self._at(launched)
        if match := tf_ops.get(key):
          name, op_name, op_type, hlo_op = match[2], match[1], match[2], ''
        else:
          name = hlo_op = told['hlo_op']
          module, program = told.get('hlo_module', ''), told.get('program_id', '')
          op_name, op_type = told.get('tf_op') or self._op_names.of(module, program, name), ''
        yield Activity(
          Kind.HOST, plane.name, name, op_name, op_type, hlo_op, NO_LAUNCH, phase, '', step,
          begin_ps, end_ps, duration_ps,
        )  # fmt: skip

  @functools.cached_property
  def _op_names(self) -> OpNames:
    """The compiled programs that lie in the file."""
    names = OpNames()
    for plane in self._metadata:
      roles = {key for key, name in plane.stat_names.items() if name.lower() in _HLO_PROTO}
      for key, stats in plane.event_stats.items():
        for stat in stats:
          if stat.metadata_id in roles and stat.bytes_value:
            names.add(plane.event_names[key], stat.bytes_value)
    return names

  @functools.cached_property
  def _marks(self) -> _Marks:
    """What the host marked and launched; nothing where it marked no step."""
    marks = _Marks([], [], {}, [], set())
    if any(plane.mentions(b'step_num') for plane in self._hosts):
      for plane in self._hosts:
        if any(plane.mentions(word) for word in (b'step_num', b'correlation_id', b'run_id')):
          _note_marks(plane, marks)
      marks.steps.sort(key=attrgetter('begin_ps'))
      marks.evaluations.sort()
    return marks

  def _groups(self, plane: Plane) -> dict[int, int]:
    """Steps by the number of the group of events, where the writer has grouped them."""
    roles = plane.stat_ids('group_id')
    groups: dict[int, int] = {}
    for line, _, events in plane.lines():
      if line != 'Steps':
        continue
      for event in events:
        for stat in event.stats:
          if stat.metadata_id in roles:
            name = plane.event_names.get(event.metadata_id, '')
            groups[number(stat)] = int(name) if name.isdigit() else number(stat)
    return groups

  def _place(self, found: _Found, begin_ps: int, groups: dict[int, int]) -> tuple[int | None, str]:
    """(step, phase) of an event of a device."""
    marks = self._marks
    if found.group in groups and not marks.steps:
      return groups[found.group], ''
    return self._at(marks.launched.get(found.correlation, begin_ps))

  def _at(self, time_ps: int) -> tuple[int | None, str]:
    """(step, phase) of what was launched then: by the last mark that had begun."""
    steps, evaluations = self._marks.steps, self._marks.evaluations
    place = bisect.bisect_right(evaluations, (time_ps, 1 << 63)) - 1
    if place >= 0 and time_ps < evaluations[place][1]:
      return None, _EVALUATION
    place = bisect.bisect_right(steps, time_ps, key=attrgetter('begin_ps')) - 1
    return (steps[place].step if place >= 0 else None), ''

  @functools.cached_property
  def _runs(self) -> dict[str, int]:
    """When each run of a program was launched, by its `run_id`; runs begin in that order.

    Programs wait for each other on a CPU, so a run may begin long after the step that launched it.
    Empty where launches and runs cannot be paired.
    """
    launches, runs = self._marks.launches_of_xla, self._marks.runs
    if len(launches) != len(runs):
      return {}
    return dict(zip(sorted(runs, key=int), sorted(launches), strict=True))


def _note_marks(plane: Plane, marks: _Marks) -> None:
  """Adds what a plane of a host tells of steps and launches."""
  roles = plane.stat_ids('step_num', 'correlation_id', 'run_id')
  names = plane.event_names
  functions = _functions_of_python(plane)
  evaluation = {key for key, name in names.items() if name == _EVALUATION}
  launches = {key for key, name in names.items() if _LAUNCHES_OF_XLA.match(name)}
  for _, start_ps, events in plane.lines():
    for event in events:
      key = event.metadata_id
      if key in functions:
        continue
      begin_ps = start_ps + event.offset_ps
      if key in evaluation:
        marks.evaluations.append((begin_ps, begin_ps + event.duration_ps))
      elif key in launches:
        marks.launches_of_xla.append(begin_ps)
      for stat in event.stats:
        role = roles.get(stat.metadata_id)
        if role == 'step_num':
          marks.steps.append(Step(number(stat), begin_ps, begin_ps + event.duration_ps))
        elif role == 'correlation_id':
          marks.launched[number(stat)] = begin_ps
        elif role == 'run_id':
          marks.runs.add(plane.text(stat))


def _functions_of_python(plane: Plane) -> set[int]:
  """Events of the tracer of Python ('$file.py:7 f'): most of a trace, and nothing that we read."""
  return {key for key, name in plane.event_names.items() if name.startswith('$')}


def _find(plane: Plane, roles: dict[int, str], stats: Any, found: _Found | None = None) -> _Found:
  """What the statistics tell, beside what all events of that name share."""
  told: dict[str, Any] = {}
  for stat in stats:
    role = roles.get(stat.metadata_id)
    if role is None:
      continue
    if role == 'group_id':
      told['group'] = number(stat)
    elif role == 'correlation_id':
      told['correlation'] = number(stat)
    elif role == 'theoretical_occupancy_pct':
      told['occupancy_pct'] = stat.double_value or float(number(stat))
    elif role in _MEMORY:
      told['is_memory'] = True
    else:
      told[_FIELDS.get(role, role)] = plane.text(stat)
  return (found or _NOTHING)._replace(**told) if told else found or _NOTHING


_FIELDS = {'kernel_details': 'launch', 'tf_op': 'op_name', 'name': 'op_name'}
_NOTHING = _Found()
