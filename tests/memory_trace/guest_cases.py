"""This file tries a backend against processes with a known answer; as root, within a guest.

It prints a line of JSON for each case: of each window, how many pages were missed of those that
were touched, how many were found beside them in the toucher's array, and how many elsewhere (the
interpreter's own, of which the truth is not known); and what a window cost.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.memory_trace import backends
from algorithmic_efficiency.memory_trace.mappings import PAGE_BYTES
from algorithmic_efficiency.memory_trace.processes import Process

TOUCHER = Path(__file__).resolve().with_name('toucher.py')
MIB = 1 << 20
STOP_SEC = 10
WINDOW_SEC = 0.3  # emulated, a process needs a while to touch all of its pages
# By backend and name: the toucher's arguments, and how many windows.
CASES: dict[str, dict[str, tuple[str, int]]] = {
  'page_idle': {
    'read': ('--access=read', 5),
    'write': ('--access=write', 5),
    'mixed_random': ('--access=mixed --order=random', 5),
    'read_strided': ('--access=read --order=strided', 5),
    'small': ('--access=read --hot_mib=1', 5),
    'whole': ('--access=mixed --hot_at_mib=0 --hot_mib=64', 5),
    'huge': ('--access=mixed --huge', 5),
    'huge_strided': ('--access=read --huge --order=strided', 5),
    'huge_forbidden': ('--access=read --huge --no_thp', 5),
    'larger': ('--access=mixed --total_mib=512 --hot_at_mib=100 --hot_mib=64', 3),
  },
  # DAMON does not empty the TLB, and so does not see what is always in it. An emulated one holds
  # all of these pages, a real one does not: hence --flush.
  'damon': {
    'read': ('--flush --access=read --total_mib=256 --hot_at_mib=100 --hot_mib=32', 40),
    'mixed': ('--flush --access=mixed --total_mib=128 --hot_at_mib=64 --hot_mib=16', 40),
  },
}
OPTIONS = {'page_idle': {}, 'damon': {'sample_sec': 0.2}}


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument('backend', choices=tuple(CASES))
  parser.add_argument('--only', default='', help='cases, joined by commas')
  options = parser.parse_args()
  backend = backends.load(options.backend, **OPTIONS[options.backend])
  reason = backend.probe()
  print(json.dumps({'case': 'probe', 'reason': reason}), flush=True)
  only = options.only.split(',') if options.only else CASES[options.backend]
  for name in only:
    told = {'case': name, **case(backend, *CASES[options.backend][name])}
    print(json.dumps(told), flush=True)
  if options.backend == 'damon':
    print(json.dumps({'case': 'etiquette', **etiquette()}), flush=True)
  print(json.dumps({'case': 'ended', **ended(backend)}), flush=True)


@contextlib.contextmanager
def toucher(arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
  """A toucher that is ready, and what it told."""
  command = [sys.executable, '-S', str(TOUCHER), *arguments.split()]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    try:
      assert process.stdout is not None
      told = json.loads(process.stdout.readline())
      assert process.stdout.readline() == 'ready\n'
      yield process, told
    finally:
      process.kill()


def case(backend: backends.Backend, arguments: str, windows: int) -> dict[str, object]:
  with toucher(arguments) as (child, told), contextlib.closing(Process(child.pid)) as process:
    if backend.CAPABILITIES.pauses:
      # On processors of their own nothing but the backend empties the toucher's TLB.
      os.sched_setaffinity(0, {0})
      os.sched_setaffinity(child.pid, {1})
    with contextlib.closing(backend.watch(process, [])) as watch:
      samples, costs = sampled(backend, process, watch, windows)
    first, area = told['hot'] // PAGE_BYTES, told['base'] // PAGE_BYTES
    hot = np.arange(first, first + told['hot_bytes'] // PAGE_BYTES, told['stride'])
    result: dict[str, object] = {'hot': len(hot), 'missed': [], 'extra': [], 'elsewhere': []}
    for touched in samples:
      assert touched.units is not None
      runs = [np.arange(begin, begin + count) for begin, count in touched.units]
      pages = np.concatenate([np.empty(0, np.int64), *runs])
      within = (pages >= area) & (pages < area + told['bytes'] // PAGE_BYTES)
      for name, count in (
        ('missed', np.setdiff1d(hot, pages).size),
        ('extra', np.setdiff1d(pages[within], hot).size),
        ('elsewhere', np.count_nonzero(~within)),
      ):
        result[name].append(int(count))
      assert touched.touched == pages.size * PAGE_BYTES, 'extents and units differ'
      assert np.all(np.diff(pages) > 0), 'units overlap or are out of order'
    last = samples[-1]
    result |= {'resident_mib': round(last.resident / MIB, 1), 'huge_mib': last.huge / MIB}
    result |= {'virtual_mib': round(last.virtual / MIB, 1)}
  return result | {f'{key}_ms': round(float(np.median(value)), 1) for key, value in costs.items()}


def sampled(
  backend: backends.Backend, process: Process, watch: backends.Watch, windows: int
) -> tuple[list[backends.Touched], dict[str, list[float]]]:
  """What was touched in each window, as the loop would ask, and ms that each of its steps took."""
  samples: list[backends.Touched] = []
  costs: dict[str, list[float]] = {'stop': [], 'collect': [], 'reset': [], 'decode': []}

  def timed(name, function, *arguments):
    begun = time.perf_counter()
    result = function(*arguments)
    costs[name].append((time.perf_counter() - begun) * 1e3)
    return result

  pauses = backend.CAPABILITIES.pauses
  for number in range(windows + 1):
    if pauses:
      assert timed('stop', process.stop, STOP_SEC)
    raw = timed('collect', watch.collect) if number else None
    timed('reset', watch.reset)
    if pauses:
      process.go_on()
    if raw is not None:
      samples.append(timed('decode', watch.decode, raw))
    time.sleep(WINDOW_SEC)
  return samples, {name: values for name, values in costs.items() if values}


def ended(backend: backends.Backend) -> dict[str, object]:
  """What a watch raises when its process has ended, and whether the backend is usable again."""
  raised = ''
  with (
    toucher('--hot_mib=1') as (child, _),
    contextlib.closing(Process(child.pid)) as process,
    contextlib.closing(backend.watch(process, [])) as watch,
  ):
    watch.reset()
    child.kill()
    child.wait()
    try:
      watch.collect()
    except ProcessLookupError as error:
      raised = type(error).__name__
  return {'raised': raised, 'reason': backend.probe()}


def etiquette() -> dict[str, object]:
  """What DAMON's backend says while it is in use, and what is left when it is not any more."""
  number = Path('/sys/kernel/mm/damon/admin/kdamonds/nr_kdamonds')
  backend = backends.load('damon')
  with toucher('--hot_mib=1') as (child, _), contextlib.closing(Process(child.pid)) as process:
    watch = backend.watch(process, [])
    told = {'while_ours': backend.probe(), 'then': int(number.read_text())}
    watch.close()
    told |= {'closed': int(number.read_text())}
    number.write_text('1')  # somebody else's, that does not run
    told |= {'while_theirs': backend.probe()}
    number.write_text('0')
    told |= {'refused': refused(backend, process)}
    if (tracer := os.fork()) == 0:
      backend.watch(process, [])
      os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(tracer, 0)
    state = number.parent / '0' / 'state'
    told |= {'tracer_killed': [number.read_text().strip(), state.read_text().strip()]}
    child.kill()
    child.wait()
    end = time.monotonic() + STOP_SEC
    while state.read_text() == 'on\n' and time.monotonic() < end:
      time.sleep(0.1)
    told |= {'target_killed': [number.read_text().strip(), state.read_text().strip()]}
    number.write_text('0')
  return told


def refused(backend: backends.Backend, process: Process) -> str:
  """What is said when a second process is to be watched."""
  with contextlib.closing(backend.watch(process, [])):
    try:
      backend.watch(process, [])
    except UsageError as error:
      return str(error)
  return ''


if __name__ == '__main__':
  main()
