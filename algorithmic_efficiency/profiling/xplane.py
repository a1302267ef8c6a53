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
from algorithmic_efficiency.profiling.planes import Event, Plane, number, open_space

# What writers derive from the events of streams, in lines of their own.
_DERIVED = {'Steps', 'TensorFlow Ops', 'TensorFlow Name Scope', 'XLA Modules', 'XLA Ops',
            'XLA TraceMe', 'Framework Ops', 'Framework Name Scope', 'Source code',
            'Source Code', 'Launch Stats', 'Async XLA Ops'}  # fmt: skip
_STATS = ('kernel_details', 'memcpy_details', 'memset_details', 'annotation', 'tf_op', 'name',
          'hlo_op', 'hlo_module', 'program_id', 'group_id', 'correlation_id',
          'theoretical_occupancy_pct')  # fmt: skip
_HOST_STATS = ('hlo_op', 'hlo_module', 'program_id', 'run_id', 'tf_op')

# TensorFlow's operators on a host are events named 'name:Type'.
_TF_HOST_OP = re.compile(r'([\w./>-]+):([A-Z]\w*)')
_LAUNCHES_OF_XLA = re.compile(r'\w*LoadedExecutable::ExecuteHelper|\w*Executable::ExecuteHelper')
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


class XPlaneReader:
  """A file of planes, open. Raises TraceError where it is none or broken."""

  def __init__(self, path: Path) -> None:
    planes = open_space(path)
    self._devices = [p for p in planes if p.name.startswith('/device:')]
    self._hosts = [p for p in planes if p.name.startswith('/host:')]
    self._metadata = [p for p in planes if p.name == '/host:metadata']
    for plane in self._devices:
      plane.check()
    self._marked, self._evaluations = self._find_marks()
    kinds: set[Kind] = set()
    if any(p.mentions(b'kernel_details') for p in self._devices):
      kinds.add(Kind.KERNEL)
    if any(p.mentions(b'memcpy_details') for p in self._devices):
      kinds.add(Kind.MEMORY)
    if any(p.mentions(b'hlo_op') or p.mentions(b'ExecutorState::Process') for p in self._hosts):
      kinds.add(Kind.HOST)
    self.kinds = frozenset(kinds)

  def steps(self) -> list[Step]:
    """The steps that the host marked."""
    return self._marked

  def activities(self, kinds: frozenset[Kind]) -> Iterator[Activity]:
    """All activities of these kinds. Raises TraceError where the file is broken."""
    if kinds & {Kind.KERNEL, Kind.MEMORY}:
      for plane in self._devices:
        yield from self._on_device(plane, kinds)
    if Kind.HOST in kinds:
      for plane in self._hosts:
        if plane.mentions(b'hlo_op') or plane.mentions(b'ExecutorState::Process'):
          yield from self._on_host(plane)

  def _on_device(self, plane: Plane, kinds: frozenset[Kind]) -> Iterator[Activity]:
    roles = plane.stat_ids(*_STATS)
    shared = {key: _find(plane, roles, stats) for key, stats in plane.event_stats.items()}
    groups = self._groups(plane)
    for line, events in plane.lines():
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
        step, phase = self._place(found, event, groups)
        launch = NO_LAUNCH
        if kind is Kind.KERNEL:
          launch = details.launch(found.launch, found.occupancy_pct)
        name = plane.event_names.get(event.metadata_id, '')
        yield Activity(
          kind, plane.name, name, op_name, told.op_type, found.hlo_op or told.hlo_op, launch,
          phase, '', step, event.begin_ps, event.begin_ps + event.duration_ps, event.duration_ps,
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
    runs = self._runs(plane)
    names = plane.event_names
    tf_ops = {key: match for key, name in names.items() if (match := _TF_HOST_OP.fullmatch(name))}
    for _, events in plane.lines():
      wanted: list[tuple[Event, dict[str, str]]] = []
      for event in events:
        if event.metadata_id in tf_ops:
          wanted.append((event, {}))
          continue
        told = {roles[s.metadata_id]: plane.text(s) for s in event.stats if s.metadata_id in roles}
        if 'hlo_op' in told:
          wanted.append((event, told))
      wanted.sort(key=lambda pair: (pair[0].begin_ps, -pair[0].duration_ps))
      own = own_durations([(e.begin_ps, e.begin_ps + e.duration_ps) for e, _ in wanted])
      for (event, told), duration_ps in zip(wanted, own, strict=True):
        launched = runs.get(told.get('run_id', ''), event.begin_ps)
        step, phase = self._at(launched)
        if match := tf_ops.get(event.metadata_id):
          name, op_name, op_type, hlo_op = match[2], match[1], match[2], ''
        else:
          name = hlo_op = told['hlo_op']
          module, program = told.get('hlo_module', ''), told.get('program_id', '')
          op_name, op_type = told.get('tf_op') or self._op_names.of(module, program, name), ''
        yield Activity(
          Kind.HOST, plane.name, name, op_name, op_type, hlo_op, NO_LAUNCH, phase, '', step,
          event.begin_ps, event.begin_ps + event.duration_ps, duration_ps,
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

  def _find_marks(self) -> tuple[list[Step], list[tuple[int, int]]]:
    """Steps and evaluations that the host marked, each in order."""
    steps: list[Step] = []
    evaluations: list[tuple[int, int]] = []
    for plane in self._hosts:
      if not plane.mentions(b'step_num'):
        continue
      roles = plane.stat_ids('step_num')
      evaluation = {key for key, name in plane.event_names.items() if name == _EVALUATION}
      for _, events in plane.lines():
        for event in events:
          end = event.begin_ps + event.duration_ps
          if event.metadata_id in evaluation:
            evaluations.append((event.begin_ps, end))
          for stat in event.stats:
            if stat.metadata_id in roles:
              steps.append(Step(number(stat), event.begin_ps, end))
    return sorted(steps, key=attrgetter('begin_ps')), sorted(evaluations)

  def _groups(self, plane: Plane) -> dict[int, int]:
    """Steps by the number of the group of events, where the writer has grouped them."""
    roles = plane.stat_ids('group_id')
    groups: dict[int, int] = {}
    for line, events in plane.lines():
      if line != 'Steps':
        continue
      for event in events:
        for stat in event.stats:
          if stat.metadata_id in roles:
            name = plane.event_names.get(event.metadata_id, '')
            groups[number(stat)] = int(name) if name.isdigit() else number(stat)
    return groups

  def _place(self, found: _Found, event: Event, groups: dict[int, int]) -> tuple[int | None, str]:
    """(step, phase) of an event of a device."""
    if found.group in groups and not self._marked:
      return groups[found.group], ''
    if not self._marked and not self._evaluations:
      return None, ''
    return self._at(self._launched.get(found.correlation, event.begin_ps))

  def _at(self, time_ps: int) -> tuple[int | None, str]:
    """(step, phase) of what was launched then: by the last mark that had begun."""
    place = bisect.bisect_right(self._evaluations, (time_ps, 1 << 63)) - 1
    if place >= 0 and time_ps < self._evaluations[place][1]:
      return None, _EVALUATION
    place = bisect.bisect_right(self._marked, time_ps, key=attrgetter('begin_ps')) - 1
    return (self._marked[place].step if place >= 0 else None), ''

  @functools.cached_property
  def _launched(self) -> dict[int, int]:
    """When the host launched what has this correlation number."""
    launched: dict[int, int] = {}
    for plane in self._hosts:
      if not plane.mentions(b'correlation_id'):
        continue
      roles = plane.stat_ids('correlation_id')
      for _, events in plane.lines():
        for event in events:
          for stat in event.stats:
            if stat.metadata_id in roles:
              launched[number(stat)] = event.begin_ps
    return launched

  def _runs(self, plane: Plane) -> dict[str, int]:
    """When each run of a program was launched, by its `run_id`; runs begin in that order.

    Programs wait for each other on a CPU, so a run may begin long after the step that launched it.
    Empty where launches and runs cannot be paired.
    """
    roles = plane.stat_ids('run_id')
    if not self._marked or not roles:
      return {}
    launches = {k for k, name in plane.event_names.items() if _LAUNCHES_OF_XLA.match(name)}
    launched: list[int] = []
    runs: set[str] = set()
    for _, events in plane.lines():
      for event in events:
        if event.metadata_id in launches:
          launched.append(event.begin_ps)
        runs.update(plane.text(stat) for stat in event.stats if stat.metadata_id in roles)
    if len(runs) != len(launched):
      return {}
    return dict(zip(sorted(runs, key=int), sorted(launched), strict=True))


_HLO_PROTO = ('hlo_proto', 'hlo proto')


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
    elif role in ('memcpy_details', 'memset_details'):
      told['is_memory'] = True
    else:
      told[_FIELDS.get(role, role)] = plane.text(stat)
  return (found or _NOTHING)._replace(**told) if told else found or _NOTHING


_FIELDS = {'kernel_details': 'launch', 'tf_op': 'op_name', 'name': 'op_name'}
_NOTHING = _Found()
