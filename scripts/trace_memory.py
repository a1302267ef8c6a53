#!/usr/bin/env python3
"""Traces which memory a process really touches: working sets, window by window.

  python scripts/trace_memory.py -- python train.py
  python scripts/trace_memory.py --pid=4711 --duration_sec=60 --sample_sec=0.5 --children
  python scripts/trace_memory.py --backend=refs_split --chunk_kib=16 -- python train.py
  python scripts/trace_memory.py --list_backends

The process is stopped for a moment at the end of each window, and always goes on, whatever happens
to this program. Writes one file of JSON lines (memory_trace/MEMORY.md), which analyse_memory.py
makes into tables and pictures. Needs no root for one's own processes with the default backend.
Exit codes: that of the command; for --pid 0; 1 failed, 2 a wrong command.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.status_line import StatusLine

_DROPPED = 'executable, inaccessible, small (of fewer than 4 pages)'
_KEPT = 'heap, anonymous, library, file, stack'


def main() -> int:
  """Returns the exit code."""
  given = _parse()
  try:
    return _trace(given)
  except UsageError as error:
    return _complain(str(error), 2)
  except MeasurementError as error:
    return _complain(str(error), 1)


def _trace(given: argparse.Namespace) -> int:
  from algorithmic_efficiency.memory_trace.processes import Process
  from algorithmic_efficiency.memory_trace.tracing import Asked, Tracing

  if given.list_backends:
    return _list_backends()
  if (given.pid is None) == (not given.command):
    raise UsageError('give either --pid=PID or a command after --.')
  if given.output.exists() and not given.overwrite:
    raise UsageError(
      f'{str(given.output)!r} is there already; give another --output, or --overwrite.'
    )
  asked = Asked(
    given.output, given.backend, given.sample_sec, None, given.duration_sec,
    given.chunk_kib << 10, given.children, given.drop, given.keep, given.path,
    huge_pages=given.huge_pages or not given.command,
  )  # fmt: skip
  tracing = Tracing(asked)
  try:
    if tracing.backend.CAPABILITIES.agent and not given.command:
      raise UsageError(
        f'--backend={given.backend} needs its helper within the process; start it by this program.'
      )
    if not given.command:
      return _run(tracing, Process(given.pid), given)
    return _run_command(tracing, given)
  finally:
    tracing.close()


def _run_command(tracing, given: argparse.Namespace) -> int:
  """Starts the command, traces it, and waits for its end; returns its exit code."""
  from algorithmic_efficiency.memory_trace.processes import Process
  from algorithmic_efficiency.memory_trace.tracing import forbid_huge_pages

  needs_agent = tracing.backend.CAPABILITIES.agent
  environment = tracing.agents.environment(os.environ) if needs_agent else None
  try:
    forbid_huge_pages(not given.huge_pages)  # what is started inherits it
    program = subprocess.Popen(given.command, env=environment)
  except OSError as error:
    raise UsageError(
      f'{shlex.join(given.command)!r} cannot be started ({error.strerror}); check the command.'
    ) from error
  finally:
    forbid_huge_pages(False)
  failed = 0
  try:
    if needs_agent and not tracing.agents.wait_for(program.pid) and program.poll() is None:
      _complain(
        f'the command starts no agent (it is no Python, or has no site), so --backend='
        f'{given.backend} sees nothing in it', 0,
      )  # fmt: skip
    failed = _run(tracing, Process(program.pid), given)
  except (UsageError, MeasurementError) as error:
    if program.poll() is None:  # it is the user's work, and goes on
      _complain(f'{error} The command goes on without a trace.', 1)
    failed = 1
  while True:
    try:
      code = program.wait()
      break
    except KeyboardInterrupt:
      program.send_signal(signal.SIGINT)
  return code if code > 0 else 128 - code if code < 0 else failed


def _run(tracing, process, given: argparse.Namespace) -> int:
  with StatusLine(quiet=given.quiet) as status:
    windows = _Windows(status)
    reason = tracing.run(process, tell=windows.tell)
  windows.end(reason, given.output, given.quiet)
  process.close()
  return 0 if windows.count else 1


class _Windows:
  """Counts the windows that were sampled, and tells of them."""

  def __init__(self, status: StatusLine) -> None:
    self.count = 0
    self._status, self._began, self._largest = status, time.monotonic(), 0

  def tell(self, number: int, touched: int) -> None:
    """A window has ended."""
    self.count = number + 1
    self._largest = max(self._largest, touched)
    self._status.tell(
      f'{self.count:,} windows, {time.monotonic() - self._began:.0f} s, '
      f'{touched / 2**20:.1f} MiB touched'
    )

  def end(self, reason: str, path: Path, quiet: bool) -> None:
    """The trace has ended."""
    if not self.count:
      print(f'trace_memory: error: no window was sampled: {reason}.', file=sys.stderr)
    elif not quiet:
      print(
        f'{self.count:,} windows in {time.monotonic() - self._began:.1f} s, at most '
        f'{self._largest / 2**20:.1f} MiB touched in one; {reason}. Trace: {path}', file=sys.stderr,
      )  # fmt: skip


def _list_backends() -> int:
  from algorithmic_efficiency.memory_trace import backends

  for name in backends.NAMES:
    backend = backends.load(name, chunk_bytes=1 << 16, agents=None, sample_sec=1.0)
    can = backend.CAPABILITIES
    touches = ' and '.join(k for k in ('reads', 'writes') if getattr(can, k))
    more = [w for w, told in (('root', can.root), ('stops the process', can.pauses),
                              ('a helper within', can.agent)) if told]  # fmt: skip
    reason = backend.probe()
    state = f'not here: {reason}' if reason else 'can be used'
    print(
      f'{name:<11}{can.granularity:<8} {touches}; {", ".join(more) or "nothing needed"}; {state}'
    )
  return 0


def _complain(message: str, code: int) -> int:
  print(f'trace_memory: {"error" if code else "warning"}: {message}', file=sys.stderr)
  return code


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--pid', type=_positive_int, help='of a process that runs')
  parser.add_argument('--output', type=Path, default=Path('memory.jsonl'))
  parser.add_argument('--overwrite', action='store_true')
  parser.add_argument(
    '--backend', choices=('refs', 'refs_split', 'page_idle', 'uffd_wp', 'damon'), default='refs'
  )
  parser.add_argument('--list_backends', action='store_true', help='what each can tell, and here')
  parser.add_argument('--sample_sec', type=_positive, default=0.2, help='length of a window')
  parser.add_argument('--duration_sec', type=_positive, help='until the process ends by default')
  parser.add_argument('--chunk_kib', type=_positive_int, default=64, help='of refs_split')
  parser.add_argument('--children', action='store_true', help='follow what the process starts')
  parser.add_argument('--drop', type=_names, default=[], help=f'with commas: {_DROPPED}')
  parser.add_argument('--keep', type=_names, default=[], help=f'these alone, with commas: {_KEPT}')
  parser.add_argument('--path', default='', help='only mappings whose path has this expression')
  parser.add_argument(
    '--huge_pages', action='store_true', help='let the command have huge pages, if it would'
  )
  parser.add_argument('--quiet', action='store_true', help='no progress')
  parser.add_argument('command', nargs='*', help='after --')
  return parser.parse_args()


def _positive(text: str) -> float:
  value = float(text)
  if not 0 < value < float('inf'):
    raise argparse.ArgumentTypeError(f'{text} is not a positive number')
  return value


def _positive_int(text: str) -> int:
  if not text.isdigit() or not int(text):
    raise argparse.ArgumentTypeError(f'{text!r} is not a positive integer')
  return int(text)


def _names(text: str) -> list[str]:
  return [name for name in text.split(',') if name]


if __name__ == '__main__':
  sys.exit(main())
