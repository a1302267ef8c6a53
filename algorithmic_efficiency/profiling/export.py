"""This file exports many traces: in parallel, past broken ones, and on from where it was stopped.

`export.jsonl` gets a line a trace as soon as it is done, with its status and its rows; a kill at
any moment leaves it readable, and a trace whose files have not changed since is not read again.
The tables are made of it at the end.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.profiling import isolation, one_trace, parameters, tables
from algorithmic_efficiency.profiling.columns import NAMES, STEP_NAMES
from algorithmic_efficiency.profiling.finding import Source
from algorithmic_efficiency.profiling.one_trace import Options
from algorithmic_efficiency.records.appended_file import AppendedFile, end_last_line, to_line

LINES = 'export.jsonl'
MANIFEST = ('trace', 'host', 'status', 'reason', 'read', 'bytes', 'rows', 'total_us',
            'not_attributed_pct', 'seconds')  # fmt: skip

Line = dict[str, Any]
Exported = tuple[Line, str]  # for the manifest, for the file of lines

_KNOWN_BY_TRACE = 2  # columns that all tables begin with: trace and host

_NO_WORKERS_BYTES = 4 << 20  # read sooner than a process has started


class Job(NamedTuple):
  """A trace to be exported, with what its names and its record tell of it."""

  source: Source
  parameters: dict[str, Any]


@dataclass(frozen=True)
class Place:
  """Where a trace's line stands in the file of lines, and what the manifest says of it."""

  offset: int
  summary: Line


class Exporter:
  """Exports into a folder.

  Args:
    folder: where the tables go; made if it is not there.
    options: for every trace.
    pattern: of the user's, for parameters in names.
    jobs: processes.

  Making one raises MeasurementError where the folder cannot be written to.
  """

  def __init__(self, folder: Path, options: Options, pattern: Any, jobs: int) -> None:
    self._folder, self._options, self._jobs = folder, options, jobs
    self._pattern = pattern
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise MeasurementError(
        f'{str(folder)!r} cannot be made ({error.strerror}); choose another --output_dir.'
      ) from error
    self._lines = folder / LINES
    self._places: dict[str, Place] = {}

  def run(self, sources: Sequence[Source], tell: Callable[[int, Line], None]) -> list[Line]:
    """Exports those that have not been, and tells of each; returns the manifest in order.

    Raises MeasurementError where the disk refuses a line; those before are kept.
    """
    sources = _named_apart(sources)
    done = self._read_lines()
    waiting: list[Source] = []
    for source in sources:
      place = done.get(_identity(source, self._options, self._pattern))
      if place is None:
        waiting.append(source)
      else:
        self._places[_key(source)] = place
        tell(len(self._places), place.summary)
    file = AppendedFile(self._lines)
    try:
      offset = self._lines.stat().st_size
      for source, (summary, line) in self._finished(waiting):
        file.append(line)
        self._places[_key(source)] = Place(offset, summary)
        offset += len(line.encode())
        tell(len(self._places), summary)
    finally:
      file.close()
    return [self._places[_key(source)].summary for source in sources]

  def rows(self, sources: Sequence[Source]) -> Iterator[tuple[Line, list[Line]]]:
    """(summary, rows) of each trace in order, read from the file one by one."""
    return self._named_rows(sources, 'table', NAMES)

  def steps(self, sources: Sequence[Source]) -> Iterator[tuple[Line, list[Line]]]:
    """(summary, steps) of each trace in order, as `rows`."""
    return self._named_rows(sources, 'steps', STEP_NAMES)

  def write_tables(self, sources: Sequence[Source], parquet: bool) -> int:
    """kernels.csv (and .parquet), steps.csv and manifest.csv; returns the rows of the first."""
    places = [self._places[_key(source)] for source in _named_apart(sources)]
    known = list(dict.fromkeys(name for p in places for name in p.summary['parameters']))
    manifest = ([p.summary.get(n, p.summary['parameters'].get(n)) for n in _names(MANIFEST, known)]
                for p in places)  # fmt: skip
    tables.write_csv(self._folder / 'manifest.csv', _names(MANIFEST, known), manifest)
    steps = self._joined(sources, 'steps', known)
    tables.write_csv(self._folder / 'steps.csv', _names(STEP_NAMES, known), steps)
    names = _names(NAMES, known)
    count = tables.write_csv(
      self._folder / 'kernels.csv', names, self._joined(sources, 'table', known)
    )
    if parquet:
      rows = self._joined(sources, 'table', known)
      tables.write_parquet(self._folder / 'kernels.parquet', names, rows)
    return count

  def write_gviz(self, sources: Sequence[Source]) -> int:
    """A JSON a trace as TensorBoard's page exported it, in `gviz/`; returns how many."""
    folder = self._folder / 'gviz'
    folder.mkdir(exist_ok=True)
    taken: set[str] = set()
    for summary, rows in self.rows(sources):
      if summary['status'] == 'ok':
        tables.write_gviz(folder / f'{_file_name(summary, taken)}.json', rows)
    return len(taken)

  def _named_rows(
    self, sources: Sequence[Source], table: str, names: Sequence[str]
  ) -> Iterator[tuple[Line, list[Line]]]:
    for summary, content in self._content(sources):
      of_rows = names[_KNOWN_BY_TRACE:]
      yield summary, [dict(zip(of_rows, row, strict=True)) for row in content[table]]

  def _joined(
    self, sources: Sequence[Source], table: str, known: Sequence[str]
  ) -> Iterator[list[Any]]:
    """Rows as the table has them: what is known of the trace, then what is the row's."""
    for summary, content in self._content(sources):
      told = summary['parameters']
      of_trace = [summary['trace'], summary['host'], *(told.get(name) for name in known)]
      for row in content[table]:
        yield of_trace + row

  def _content(self, sources: Sequence[Source]) -> Iterator[tuple[Line, Line]]:
    """(summary, line) of each trace in order, read one by one."""
    with self._lines.open('rb') as file:
      for source in _named_apart(sources):
        place = self._places[_key(source)]
        file.seek(place.offset)
        yield place.summary, json.loads(file.readline())

  def _read_lines(self) -> dict[str, Place]:
    """What earlier exports have left, by the identity of the trace; the newest of each."""
    found: dict[str, Place] = {}
    if not self._lines.exists():
      return found
    with self._lines.open('rb') as file:
      offset = 0
      for raw in file:
        try:
          content = json.loads(raw)
          summary = {name: content[name] for name in (*MANIFEST, 'parameters')}
          found[content['identity']] = Place(offset, summary)
        except (ValueError, LookupError, TypeError):
          pass  # cut by a kill, or not ours: the trace is read again
        offset += len(raw)
    end_last_line(self._lines)
    return found

  def _finished(self, sources: Sequence[Source]) -> Iterator[tuple[Source, Exported]]:
    """The line of each trace as it is done, in any order."""
    if not sources:
      return
    total = sum(_size(path) for source in sources for path in source.files)
    if total < _NO_WORKERS_BYTES and self._options.source != 'xprof':
      for source in sources:
        yield source, export_one(source, self._options, self._pattern)
      return
    arguments = (self._options, self._pattern)
    for source, exported in isolation.each(export_one, sources, arguments, self._jobs):
      if exported is None:
        result = one_trace.Result('crashed', 'the process that read it died (out of memory?)')
        exported = _line(source, result, self._options, self._pattern, 0.0)
      yield source, exported


def export_one(source: Source, options: Options, pattern: Any = None) -> Exported:
  """What the manifest says of a trace, and its line for the file of lines."""
  began = time.perf_counter()
  result = one_trace.read(source, options)
  return _line(source, result, options, pattern, time.perf_counter() - began)


def _line(
  source: Source, result: one_trace.Result, options: Options, pattern: Any, seconds: float
) -> Exported:
  rows = result.rows
  total = sum(row['total_duration_us'] for row in rows)
  nobodys = sum(row['total_duration_us'] for row in rows if not row['op_name'])
  summary = {
    'trace': source.name,
    'host': source.host,
    'parameters': _parameters(source, pattern),
    'status': result.status,
    'reason': result.reason,
    'read': result.read,
    'bytes': sum(_size(path) for path in source.files),
    'rows': len(rows),
    'total_us': round(total, 6),
    'not_attributed_pct': round(100 * nobodys / total, 4) if total else None,
    'seconds': round(seconds, 4),
  }
  content = {
    'identity': _identity(source, options, pattern),
    **summary,
    'table': [[row[name] for name in NAMES[_KNOWN_BY_TRACE:]] for row in rows],
    'steps': [[row[name] for name in STEP_NAMES[_KNOWN_BY_TRACE:]] for row in result.steps],
  }
  return summary, to_line(content)


def _parameters(source: Source, pattern: Any) -> dict[str, Any]:
  named = parameters.of_name(source.name, pattern)
  return named or parameters.of_record(source.files[0])


def _names(columns: Sequence[str], known: Sequence[str]) -> list[str]:
  """Columns of a table with the parameters in their place."""
  return [*columns[:_KNOWN_BY_TRACE], *known, *columns[_KNOWN_BY_TRACE:]]


def _identity(source: Source, options: Options, pattern: Any) -> str:
  """What must be the same for an export to be still good: names, files, what was asked."""
  stamps: list[Any] = []
  for path in source.files:
    try:
      stat = path.stat()
      stamps.append((str(path.absolute()), stat.st_size, stat.st_mtime_ns))
    except OSError:
      stamps.append((str(path.absolute()), None, None))
  asked = {**asdict(options), 'kinds': sorted(options.kinds)}
  pattern_text = None if pattern is None else pattern.pattern
  text = json.dumps([_FORMAT, source.name, source.host, stamps, asked, pattern_text])
  return hashlib.sha256(text.encode()).hexdigest()[:32]


_FORMAT = 1  # of the lines; a change of what is in them makes those before read again


def _key(source: Source) -> str:
  return '\n'.join([source.name, source.host, *map(str, source.files)])


def _named_apart(sources: Sequence[Source]) -> list[Source]:
  """Traces of the same name and host, from several folders, get their whole path for a name."""
  seen: dict[tuple[str, str], int] = {}
  for source in sources:
    seen[source.name, source.host] = seen.get((source.name, source.host), 0) + 1
  return [
    source._replace(name=str(source.files[0].absolute().parent))
    if seen[source.name, source.host] > 1 else source
    for source in sources
  ]  # fmt: skip


def _file_name(summary: Line, taken: set[str]) -> str:
  """A name as the study gave it (b64s2k3f10) where the trace has those letters, else its own."""
  shorts = {long: short for short, long in parameters.LONG_NAMES.items()}
  known = {k: v for k, v in summary['parameters'].items() if k in shorts}
  name = ''.join(f'{shorts[k]}{v}' for k, v in known.items())
  name = name or f'{summary["trace"]}_{summary["host"]}'.strip('/').replace(os.sep, '_')
  number, free = 1, name
  while free in taken:
    number += 1
    free = f'{name}_{number}'
  taken.add(free)
  return free


def _size(path: Path) -> int:
  try:
    return path.stat().st_size
  except OSError:
    return 0
