"""An HPU that is the CPU: what is put on it stays where it is, and what is asked of it is counted.

The counts are written as JSON to the file named by STANDIN_HABANA_LOG, whenever one changes.
STANDIN_HABANA_DEVICES=0 is a machine without one.
"""

import json
import os
import types
from pathlib import Path
from typing import Any

import torch

counts: dict[str, int] = {}


def count(name: str) -> None:
  """One more of these."""
  counts[name] = counts.get(name, 0) + 1
  if 'STANDIN_HABANA_LOG' in os.environ:
    Path(os.environ['STANDIN_HABANA_LOG']).write_text(json.dumps(counts))


hpu = types.ModuleType('torch.hpu')
hpu.is_available = lambda: os.environ.get('STANDIN_HABANA_DEVICES') != '0'
hpu.synchronize = lambda: count('synchronize')
hpu.get_device_name = lambda: 'GAUDI STANDIN'
torch.hpu = hpu

_to = torch.Tensor.to


def _to_cpu(self: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
  where = [*arguments, *options.values()]
  if any(isinstance(each, torch.device) and each.type == 'hpu' for each in where):
    count('moved')
    arguments = tuple(_cpu_for_hpu(each) for each in arguments)
    options = {name: _cpu_for_hpu(each) for name, each in options.items()}
  return _to(self, *arguments, **options)


def _cpu_for_hpu(argument: Any) -> Any:
  is_hpu = isinstance(argument, torch.device) and argument.type == 'hpu'
  return torch.device('cpu') if is_hpu else argument


torch.Tensor.to = _to_cpu
