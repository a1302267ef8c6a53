"""This file makes statistics of activities: a row for each kernel and operator."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from algorithmic_efficiency.profiling import operators
from algorithmic_efficiency.profiling.activities import Activity, Kind, Step
from algorithmic_efficiency.profiling.kernel_stats import Report

Row = dict[str, Any]

OTHER = 'other'
_PS_PER_US = 1e6
_NS_PER_US = 1e3
_BEFORE_TIMES = Activity._fields.index('begin_ps')


class _Total:
  """Durations of one kernel and operator; picoseconds."""

  __slots__ = ('longest', 'occurrences', 'shortest', 'total')

  def __init__(self, duration: int) -> None:
    self.occurrences, self.total, self.shortest, self.longest = 1, duration, duration, duration

  def add(self, duration: int) -> None:
    """One more occurrence."""
    self.occurrences += 1
    self.total += duration
    self.shortest = min(self.shortest, duration)
    self.longest = max(self.longest, duration)


def statistics(activities: Iterable[Activity], by_step: bool) -> list[Row]:
  """A row for each (device, step, phase, layer, kernel, operator, launch), ranked.

  Args:
    activities: of one trace; those that lasted no time count as well.
    by_step: whether steps are told apart.
  """
  totals: dict[tuple[Any, ...], _Total] = {}
  for activity in activities:
    key = activity[:_BEFORE_TIMES]  # which ends with the step
    if not by_step:
      key = (*key[:-1], None)
    total = totals.get(key)
    if total is None:
      totals[key] = _Total(activity.duration_ps)
    else:
      total.add(activity.duration_ps)
  return ranked(_row(key, total) for key, total in totals.items())


def of_reports(reports: Sequence[Report], launches: Mapping[tuple[str, str], Any]) -> list[Row]:
  """Rows of a kernel_stats.pb; launches that it does not tell, by (kernel, operator)."""
  return ranked(_row_of_report(report, launches) for report in reports)


def ranked(rows: Iterable[Row]) -> list[Row]:
  """The rows by rank within each device and step, and the share that is nobody's."""
  ordered = sorted(rows, key=_order)
  groups: dict[tuple[Any, ...], list[Row]] = {}
  for row in ordered:
    groups.setdefault((row['device'], row['step'], row['kind'] == Kind.HOST), []).append(row)
  for group in groups.values():
    total = sum(row['total_duration_us'] for row in group)
    nobodys = sum(row['total_duration_us'] for row in group if not row['op_name'])
    share = 100 * nobodys / total if total else 0.0
    for rank, row in enumerate(group, 1):
      row['rank'] = rank
      row['not_attributed_pct'] = round(share, 4)
  return ordered


class Coverage:
  """How much of each step something ran; 16 bytes an activity."""

  def __init__(self) -> None:
    self._spans: dict[tuple[str, int], array[int]] = {}

  def watch(self, activities: Iterable[Activity]) -> Iterator[Activity]:
    """The activities as they come, each noted."""
    for activity in activities:
      if activity.step is not None:
        spans = self._spans.setdefault((activity.device, activity.step), array('q'))
        spans.append(activity.begin_ps)
        spans.append(activity.end_ps)
      yield activity

  def rows(self, steps: Sequence[Step]) -> Iterator[Row]:
    """For each device and step: how long it lasted, and how much of it something ran.

    A device lags behind its host, so a step lasts there from its first activity to that of the
    next step; the last one to its last activity, or to its end on the host if that is later.
    """
    marks = {step.step: step for step in steps}
    following: dict[str, int] = {}
    for (device, step), flat in sorted(self._spans.items(), reverse=True):
      spans = np.array(flat, dtype=np.int64).reshape(-1, 2)
      begin, end = int(spans[:, 0].min()), int(spans[:, 1].max())
      mark = marks.get(step)
      if device in following:
        end = following[device]
      elif mark is not None and mark.begin_ps <= begin < mark.end_ps:  # the same clock
        end = max(end, mark.end_ps)
      following[device] = begin
      busy = union(np.minimum(spans, end))
      yield {
        'device': device,
        'step': step,
        'duration_us': (end - begin) / _PS_PER_US,
        'busy_us': busy / _PS_PER_US,
        'covered_pct': round(100 * busy / (end - begin), 3) if end > begin else None,
      }


def union(spans: np.ndarray) -> int:
  """How long at least one of the spans, int64[n, 2] of begins and ends, lasts."""
  ordered = spans[np.argsort(spans[:, 0], kind='stable')]
  ends = np.maximum.accumulate(ordered[:, 1])
  begins = np.maximum(ordered[1:, 0], ends[:-1])
  rest = np.maximum(ends[1:] - begins, 0).sum()
  return int(ordered[0, 1] - ordered[0, 0] + rest)


def _row(fields: tuple[Any, ...], total: _Total) -> Row:
  key = Activity._make((*fields, 0, 0, 0))
  op = key.op_name or key.hlo_op.partition('.')[0]
  is_kernel = key.kind is Kind.KERNEL
  uses = is_kernel and operators.uses_tensor_core(key.name)
  return {
    'device': key.device,
    'step': key.step,
    'phase': key.phase or operators.phase(key.op_name, key.op_type) or OTHER,
    'layer': key.layer or operators.layer(key.op_name),
    'kind': str(key.kind),
    'kernel_name': key.name,
    'op_name': key.op_name,
    'hlo_op': key.hlo_op,
    'is_op_tensor_core_eligible': uses or operators.is_tensor_core_eligible(op, key.op_type),
    'is_kernel_using_tensor_core': uses,
    **key.launch._asdict(),
    'occurrences': total.occurrences,
    'total_duration_us': total.total / _PS_PER_US,
    'avg_duration_us': total.total / total.occurrences / _PS_PER_US,
    'min_duration_us': total.shortest / _PS_PER_US,
    'max_duration_us': total.longest / _PS_PER_US,
  }


def _row_of_report(report: Report, launches: Mapping[tuple[str, str], Any]) -> Row:
  launch = report.launch
  if not launch.registers_per_thread:
    launch = launches.get((report.kernel_name, report.op_name), launch)
  return {
    'device': '',
    'step': None,
    'phase': operators.phase(report.op_name) or OTHER,
    'layer': operators.layer(report.op_name),
    'kind': str(Kind.KERNEL),
    'kernel_name': report.kernel_name,
    'op_name': report.op_name,
    'hlo_op': '',
    'is_op_tensor_core_eligible': report.eligible,
    'is_kernel_using_tensor_core': report.uses_tensor_core,
    **launch._asdict(),
    'occurrences': report.occurrences,
    'total_duration_us': report.total_ns / _NS_PER_US,
    'avg_duration_us': report.total_ns / report.occurrences / _NS_PER_US,
    'min_duration_us': report.min_ns / _NS_PER_US,
    'max_duration_us': report.max_ns / _NS_PER_US,
  }


def _order(row: Row) -> tuple[Any, ...]:
  step = -1 if row['step'] is None else row['step']
  names = (row['kernel_name'], row['op_name'], row['grid_dim'], row['block_dim'])
  return (row['device'], step, row['kind'] == Kind.HOST, -row['total_duration_us'], *names)
