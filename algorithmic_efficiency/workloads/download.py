"""Downloads files from mirrors, checks them, and shows how far it is."""

import hashlib
import http.client
import logging
import os
import queue
import secrets
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

TIMEOUT_SEC = 20
_CHUNK_BYTES = 1 << 16
_REDRAW_SEC = 0.1
# What urllib raises for a wrong address, a host that is away and a connection that breaks.
_NETWORK_ERRORS = (OSError, http.client.HTTPException, ValueError)

_logger = logging.getLogger(__name__)


class DownloadError(Exception):
  """No mirror gave the file; the message names each host with its reason."""


def fetch(name: str, md5: str, folder: Path, mirrors: Sequence[str]) -> Path:
  """Downloads `name` from the first of `mirrors` that has it right, as `folder`/`name`.

  The file appears under its name only when it is complete and its MD5 sum is `md5`. Whether
  stderr is a terminal decides between a progress bar and one line in the log.

  Raises:
    DownloadError: every mirror failed.
    OSError: the file could not be written.
  """
  failures: list[str] = []
  for mirror in mirrors:
    try:
      return _fetch_from(f'{mirror.rstrip("/")}/{name}', md5, folder / name)
    except DownloadError as error:
      failures.append(f'{urllib.parse.urlsplit(mirror).netloc or mirror}: {error}')
  raise DownloadError('; '.join(failures))


def _fetch_from(url: str, md5: str, path: Path) -> Path:
  """Downloads `url` to `path`, through a temporary file beside it."""
  # A random name, because several processes may download at once, on hosts that share a disk.
  temporary = path.with_name(f'.{path.name}.{secrets.token_hex(4)}.part')
  digest = hashlib.md5(usedforsecurity=False)
  progress = _Bar(path.name) if sys.stderr.isatty() else _LogLine(path.name)
  try:
    with temporary.open('wb') as file:
      for chunk in _receive(url, progress):
        digest.update(chunk)
        file.write(chunk)
      file.flush()
      os.fsync(file.fileno())
    if digest.hexdigest() != md5:
      raise DownloadError(f'the MD5 sum is {digest.hexdigest()} and should be {md5}')
    temporary.replace(path)
  except BaseException:
    temporary.unlink(missing_ok=True)
    progress.end(complete=False)
    raise
  progress.end(complete=True)
  return path


class _Progress(Protocol):
  """Tells the user how a download goes."""

  def advance(self, num_bytes: int, total_bytes: int | None) -> None:
    """`num_bytes` of `total_bytes` have come; the total is None where the server keeps it."""

  def end(self, *, complete: bool) -> None:
    """The download is over."""


def _receive(url: str, progress: _Progress) -> Iterator[bytes]:
  """The content of `url` in chunks; whatever the network does wrong is a DownloadError."""
  received = 0
  try:
    with _open(url) as response:
      length = response.headers.get('Content-Length')
      total = int(length) if length else None
      while chunk := response.read(_CHUNK_BYTES):
        received += len(chunk)
        progress.advance(received, total)
        yield chunk
  except urllib.error.HTTPError as error:
    error.close()
    raise DownloadError(str(error)) from error
  except _NETWORK_ERRORS as error:
    raise DownloadError(_reason(error)) from error
  if total is not None and received != total:
    raise DownloadError(f'the connection ended after {received:,} of {total:,} bytes')


def _open(url: str) -> http.client.HTTPResponse:
  """The answer of `url`, within the time-out in all.

  urllib's own time-out is for each address of a host, of which there may be a dozen, and does not
  cover the name server; behind a firewall that drops packets that would be minutes. So a thread
  waits for the connection, and is left behind when time is up.
  """
  answers: queue.SimpleQueue[http.client.HTTPResponse | Exception] = queue.SimpleQueue()

  def connect() -> None:
    try:
      answers.put(urllib.request.urlopen(url, timeout=TIMEOUT_SEC))
    except _NETWORK_ERRORS as error:
      answers.put(error)

  threading.Thread(target=connect, daemon=True).start()
  try:
    answer = answers.get(timeout=TIMEOUT_SEC)
  except queue.Empty:
    raise TimeoutError(f'no connection within {TIMEOUT_SEC} s') from None
  if isinstance(answer, Exception):
    raise answer
  return answer


def _reason(error: Exception) -> str:
  """What went wrong, without the wrapping of urllib."""
  cause = error.reason if isinstance(error, urllib.error.URLError) else error
  return getattr(cause, 'strerror', None) or str(cause) or type(error).__name__


class _Bar:
  """A progress bar of one line on stderr, redrawn in place."""

  def __init__(self, name: str):
    self._name = name
    self._started = time.monotonic()
    self._drawn: float | None = None
    self._line = ''

  def advance(self, num_bytes: int, total_bytes: int | None) -> None:
    """Redraws the bar, at most every 0.1 s."""
    now = time.monotonic()
    rate = num_bytes / 1e6 / max(now - self._started, 1e-3)
    size, share = f'{num_bytes / 1e6:.1f} MB', '  ?%'
    if total_bytes:
      size = f'{num_bytes / 1e6:.1f}/{total_bytes / 1e6:.1f} MB'
      share = f'{num_bytes / total_bytes:4.0%}'
    self._line = f'{self._name}  {share}  {size}  {rate:.1f} MB/s'
    if self._drawn is None or now - self._drawn >= _REDRAW_SEC:
      self._draw()
      self._drawn = now

  def end(self, *, complete: bool) -> None:
    """Leaves the last state standing, on a line of its own."""
    if self._line:
      self._line += '' if complete else '  failed'
      self._draw(end='\n')

  def _draw(self, end: str = '') -> None:
    # The escape clears what a longer line before left behind.
    sys.stderr.write(f'\r{self._line}\x1b[K{end}')
    sys.stderr.flush()


class _LogLine:
  """One line in the log for each file that came."""

  def __init__(self, name: str):
    self._name = name
    self._num_bytes = 0
    self._started = time.monotonic()

  def advance(self, num_bytes: int, total_bytes: int | None) -> None:
    """Remembers the size."""
    del total_bytes
    self._num_bytes = num_bytes

  def end(self, *, complete: bool) -> None:
    """Writes the line; a failure is told by the error."""
    if complete:
      seconds = time.monotonic() - self._started
      _logger.info('Downloaded %s: %.1f MB in %.1f s.', self._name, self._num_bytes / 1e6, seconds)
