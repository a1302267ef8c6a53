"""Joins the metrics tables of many runs into one, and reads the rows of one run.

Joining copies bytes wherever it can: most tables of a folder share one header and need nothing
but the name of their source at the end of each line. A table that differs is taken apart and put
together again line by line, with the csv module where it has quotes.
"""

import collections
import contextlib
import csv
import dataclasses
import json
import logging
import operator
import os
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from algorithmic_efficiency.errors import MeasurementError, UsageError

TABLE_NAME = 'metrics.csv'
JOINED_NAME = 'all_metrics.csv'
PROGRESS_SECONDS = 2.0

_CHUNK_BYTES = 1 << 20
_BYTE_ORDER_MARK = b'\xef\xbb\xbf'
_PLAIN_BYTES = bytes(set(range(256)) - set(b',"\r\n'))
# A cell in quotes from end to end; a quote within a plain cell is a character like any other.
# The look behind the first quote comes after it, as a search for a plain character is much faster.
_QUOTED_CELL = re.compile(rb'"(?<![^,\n]")[^"]*(?:""[^"]*)*"(?![^,\n])')
# A float that is not finite, as protobuf's JSON mapping spells it.
_NOT_FINITE = {'NaN': float('nan'), 'Infinity': float('inf'), '-Infinity': float('-inf')}

_logger = logging.getLogger(__name__)


def concatenate_csvs(folder: str | os.PathLike[str]) -> Path:
  """Joins every `metrics.csv` below `folder` into `folder/all_metrics.csv`; returns its path.

  The columns are the union of all columns in the order first seen, with files in natural order
  (run_2 before run_10), and a last one, `source`, with the file's path relative to `folder`. It
  is called `source_file` where a table has a column `source` already. Cells are copied as they
  are; a cell is empty where its table has no such column. A last line that a kill has torn is
  left out with a warning. Linked folders are followed, each once.

  Raises:
    UsageError: there is no table to join, or one cannot be read or is not a proper table.
    MeasurementError: `all_metrics.csv` cannot be written.
  """
  root = _check_folder(folder)
  tables = _read_headers(root, _find_tables(root))
  columns = tuple(dict.fromkeys(name for table in tables for name in table.columns))
  headers = {table.columns for table in tables}
  layouts = {header: _Layout.between(header, columns) for header in headers}
  progress = _Progress('joined', len(tables))
  with _replace_whole(root / JOINED_NAME) as output:
    output.write(_format_row([*columns, _free_name('source', columns)]))
    for done, table in enumerate(tables, start=1):
      for rows in _convert_table(table, layouts[table.columns]):
        output.write(rows)
      progress.note(done)
  return root / JOINED_NAME


def read_jsonl(path: Path) -> list[dict[str, object]]:
  """The rows of a `metrics.jsonl`, one JSON object a line, in the order written.

  Values that are exactly 'NaN', 'Infinity' or '-Infinity' come back as floats. A last line that
  a kill has torn is left out with a warning.

  Raises:
    UsageError: the file cannot be read, or a line other than a torn last one is no JSON object.
  """
  rows: list[dict[str, object]] = []
  with _telling_read_errors(path), path.open('rb') as file:
    for number, line in enumerate(file, start=1):
      if not line.strip():
        continue
      try:
        row: object = json.loads(line)
      except ValueError as error:
        if not line.endswith(b'\n'):
          _warn_of_torn_row(path, number)
          break
        raise _broken_row(path, number, f'is not valid JSON ({error})') from error
      if not isinstance(row, dict):
        raise _broken_row(path, number, 'is JSON but not an object')
      rows.append(restore_floats(cast('dict[str, object]', row)))
  return rows


def restore_floats(row: Mapping[str, object]) -> dict[str, object]:
  """The row with floats for 'NaN', 'Infinity' and '-Infinity'."""
  return {
    key: _NOT_FINITE.get(value, value) if isinstance(value, str) else value
    for key, value in row.items()
  }


@dataclasses.dataclass(frozen=True)
class _Table:
  """One file to join: where it is, what it is called in the result, and its columns."""

  path: Path
  source: str
  columns: tuple[str, ...]


def _check_folder(folder: str | os.PathLike[str]) -> Path:
  root = Path(folder)
  with _telling_read_errors(root):
    # An unset shell variable arrives as '', which a path takes for the working folder.
    if os.fspath(folder) and root.is_dir():
      return root
    fault = 'is not a folder' if os.fspath(folder) and root.exists() else 'does not exist'
  raise UsageError(
    f'The folder to look for {TABLE_NAME!r} files in is given as {os.fspath(folder)!r}, which '
    f'{fault}; give one that exists, such as the --log_dir of a run.'
  )


def _find_tables(root: Path) -> list[Path]:
  """Every table below `root`, in natural order; each real folder is entered once.

  Folders come before links to folders, so that a table has its own name wherever it has one.
  A link to a folder above `root` is not followed: it leads out of what was asked for.
  """
  found: list[Path] = []
  waiting = collections.deque([root])
  with _telling_read_errors(root):
    seen = {_identity(parent) for parent in root.resolve().parents}
  while waiting:
    folder = waiting.popleft()
    with _telling_read_errors(folder):
      if _identity(folder) in seen:
        continue
      seen.add(_identity(folder))
      with os.scandir(folder) as entries:
        for entry in entries:
          if entry.is_dir(follow_symlinks=False):
            waiting.appendleft(folder / entry.name)
          elif entry.is_symlink() and os.path.isdir(entry.path):  # noqa: PTH112 - a loop is False
            waiting.append(folder / entry.name)
          elif entry.name == TABLE_NAME:
            found.append(folder / entry.name)
  if not found:
    raise UsageError(
      f'No file called {TABLE_NAME!r} is below {str(root)!r}; give the --log_dir of a run that '
      'has made at least one evaluation.'
    )
  return sorted(found, key=lambda path: _natural_key(path.relative_to(root)))


def _identity(folder: Path) -> tuple[int, int]:
  status = folder.stat()
  return status.st_dev, status.st_ino


def _natural_key(path: Path) -> tuple[list[list[str | int]], str]:
  """Sorts run_2 before run_10; the path itself settles run_1 and run_01."""
  parts = [
    [int(piece) if index % 2 else piece for index, piece in enumerate(re.split(r'(\d+)', part))]
    for part in path.parts
  ]
  return parts, str(path)


def _read_headers(root: Path, paths: list[Path]) -> list[_Table]:
  """The tables that have a header; an empty file is passed over."""
  tables: list[_Table] = []
  progress = _Progress('read the headers of', len(paths))
  shared: dict[tuple[str, ...], tuple[str, ...]] = {}
  for done, path in enumerate(paths, start=1):
    with _telling_read_errors(path):
      # Opening a pipe would wait for ever, and a link may lead nowhere.
      if not path.is_file():
        raise _unreadable(path, 'it is a broken link or not a regular file')
      with path.open('rb') as file:
        columns, _ = _read_header(file, path)
    progress.note(done)
    if columns:
      columns = shared.setdefault(columns, columns)
      tables.append(_Table(path, path.relative_to(root).as_posix(), columns))
  return tables


def _read_header(file: BinaryIO, path: Path) -> tuple[tuple[str, ...], int]:
  """The columns and the number of lines they take; leaves `file` at the first row."""
  if file.read(len(_BYTE_ORDER_MARK)) != _BYTE_ORDER_MARK:
    file.seek(0)
  reader = csv.reader(map(_decode, iter(file.readline, b'')), strict=True)
  try:
    columns = next((tuple(row) for row in reader if row), ())
  except csv.Error as error:
    raise _broken_row(path, reader.line_num, f'is not valid CSV ({error})') from error
  twice = [name for name, count in collections.Counter(columns).items() if count > 1]
  if twice:
    raise UsageError(
      f'{str(path)!r} has more than one column called {twice[0]!r}; a name may stand once in a '
      'header, so rename or remove the others.'
    )
  return columns, reader.line_num


def _free_name(wanted: str, taken: Iterable[str]) -> str:
  taken = set(taken)
  if wanted not in taken:
    return wanted
  name, number = f'{wanted}_file', 1
  while name in taken:
    number += 1
    name = f'{wanted}_file_{number}'
  return name


@dataclasses.dataclass(frozen=True)
class _Layout:
  """How rows under one header become rows of the joined table.

  `pick` takes a row's cells, an empty cell and the source, and gives the cells of the joined row.
  Where the header is how the joined one begins, a line needs only `padding` and the source at
  its end; `skeleton` is what is left of such a line without its plain characters and its cells in
  quotes, else None.
  """

  width: int
  pick: Callable[[list[Any]], tuple[Any, ...]]
  padding: bytes
  skeleton: bytes | None

  @classmethod
  def between(cls, header: tuple[str, ...], columns: tuple[str, ...]) -> '_Layout':
    width = len(header)
    place = {name: index for index, name in enumerate(header)}
    # A line of one empty cell looks like an empty line, which is no row: it needs a closer look.
    begins_alike = header == columns[:width] and width > 1
    return cls(
      width=width,
      pick=operator.itemgetter(*(place.get(name, width) for name in columns), width + 1),
      padding=b',' * (len(columns) - width + 1),
      skeleton=b',' * (width - 1) + b'\n' if begins_alike else None,
    )


def _convert_table(table: _Table, layout: _Layout) -> Iterator[bytes]:
  """The rows of `table` as they stand in the joined file, some at a time."""
  ending = layout.padding + _format_row([table.source])
  with _telling_read_errors(table.path), table.path.open('rb') as file:
    columns, lines_before = _read_header(file, table.path)
    if columns != table.columns:
      raise UsageError(
        f'The header of {str(table.path)!r} changed while tables were joined, as a run is still '
        'writing it; join again.'
      )
    while True:
      start = file.tell()
      chunk = file.read(_CHUNK_BYTES)
      if not chunk.endswith(b'\n'):
        chunk += file.readline()
      if not chunk:
        return
      chunk = chunk.replace(b'\r\n', b'\n')
      quoted = b'"' in chunk
      bare = _QUOTED_CELL.sub(b'', chunk) if quoted else chunk
      skeleton = bare.translate(None, _PLAIN_BYTES)
      # A line end within quotes is counted here but not in the skeleton, and so sets them apart.
      lines = chunk.count(b'\n')
      if layout.skeleton and chunk.endswith(b'\n') and skeleton == layout.skeleton * lines:
        yield chunk.replace(b'\n', ending)
      elif quoted or b'\r' in skeleton:
        file.seek(start)
        yield from _convert_quoted_rows(file, lines_before, table, layout)
        return
      else:
        yield _convert_plain_rows(chunk, lines_before, table, layout)
      lines_before += lines


def _convert_plain_rows(chunk: bytes, lines_before: int, table: _Table, layout: _Layout) -> bytes:
  """Converts lines without quotes; only the last line of a file may lack its line end."""
  *lines, torn = chunk.split(b'\n')
  extra = (b'', _format_row([table.source]))
  rows: list[bytes] = []
  for number, line in enumerate(lines, start=lines_before + 1):
    cells = line.split(b',')
    if len(cells) == layout.width and line:
      cells += extra
      rows.append(b','.join(layout.pick(cells)))
    elif line:
      raise _wrong_width(table, number, len(cells))
  if torn:
    cells = torn.split(b',')
    if _is_whole(cells, table, lines_before + len(lines) + 1):
      cells += extra
      rows.append(b','.join(layout.pick(cells)))
  return b''.join(rows)


def _convert_quoted_rows(
  file: BinaryIO, lines_before: int, table: _Table, layout: _Layout
) -> Iterator[bytes]:
  """Converts the rest of `file` with the csv module, which knows quotes and lines in cells."""
  at_end_without_newline = False

  def read_lines() -> Iterator[str]:
    nonlocal at_end_without_newline
    for line in file:
      at_end_without_newline = not line.endswith(b'\n')
      yield _decode(line)

  reader = csv.reader(read_lines(), strict=True)
  while True:
    number = lines_before + reader.line_num + 1
    try:
      cells = next(reader, None)
    except csv.Error as error:
      if at_end_without_newline:
        _warn_of_torn_row(table.path, number)
        return
      raise _broken_row(table.path, number, f'is not valid CSV ({error})') from error
    if cells is None:
      return
    if not cells or (at_end_without_newline and not _is_whole(cells, table, number)):
      continue
    if len(cells) != layout.width:
      raise _wrong_width(table, number, len(cells))
    yield _format_row(layout.pick([*cells, '', table.source]))


def _is_whole(cells: list[Any], table: _Table, number: int) -> bool:
  """Whether a last line without a line end has all its cells; warns of one that was torn."""
  if len(cells) > len(table.columns):
    raise _wrong_width(table, number, len(cells))
  if len(cells) < len(table.columns):
    _warn_of_torn_row(table.path, number)
    return False
  return True


def _decode(line: bytes) -> str:
  # Bytes that are no UTF-8 survive the way through text unchanged.
  return line.decode('utf-8', 'surrogateescape')


class _Echo:
  """What csv.writer writes to when the line itself is wanted: `writerow` returns it."""

  def write(self, line: str) -> str:
    return line


# With '\r\n' as the line end, every supported Python quotes a cell that holds either of the two.
_ROW_WRITER = csv.writer(_Echo(), lineterminator='\r\n')


def _format_row(cells: Iterable[str]) -> bytes:
  line = cast(str, _ROW_WRITER.writerow(cells))
  return line.removesuffix('\r\n').encode('utf-8', 'surrogateescape') + b'\n'


@contextlib.contextmanager
def _replace_whole(path: Path) -> Generator[BinaryIO]:
  """A file to write that takes the place of `path` when all is written, or leaves no trace.

  It is not forced to the disk as a run's records are: it can be made from them again.
  """
  temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
  try:
    with contextlib.ExitStack() as leaving:
      file = leaving.enter_context(temporary.open('wb'))
      leaving.callback(temporary.unlink, missing_ok=True)
      yield file
      file.close()
      temporary.replace(path)
  except OSError as error:
    raise MeasurementError(
      f'{str(path)!r} cannot be written ({error.strerror}); make room or mend the permissions of '
      'its folder, and join again.'
    ) from error


class _Progress:
  """Tells in the log how far a long piece of work is, every `PROGRESS_SECONDS` seconds."""

  def __init__(self, deed: str, total: int) -> None:
    self._deed = deed
    self._total = total
    self._last = time.monotonic()

  def note(self, done: int) -> None:
    now = time.monotonic()
    if now - self._last >= PROGRESS_SECONDS:
      self._last = now
      _logger.info('%s %s of %s files', self._deed, f'{done:,}', f'{self._total:,}')


@contextlib.contextmanager
def _telling_read_errors(path: Path) -> Generator[None]:
  try:
    yield
  except OSError as error:
    raise _unreadable(path, str(error.strerror)) from error


def _unreadable(path: Path, reason: str) -> UsageError:
  return UsageError(
    f'{str(path)!r} cannot be read ({reason}); mend its permissions or its link, or remove it.'
  )


def _broken_row(path: Path, number: int, fault: str) -> UsageError:
  return UsageError(f'Line {number} of {str(path)!r} {fault}; mend or remove it.')


def _wrong_width(table: _Table, number: int, width: int) -> UsageError:
  fields = '1 field' if width == 1 else f'{width} fields'
  return _broken_row(table.path, number, f'has {fields} under a header of {len(table.columns)}')


def _warn_of_torn_row(path: Path, number: int) -> None:
  _logger.warning('left out the torn last row of %r (line %d)', str(path), number)
