"""Idle page tracking and DAMON in guests whose kernels have them, against a known answer."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).resolve().with_name('guest_cases.py')
LIMIT_SEC = 300  # three times what it takes on two busy cores

pytestmark = [pytest.mark.slow, pytest.mark.timeout(LIMIT_SEC + 60)]


def guest():
  spec = importlib.util.spec_from_file_location('guest', ROOT / 'scripts' / 'guest' / 'run.py')
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


GUEST = guest()


def results(kernel: str, backend: str) -> dict[str, dict]:
  """What each case told, by its name."""
  if reason := GUEST.missing(kernel):
    pytest.skip(reason)
  command = [sys.executable, str(CASES), backend]
  code, printed = GUEST.run(kernel, command, memory_mib=1536, limit_sec=LIMIT_SEC)
  assert code == 0, printed
  lines = [json.loads(line) for line in printed.splitlines()]
  return {line.pop('case'): line for line in lines}


def test_idle_pages_are_told_page_by_page():
  told = results('own', 'page_idle')
  assert told.pop('probe') == {'reason': ''}
  assert told.pop('ended') == {'raised': 'ProcessLookupError', 'reason': ''}
  assert len(told) == 10
  for name, case in told.items():
    hot, missed, extra = (np.array(case[key]) for key in ('hot', 'missed', 'extra'))
    assert not missed.any(), (name, case)
    if name in ('huge', 'huge_strided'):
      # A touch of a huge page is a touch of all of it: 8 MiB from 16 MiB on are whole ones.
      assert case['huge_mib'] >= 64, (name, case)
      assert np.all(hot + extra == 2048), (name, case)
    else:
      assert case['huge_mib'] < 4, (name, case)  # what the interpreter may have
      assert extra.max() <= 62, (name, case)  # on a processor's own list: 31 at most on each
    assert max(case['elsewhere']) < 2500, (name, case)  # less than the interpreter has
    assert case['resident_mib'] > 60, (name, case)


def test_damon_finds_the_hot_region_and_leaves_nothing():
  told = results('stock', 'damon')
  assert told.pop('probe') == {'reason': ''}
  etiquette = told.pop('etiquette')
  in_use = 'DAMON is in use by somebody else (1 kdamonds'
  assert etiquette['while_ours'].startswith(in_use)
  assert etiquette['while_theirs'].startswith(in_use)
  assert (etiquette['then'], etiquette['closed']) == (1, 0)
  assert 'damon watches one process at a time' in etiquette['refused']
  assert etiquette['tracer_killed'] == ['1', 'on']
  assert etiquette['target_killed'] == ['1', 'off']
  assert told.pop('ended') == {'raised': 'ProcessLookupError', 'reason': ''}
  assert len(told) == 2
  for name, case in told.items():
    settled = slice(len(case['missed']) // 2, None)  # it looks for its regions first
    assert np.median(case['missed'][settled]) < 0.05 * case['hot'], (name, case)
    assert np.median(case['extra'][settled]) < 0.10 * case['hot'], (name, case)
