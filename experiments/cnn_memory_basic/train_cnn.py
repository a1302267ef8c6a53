"""Trains the study's CNN on made data of CIFAR-10's shape, and tells when it did what.

  python train_cnn.py --framework=jax --batch_size=128 --threads=1 --seconds=20
  python train_cnn.py --framework=pytorch --trace_memory=refs:0.5 --trace_memory=refs:1steps \\
    --trace=FOLDER

Keras's CNN for CIFAR-10: two convolutions of 32 filters, two of 64, a dense layer of 512; 1,250,858
parameters, RMSprop. All images are held in memory as float32, 614 MB, and a fifth as many for
validation after each epoch. Each --trace_memory is a phase of --seconds (or its own: refs:8@20)
that this program has traced, into FOLDER/phase_1.jsonl and so on; 'none' is one without a tracer.
From one that ends in +kept on, memory that is freed stays mapped; otherwise that of large arrays is
given back at once, and what is gone at the end of a window is not seen in it.
Prints a JSON line with the times (ns, monotonic clock): training begins when the first step has
ended, in which JAX compiles, and the first phase some seconds later (--settle).

Threads: the program keeps to so many cores, the last ones, and to as many threads. Whoever traces
it is on all. It has no huge pages, in which a touch cannot be placed.
"""

import argparse
import contextlib
import ctypes
import importlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

if TYPE_CHECKING:
  import numpy as np

  from algorithmic_efficiency.memory_trace.handle import NoMemoryTrace

PARAMETERS = 1_250_858
EVERY_CORE = sorted(os.sched_getaffinity(0))
# M_ARENA_MAX: threads that begin later have no arenas, which always give back. That must be before.
MALLOC_ONE_ARENA = {-8: 1}
# M_MMAP_MAX: no mapping of its own for what is large. M_TRIM_THRESHOLD: nothing is given back.
MALLOC_KEEPS = {-4: 0, -1: 2**31 - 1}
KEPT_SETTLE_SEC = 1.0
BLOCK = 1000  # images that are made at a time
LEAST_WINDOWS = 2  # of each phase, however long they are
VALIDATION_BATCH = 200

Batch = tuple[bool, 'np.ndarray', 'np.ndarray']  # whether to train on it


def main() -> None:
  """Prints what was done when."""
  given = parse()
  pin(given.threads)
  if any(phase.endswith('+kept') for phase in given.trace_memory):
    set_malloc(MALLOC_ONE_ARENA)
  from algorithmic_efficiency.memory_trace.tracing import forbid_huge_pages

  forbid_huge_pages()
  module = importlib.import_module(f'network_{given.framework}')
  if given.framework == 'pytorch':
    module.torch.set_num_threads(given.threads)
  imported_ns = time.monotonic_ns()
  images, labels = made_data(given.images)
  validation = made_data(given.images // 5)
  data_ns = time.monotonic_ns()
  step, validate, parameters = module.build(seed=0)
  if parameters != PARAMETERS:
    raise SystemExit(f'the network has {parameters:,} parameters and not {PARAMETERS:,}.')
  work = Work(step, validate, batches(images, labels, validation, given.batch_size))
  work.next_step()
  told: dict[str, Any] = {
    'framework': given.framework, 'batch_size': given.batch_size, 'threads': given.threads,
    'images': given.images, 'cores': sorted(os.sched_getaffinity(0)),
    'imported_ns': imported_ns, 'data_ns': data_ns, 'training_ns': time.monotonic_ns(),
  }  # fmt: skip
  work.go_on(given.settle)
  told['phases'] = [
    phase(work, given, number, asked) for number, asked in enumerate(given.trace_memory, 1)
  ]
  print(json.dumps({**told, 'steps': work.steps, 'loss': work.loss}))


class Work:
  """The training as it goes on."""

  def __init__(self, step: Any, validate: Any, source: Iterator[Batch]) -> None:
    self._step, self._validate, self._source = step, validate, source
    self.steps = 0
    self.loss = 0.0

  def next_step(self) -> None:
    """A step; and before it the validation, when an epoch is over."""
    for train, images, labels in self._source:
      if train:
        self.loss = self._step(images, labels)
        self.steps += 1
        return
      self._validate(images, labels)

  def go_on(self, seconds: float) -> None:
    """Steps until the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
      self.next_step()


def phase(work: Work, given: argparse.Namespace, number: int, asked: str) -> dict[str, Any]:
  """A phase, traced as asked or not; what was done in it."""
  from algorithmic_efficiency.memory_trace.handle import MemoryTrace, NoMemoryTrace, parse

  text, keeps, _ = asked.partition('+kept')
  text, _, own_seconds = text.partition('@')
  if keeps:
    set_malloc(MALLOC_KEEPS)
    work.go_on(KEPT_SETTLE_SEC)
  wanted = None if text == 'none' else parse(text)
  trace, handle = None, NoMemoryTrace()
  if wanted is not None:
    trace = f'phase_{number}.jsonl'
    handle = MemoryTrace(wanted, given.trace / trace, lambda: None, list, warn)
  seconds = float(own_seconds or given.seconds)
  if wanted is not None and wanted.seconds is not None:  # and what stopping and starting takes
    seconds = max(seconds, LEAST_WINDOWS * (wanted.seconds + 0.1) + 0.5)
  least_steps = 1
  if wanted is not None and wanted.steps is not None:
    least_steps = (LEAST_WINDOWS + 1) * wanted.steps  # the first window is no whole one
  step_sec: list[float] = []
  with begun(handle):
    begin_ns, end = time.monotonic_ns(), time.monotonic() + seconds
    while time.monotonic() < end or len(step_sec) < least_steps:
      before = handle.now()
      work.next_step()
      step_sec.append(handle.now() - before)
      handle.step_ended(len(step_sec))
    end_ns = time.monotonic_ns()
  return {
    'asked': asked, 'trace': trace, 'begin_ns': begin_ns, 'end_ns': end_ns,
    'step_sec': [round(second, 6) for second in step_sec],
    'tracer': handle.summary(),
  }  # fmt: skip


@contextlib.contextmanager
def begun(handle: 'NoMemoryTrace') -> Iterator[None]:
  """The tracer is started on every core, as it would be kept to this program's otherwise."""
  own = os.sched_getaffinity(0)
  os.sched_setaffinity(0, EVERY_CORE)
  with handle:
    os.sched_setaffinity(0, own)
    yield


def set_malloc(options: dict[int, int]) -> None:
  """How memory is got and given back, from now on: mallopt(3)."""
  libc = ctypes.CDLL(None)
  for option, value in options.items():
    if not libc.mallopt(option, value):
      raise SystemExit('mallopt is refused; this needs the C library of GNU.')


def pin(threads: int) -> None:
  """Keeps to the last so many cores; frameworks that are imported later count these."""
  if not 1 <= threads <= len(EVERY_CORE):
    raise SystemExit(f'--threads={threads}: there are {len(EVERY_CORE)} cores; give 1 to that.')
  os.sched_setaffinity(0, EVERY_CORE[-threads:])
  for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'NPROC'):
    os.environ[name] = str(threads)
  os.environ['JAX_PLATFORMS'] = 'cpu'
  if threads == 1:
    flags = os.environ.get('XLA_FLAGS', '')
    os.environ['XLA_FLAGS'] = f'{flags} --xla_cpu_multi_thread_eigen=false'.strip()


def made_data(count: int) -> tuple['np.ndarray', 'np.ndarray']:
  """(count, 32, 32, 3) float32, each class a pattern under noise, and (count,) int64."""
  import numpy as np

  draw = np.random.default_rng(count)
  patterns = draw.random((10, 32, 32, 3), np.float32)
  labels = draw.integers(0, 10, count)
  images = np.empty((count, 32, 32, 3), np.float32)
  for first in range(0, count, BLOCK):
    part = slice(first, first + BLOCK)
    images[part] = patterns[labels[part]]
    images[part] += draw.random(images[part].shape, np.float32)
  return images, labels


def batches(
  images: 'np.ndarray', labels: 'np.ndarray', validation: tuple[Any, Any], size: int
) -> Iterator[Batch]:
  """Shuffled ones without end; after each epoch those of the validation, in order."""
  import numpy as np

  if size > len(images):
    raise SystemExit(f'--batch_size={size} is above --images={len(images)}; give a smaller one.')
  draw = np.random.default_rng(0)
  while True:
    order = draw.permutation(len(images))
    for first in range(0, len(images) - size + 1, size):
      chosen = order[first : first + size]
      yield True, images[chosen], labels[chosen]
    for first in range(0, len(validation[0]) - VALIDATION_BATCH + 1, VALIDATION_BATCH):
      part = slice(first, first + VALIDATION_BATCH)
      yield False, validation[0][part], validation[1][part]


def warn(clause: str) -> None:
  """What went wrong with a trace."""
  print(f'train_cnn: warning: {clause}', file=sys.stderr)


def parse() -> argparse.Namespace:
  """The command's flags."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--framework', choices=('jax', 'pytorch'), required=True)
  parser.add_argument('--batch_size', type=int, default=128)
  parser.add_argument('--threads', type=int, default=1)
  parser.add_argument('--seconds', type=float, default=20.0, help='of each phase')
  parser.add_argument('--settle', type=float, default=2.0, help='seconds before the first phase')
  parser.add_argument('--images', type=int, default=50_000)
  parser.add_argument(
    '--trace_memory',
    action='append',
    metavar='BACKEND:WINDOW[@SECONDS][+kept]',
    help="a phase; or 'none'",
  )
  parser.add_argument('--trace', type=Path, default=Path(), help='folder of the traces')
  given = parser.parse_args()
  given.trace_memory = given.trace_memory or ['none']
  return given


if __name__ == '__main__':
  main()
