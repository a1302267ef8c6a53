"""This file finds the device that PyTorch runs on, and has what an HPU (Habana Gaudi) needs.

habana_frameworks is imported only where an HPU is asked for or nothing better is there.
"""

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

_torch: Any = torch  # habana_frameworks adds torch.hpu to it
_asked = ['auto']


def choose(asked: str) -> None:
  """PyTorch runs on this from here on: 'cpu', 'cuda' or 'hpu', or the best there is for 'auto'.

  Raises:
    RuntimeError: there is no such device.
    ImportError, OSError: habana_frameworks is there and cannot be imported.
  """
  if asked == 'cuda' and not torch.cuda.is_available():
    raise RuntimeError('torch.cuda.is_available() is false')
  if asked == 'hpu' and not _has_hpu():
    missing = importlib.util.find_spec('habana_frameworks') is None
    raise RuntimeError(
      'habana_frameworks is not installed' if missing else 'torch.hpu.is_available() is false'
    )
  _asked[0] = asked


def chosen() -> str:
  """'cpu', 'cuda' or 'hpu'."""
  if _asked[0] != 'auto':
    return _asked[0]
  if torch.cuda.is_available():
    return 'cuda'
  return 'hpu' if _has_hpu() else 'cpu'


def prepare_hpu() -> None:
  """Has every step of any optimizer end with a mark.

  In lazy mode an HPU collects operations until it meets one; without marks it would collect step
  after step. Outside that mode there is nothing to mark.
  """
  if os.environ.get('PT_HPU_LAZY_MODE') not in ('0', '2'):  # unset, older releases are lazy
    register_optimizer_step_post_hook(lambda *_: _core().mark_step())


def wait_for_hpu() -> None:
  """Returns when the HPU has finished all that was queued, or collected."""
  _core().mark_step()
  _torch.hpu.synchronize()


def name_of_hpu() -> str:
  """For people."""
  return _torch.hpu.get_device_name()


def _has_hpu() -> bool:
  if importlib.util.find_spec('habana_frameworks') is None:
    return False
  _core()
  return bool(_torch.hpu.is_available())


def _core() -> Any:
  return importlib.import_module('habana_frameworks.torch.core')
