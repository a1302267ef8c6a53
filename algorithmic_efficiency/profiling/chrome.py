"""This file reads the chrome traces of torch.profiler, plain or gzipped, of 2020 and of today.

A kernel belongs to the operator with its `External id`, else to the one around the launch with its
`correlation`. What is around that operator tells the rest: `autograd::engine` the backward pass,
`Optimizer.step` the update, `nn.Module: NAME` the layer, `ProfilerStep#N` the step; the
`Sequence number` ties an operator of the backward pass to the layer that it differentiates.
"""

import bisect
import contextlib
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from algorithmic_efficiency.profiling import operators
from algorithmic_efficiency.profiling.activities import (
  NO_LAUNCH,
  Activity,
  Kind,
  Launch,
  NotATrace,
  Step,
)
from algorithmic_efficiency.profiling.json_stream import Events
from algorithmic_efficiency.profiling.nesting import own_durations, parents

_DEVICE_KINDS = {'kernel': Kind.KERNEL, 'gpu_memcpy': Kind.MEMORY, 'gpu_memset': Kind.MEMORY,
                 'memcpy': Kind.MEMORY, 'memset': Kind.MEMORY}  # fmt: skip
_HOST = {'cpu_op', 'operator', 'user_annotation', 'cpu_instant_event'}
_RUNTIME = {'cuda_runtime', 'cuda_driver', 'runtime', 'driver', 'privateuse1_runtime'}

# Times are microseconds since the machine's start or 1970; a double holds those to a nanosecond.
_SLACK_US = 0.002

_STEP = re.compile(r'ProfilerStep\s*#(\d+)')
_MODULE = re.compile(r'nn\.Module: (.+)')
_AUTOGRAD = 'autograd::engine::evaluate_function'
_UPDATE = re.compile(r'Optimizer\.(?:step|zero_grad)#')
# The first writers gave annotations the category of operators.
_MARK = re.compile(rf'{_STEP.pattern}|{_MODULE.pattern}|{_UPDATE.pattern}|evaluation$')


class _Scope(NamedTuple):
  """What an event on the host lies in."""

  phase: str = ''
  layer: str = ''
  sequence: int = -1


class _DeviceEvent(NamedTuple):
  kind: Kind
  device: str
  name: str
  launch: Launch
  begin: float
  duration: float
  external: int
  correlation: int


class ChromeReader:
  """A JSON trace, open. Raises TraceError where it is none or broken.

  What the host did is kept in arrays, 40 bytes an event, since it may come after what it launched.
  """

  def __init__(self, path: Path) -> None:
    self._names: dict[str, int] = {}
    self._operators: set[int] = set()  # of the names
    self._begins, self._durations = array('d'), array('d')
    self._name_of, self._thread_of = array('l'), array('l')
    self._sequence_of = array('q')
    self._by_external: dict[int, int] = {}
    self._launched: dict[int, tuple[int, float]] = {}
    self._threads: dict[tuple[Any, Any], int] = {}
    self._device_events: list[_DeviceEvent] = []
    with contextlib.closing(Events(path)) as events:
      if 'highres-ticks' in events.head.get('metadata', {}):
        raise NotATrace("it is the trace viewer's copy, which tells no launches; give *.xplane.pb")
      for event in events:
        if event.get('ph') == 'X':
          self._take(event)
    self._label = [name for name, _ in sorted(self._names.items(), key=lambda pair: pair[1])]
    self._arrange()
    kinds = {event.kind for event in self._device_events}
    if self._operators:
      kinds.add(Kind.HOST)
    self._kinds = frozenset(kinds)

  def has(self, kind: Kind) -> bool:
    """Whether there are activities of this kind."""
    return kind in self._kinds

  def steps(self) -> list[Step]:
    """The steps that torch.profiler or the user marked."""
    return self._steps

  def activities(self, kinds: frozenset[Kind]) -> Iterator[Activity]:
    """All activities of these kinds."""
    for event in self._device_events:
      if event.kind in kinds:
        yield self._on_device(event)
    if Kind.HOST in kinds:
      yield from self._on_host()

  def _take(self, event: dict[str, Any]) -> None:
    category = str(event.get('cat', '')).lower()
    arguments: dict[str, Any] = event.get('args') or {}
    if category in _DEVICE_KINDS:
      self._device_events.append(_device_event(_DEVICE_KINDS[category], event, arguments))
    elif category in _HOST:
      external = arguments.get('External id', arguments.get('external id'))
      if external is not None and category != 'user_annotation':
        self._by_external[int(external)] = len(self._begins)
      self._begins.append(float(event['ts']))
      self._durations.append(float(event.get('dur', 0.0)))
      name = str(event.get('name', ''))
      number = self._names.setdefault(name, len(self._names))
      self._name_of.append(number)
      if category != 'user_annotation' and not _MARK.match(name):
        self._operators.add(number)
      self._thread_of.append(self._thread(event))
      self._sequence_of.append(int(arguments.get('Sequence number', -1)))
    elif category in _RUNTIME and 'correlation' in arguments:
      self._launched[int(arguments['correlation'])] = (self._thread(event), float(event['ts']))

  def _thread(self, event: dict[str, Any]) -> int:
    return self._threads.setdefault((event.get('pid'), event.get('tid')), len(self._threads))

  def _arrange(self) -> None:
    """Sorts what the host did by thread and time, and finds what each event lies in."""
    begins, durations = np.array(self._begins), np.array(self._durations)
    threads = np.array(self._thread_of, dtype=np.int64)
    self._order = np.lexsort((-durations, begins, threads))
    self._place = np.empty(len(begins), dtype=np.int64)
    self._place[self._order] = np.arange(len(begins))
    self._first = np.searchsorted(threads[self._order], np.arange(len(self._threads) + 1))
    self._parents = np.full(len(begins), -1, dtype=np.int64)
    for first, behind in zip(self._first[:-1], self._first[1:], strict=True):
      own = self._order[first:behind]
      spans = list(zip(begins[own], begins[own] + durations[own], strict=True))
      found = np.array(parents(spans, _SLACK_US), dtype=np.int64)
      self._parents[own[found >= 0]] = own[found[found >= 0]]
    self._begin_array, self._end_array = begins, begins + durations
    self._steps = self._find_steps()
    self._step_begins = [step.begin_ps / 1e6 for step in self._steps]
    self._scopes: list[_Scope | None] = [None] * len(begins)
    self._layers_forward = self._find_layers()

  def _find_steps(self) -> list[Step]:
    numbers = {i: int(m[1]) for name, i in self._names.items() if (m := _STEP.match(name))}
    steps = [
      Step(numbers[name], round(self._begins[i] * 1e6), round(self._end_array[i] * 1e6))
      for i, name in enumerate(self._name_of)
      if name in numbers
    ]
    return sorted(steps, key=lambda step: step.begin_ps)

  def _find_layers(self) -> dict[int, str]:
    """Layers by the sequence numbers of their operators in the forward pass."""
    layers: dict[int, str] = {}
    for index, sequence in enumerate(self._sequence_of):
      if sequence >= 0 and sequence not in layers:
        scope = self._scope(index)
        if scope.layer and scope.phase != operators.BACKWARD:
          layers[sequence] = scope.layer
    return layers

  def _scope(self, index: int) -> _Scope:
    """What the event and all around it tell; each event is looked at once."""
    chain: list[int] = []
    at = index
    while at >= 0 and self._scopes[at] is None:
      chain.append(at)
      at = int(self._parents[at])
    scope = self._scopes[at] if at >= 0 else None
    for at in reversed(chain):
      scope = self._scopes[at] = self._within(scope or _Scope(), at)
    return scope or _Scope()

  def _within(self, outer: _Scope, index: int) -> _Scope:
    name, sequence = self._label[self._name_of[index]], self._sequence_of[index]
    if match := _MODULE.match(name):
      return _Scope(outer.phase or operators.FORWARD, match[1], outer.sequence)
    if name.startswith(_AUTOGRAD):
      return _Scope(operators.BACKWARD, '', sequence)
    if _UPDATE.match(name):
      return _Scope(operators.UPDATE, '', -1)
    if name == operators.EVALUATION:
      return _Scope(operators.EVALUATION, '', -1)
    if outer.sequence < 0 and sequence >= 0:
      outer = outer._replace(sequence=sequence)
    if sequence >= 0 and not outer.phase:  # what will be differentiated
      return outer._replace(phase=operators.FORWARD)
    return outer

  def _step_at(self, begin: float) -> int | None:
    place = bisect.bisect_right(self._step_begins, begin + _SLACK_US) - 1
    return self._steps[place].step if place >= 0 else None

  def _around(self, thread: int, begin: float) -> int:
    """The innermost event on the host around this time, or -1."""
    first, behind = self._first[thread], self._first[thread + 1]
    own = self._order[first:behind]
    place = int(np.searchsorted(self._begin_array[own], begin, side='right')) - 1
    at = int(own[place]) if place >= 0 else -1
    while at >= 0 and self._end_array[at] < begin:
      at = int(self._parents[at])
    return at

  def _on_device(self, event: _DeviceEvent) -> Activity:
    thread, launched = self._launched.get(event.correlation, (-1, event.begin))
    index = self._by_external.get(event.external, -1)
    if index < 0 and thread >= 0:
      index = self._around(thread, launched)
    while index >= 0 and self._name_of[index] not in self._operators:
      index = int(self._parents[index])
    return self._activity(event, index, launched)

  def _activity(
    self, event: _DeviceEvent, index: int, launched: float, own_ps: int | None = None
  ) -> Activity:
    scope = self._scope(index) if index >= 0 else _Scope()
    begin = self._begins[index] if index >= 0 else launched
    step = self._step_at(begin) if scope.phase != operators.EVALUATION else None
    return Activity(
      event.kind,
      event.device,
      event.name,
      self._label[self._name_of[index]] if index >= 0 else '',
      '',
      '',
      event.launch,
      scope.phase,
      scope.layer or self._layers_forward.get(scope.sequence, ''),
      step,
      round(event.begin * 1e6),
      round(event.begin * 1e6) + round(event.duration * 1e6),
      round(event.duration * 1e6) if own_ps is None else own_ps,
    )

  def _on_host(self) -> Iterator[Activity]:
    """Operators on the host, each with the time that is its own."""
    for first, behind in zip(self._first[:-1], self._first[1:], strict=True):
      own = [int(i) for i in self._order[first:behind] if self._name_of[i] in self._operators]
      begins = [round(self._begins[i] * 1e6) for i in own]
      ends = [begin + round(self._durations[i] * 1e6) for i, begin in zip(own, begins, strict=True)]
      spans = list(zip(begins, ends, strict=True))
      durations = own_durations(spans, round(_SLACK_US * 1e6))
      for index, duration in zip(own, durations, strict=True):
        name = self._label[self._name_of[index]]
        begin, whole = self._begins[index], self._durations[index]
        event = _DeviceEvent(Kind.HOST, 'cpu', name, NO_LAUNCH, begin, whole, -1, -1)
        yield self._activity(event, index, begin, duration)


def _device_event(kind: Kind, event: dict[str, Any], arguments: dict[str, Any]) -> _DeviceEvent:
  device = arguments.get('device', event.get('pid', ''))
  external = arguments.get('External id', arguments.get('external id', -1))
  return _DeviceEvent(
    kind,
    f'gpu:{device}',
    str(event.get('name', '')),
    _launch(arguments) if kind is Kind.KERNEL else NO_LAUNCH,
    float(event['ts']),
    float(event.get('dur', 0.0)),
    int(external),
    int(arguments.get('correlation', -1)),
  )


def _launch(arguments: dict[str, Any]) -> Launch:
  occupancy = arguments.get('est. achieved occupancy %')
  return Launch(
    registers_per_thread=int(arguments.get('registers per thread', 0)),
    shmem_bytes=int(arguments.get('shared memory', 0)),
    block_dim=','.join(map(str, arguments.get('block') or (1, 1, 1))),
    grid_dim=','.join(map(str, arguments.get('grid') or (1, 1, 1))),
    occupancy_pct=None if occupancy is None else float(occupancy),
  )
