"""This file runs a function on many items in processes of their own, past one that dies.

A trace may take more memory than there is, and a library in C++ may abort: that ends a process,
and must not end the export.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

T = TypeVar('T')
R = TypeVar('R')


def each(
  function: Callable[..., R], items: Sequence[T], arguments: tuple[Any, ...], jobs: int
) -> Iterator[tuple[T, R | None]]:
  """(item, function(item, *arguments)) as they are done, in any order.

  None in place of the result where the process died twice: once beside others, once alone.
  """
  waiting = list(reversed(items))
  while waiting:
    suspects = yield from _until_one_dies(function, waiting, arguments, jobs)
    for item in suspects:
      alone = [item]
      died = yield from _until_one_dies(function, alone, arguments, 1)
      if died:
        yield item, None


def _until_one_dies(
  function: Callable[..., R], waiting: list[T], arguments: tuple[Any, ...], jobs: int
) -> Iterator[tuple[T, R | None]]:
  """Takes items from the end of `waiting`; returns those that ran when a process died."""
  running: dict[Future[R], T] = {}
  context = multiprocessing.get_context('spawn')  # no framework's threads are copied
  with ProcessPoolExecutor(jobs, context) as pool:
    try:
      while waiting or running:
        while waiting and len(running) < 2 * jobs:
          running[pool.submit(function, waiting[-1], *arguments)] = waiting[-1]
          waiting.pop()
        ready, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
          result = future.result()
          yield running.pop(future), result
    except BrokenProcessPool:
      return list(running.values())
    except BaseException:
      pool.shutdown(wait=False, cancel_futures=True)
      raise
  return []
