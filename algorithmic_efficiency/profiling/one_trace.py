"""This file makes one trace into rows: which of its files is read, how, and what came of it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from algorithmic_efficiency.profiling import kernel_stats, kernels
from algorithmic_efficiency.profiling.activities import Kind, Reader, TraceError
from algorithmic_efficiency.profiling.chrome import ChromeReader
from algorithmic_efficiency.profiling.finding import Source
from algorithmic_efficiency.profiling.xplane import XPlaneReader

SOURCES = ('auto', 'kernel_stats', 'xplane', 'xprof')
_CAPPED_ROWS = 1000  # a kernel_stats.pb of so many rows has left out the rest
_JUST_NOW_SEC = 60.0
_NO_KERNELS = 'no kernels'


@dataclass(frozen=True)
class Options:
  """What is asked of every trace.

  Attributes:
    kinds: of activities.
    by_step: whether rows are told apart by step.
    source: of SOURCES; auto takes kernel_stats.pb where it is, and is whole, else xplane.pb.
  """

  kinds: frozenset[Kind] = frozenset({Kind.KERNEL})
  by_step: bool = False
  source: str = 'auto'


@dataclass
class Result:
  """What came of a trace.

  Attributes:
    status: 'ok', 'no kernels', 'empty', 'corrupt', 'not a trace', 'unreadable' or 'crashed'.
    reason: why it is not ok, for people.
    read: the file that the rows come from.
    rows, steps: of the tables.
  """

  status: str = 'ok'
  reason: str = ''
  read: str = ''
  rows: list[kernels.Row] = field(default_factory=list[kernels.Row])
  steps: list[kernels.Row] = field(default_factory=list[kernels.Row])


def read(source: Source, options: Options) -> Result:
  """The rows of a trace, or why there are none; raises for nothing that a file may hold."""
  try:
    return _read(source, options)
  except TraceError as error:
    return Result(error.status, f'{error}{_told_if_fresh(source)}')
  except OSError as error:
    return Result('unreadable', f'{error.strerror or error}')
  except MemoryError:
    return Result('unreadable', 'it does not fit into memory')
  except (ArithmeticError, LookupError, TypeError, ValueError) as error:
    # A file may be well-formed and still make no sense: a text where a number belongs.
    return Result('corrupt', f'its content makes no sense ({type(error).__name__}: {error})')


def _read(source: Source, options: Options) -> Result:
  note = ''
  if source.kernel_stats is not None and _takes_kernel_stats(source, options):
    try:
      result = _of_kernel_stats(source.kernel_stats, source.xplane)
    except TraceError as error:
      if source.xplane is None or options.source != 'auto':
        raise
      result, note = None, f'{source.kernel_stats.name}: {error}'
    if result is not None:
      return result
  path = source.chrome or source.xplane
  if path is None or options.source == 'kernel_stats':
    return Result('unreadable', f'there is no file that --source={options.source} reads')
  if options.source == 'xprof':
    from algorithmic_efficiency.profiling import xprof_engine

    return Result(read=path.name, rows=kernels.ranked(xprof_engine.rows(path)))
  result = _of_reader(_open(path), path, options)
  result.reason = result.reason or note
  return result


def _of_kernel_stats(path: Path, xplane: Path | None) -> Result | None:
  """Its rows; None where the xplane beside it has more."""
  reports = kernel_stats.read(path)
  if xplane is not None and not 0 < len(reports) < _CAPPED_ROWS:
    return None
  if not reports:
    return Result(_NO_KERNELS, 'there are no kernels in it', path.name)
  launches = _launches(xplane) if xplane is not None else {}
  return Result(read=path.name, rows=kernels.of_reports(reports, launches))


def _open(path: Path) -> Reader:
  is_json = '.json' in path.name
  return ChromeReader(path) if is_json else XPlaneReader(path)


def _of_reader(reader: Reader, path: Path, options: Options) -> Result:
  if not any(reader.has(kind) for kind in options.kinds):
    return Result(_NO_KERNELS, _offer(reader, options.kinds), path.name)
  coverage = kernels.Coverage()
  activities = coverage.watch(reader.activities(options.kinds))
  rows = kernels.statistics(activities, options.by_step)
  if not rows:
    return Result(_NO_KERNELS, _offer(reader, options.kinds), path.name)
  return Result(read=path.name, rows=rows, steps=[*coverage.rows(reader.steps())][::-1])


def _takes_kernel_stats(source: Source, options: Options) -> bool:
  if options.source == 'kernel_stats':
    return True
  # It knows kernels alone, and no steps.
  return options.source == 'auto' and not options.by_step and options.kinds == {Kind.KERNEL}


def _launches(path: Path) -> Mapping[tuple[str, str], Any]:
  """How kernels were launched, by (kernel, operator), where they were always launched alike.

  An xplane that cannot be read costs the launches, not the rows.
  """
  found: dict[tuple[str, str], set[Any]] = {}
  try:
    for activity in XPlaneReader(path).activities(frozenset({Kind.KERNEL})):
      found.setdefault((activity.name, activity.op_name), set()).add(activity.launch)
  except TraceError:
    return {}
  return {key: launches.pop() for key, launches in found.items() if len(launches) == 1}


def _offer(reader: Reader, asked: frozenset[Kind]) -> str:
  words = {Kind.KERNEL: 'kernels', Kind.MEMORY: 'copies of memory', Kind.HOST: 'host operators'}
  missing = ' and '.join(words[kind] for kind in Kind if kind in asked)
  offered = [kind for kind in Kind if kind not in asked and reader.has(kind)]
  if not offered:
    return f'there are no {missing} in it'
  named = ' and '.join(words[kind] for kind in offered)
  flag = ','.join(offered)
  return f'there are no {missing} in it, but {named}: export them with --kinds={flag}'


def _told_if_fresh(source: Source) -> str:
  ages = [time.time() - path.stat().st_mtime for path in source.files if path.exists()]
  if ages and min(ages) < _JUST_NOW_SEC:
    return f'; it was changed {max(0.0, min(ages)):.0f} s ago and may still be being written'
  return ''
