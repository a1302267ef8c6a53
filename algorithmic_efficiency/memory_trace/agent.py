"""This file runs within a process that is traced, where a backend needs its help.

It imports the standard library alone, and waits in a thread for what the tracer asks by a socket:
to split mappings (`refs_split.py`), or to have writes to them noted (`uffd_wp.py`). Both change how
the kernel looks after the memory, and nothing of what is in it.
"""

import ctypes
import fcntl
import os
import socket
import struct
import threading

VARIABLE = 'AE_MEMORY_TRACE_AGENT'  # the path of the tracer's socket
HELLO, ORDER = struct.Struct('<i'), struct.Struct('<cI')
SPLIT, NOTE_WRITES, UNDO = b's', b'w', b'u'

_DONTDUMP, _DODUMP = 16, 17  # madvise(2): whether a crash writes it out; splits a mapping, no more
_NR_USERFAULTFD = {'x86_64': 323, 'aarch64': 282}
_UFFD_USER_MODE_ONLY = 1
_UFFDIO_API, _UFFDIO_REGISTER = 0xC018AA3F, 0xC020AA00
_UFFD_API = 0xAA
# PAGEFAULT_FLAG_WP, WP_HUGETLBFS_SHMEM, WP_UNPOPULATED, WP_ASYNC of linux/userfaultfd.h
_FEATURES = (1 << 0) | (1 << 12) | (1 << 13) | (1 << 15)
_MODE_WP = 2


def start(path: str | None = None) -> None:
  """Connects to the tracer and does what it asks, in a thread of its own.

  Args:
    path: of its socket; the environment tells by default.
  """
  path = path or os.environ.get(VARIABLE, '')
  if path:
    threading.Thread(target=_serve, args=(path,), name='memory-trace-agent', daemon=True).start()


def why_no_userfaultfd() -> str:
  """Why the kernel would not note writes for this process; '' if it would."""
  work = _Work()
  try:
    os.close(work.userfaultfd())
  except OSError as error:
    return f'userfaultfd with WP_ASYNC is not to be had ({error.strerror}); it came with Linux 6.7'
  return ''


def _serve(path: str) -> None:
  with socket.socket(socket.AF_UNIX) as connection:
    try:
      connection.connect(path)
    except OSError:
      return  # the tracer has ended before
    connection.sendall(HELLO.pack(os.getpid()))
    work = _Work()
    while header := _receive(connection, ORDER.size):
      order, count = ORDER.unpack(header)
      content = _receive(connection, 16 * count)
      if len(content) < 16 * count:
        return
      work.do(order, list(struct.iter_unpack('<qq', content)))


def _receive(connection: socket.socket, size: int) -> bytes:
  """That many bytes; fewer at the end."""
  pieces = b''
  while len(pieces) < size and (piece := connection.recv(size - len(pieces))):
    pieces += piece
  return pieces


class _Work:
  """Does orders on ranges (begin, end). A range that has gone in the meantime is left."""

  def __init__(self) -> None:
    self._libc = ctypes.CDLL(None, use_errno=True)
    self._madvise = self._libc.madvise
    self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    self._uffd = -1

  def do(self, order: bytes, ranges: list[tuple[int, int]]) -> None:
    """Does one."""
    if order == NOTE_WRITES:
      self._note_writes(ranges)
      return
    advice = _DONTDUMP if order == SPLIT else _DODUMP
    for begin, end in ranges:
      self._madvise(begin, end - begin, advice)

  def userfaultfd(self) -> int:
    """A descriptor that notes writes. Raises OSError."""
    number = _NR_USERFAULTFD.get(os.uname().machine, -1)
    flags = os.O_CLOEXEC | os.O_NONBLOCK | _UFFD_USER_MODE_ONLY
    descriptor = self._libc.syscall(number, flags)
    if descriptor < 0:
      raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    try:
      fcntl.ioctl(descriptor, _UFFDIO_API, struct.pack('<QQQ', _UFFD_API, _FEATURES, 0))
    except OSError:
      os.close(descriptor)
      raise
    return descriptor

  def _note_writes(self, ranges: list[tuple[int, int]]) -> None:
    if self._uffd < 0:
      try:
        self._uffd = self.userfaultfd()
      except OSError:
        return  # the tracer sees that nothing is registered
    for begin, end in ranges:
      try:
        arguments = struct.pack('<QQQQ', begin, end - begin, _MODE_WP, 0)
        fcntl.ioctl(self._uffd, _UFFDIO_REGISTER, arguments)
      except OSError:
        continue  # gone, or of a kind that cannot be registered
