"""This file is imported by every Python program that trace_memory.py starts with an agent.

It stands in for a sitecustomize of the user's, which is imported after it.
"""

import importlib.machinery
import importlib.util
import os
import sys

_HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib costs 10 ms


def _import_the_users() -> None:
  elsewhere = [p for p in sys.path if os.path.abspath(p or '.') != _HERE]  # noqa: PTH100
  spec = importlib.machinery.PathFinder.find_spec('sitecustomize', elsewhere)
  if spec is not None and spec.loader is not None:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _start_agent() -> None:
  place = os.path.join(os.path.dirname(_HERE), 'agent.py')  # noqa: PTH118, PTH120
  spec = importlib.util.spec_from_file_location('memory_trace_agent', place)
  assert spec is not None and spec.loader is not None
  agent = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(agent)
  agent.start()


_start_agent()
_import_the_users()
