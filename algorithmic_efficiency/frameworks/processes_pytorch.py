"""This file is how PyTorch's processes of a run talk. Its neighbour for JAX has the same names.

Every function is called by all processes, or by none; with one process none of them costs a thing.
"""

import importlib
import json
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from algorithmic_efficiency.pytorch_utils import pytorch_setup


def join() -> None:
  """Meets the other processes, if torchrun started this one."""
  use_ddp, _, device, _ = pytorch_setup()
  if not use_ddp or dist.is_initialized():
    return
  if device.type == 'cuda':
    torch.cuda.set_device(device)
    dist.init_process_group('cpu:gloo,cuda:nccl', device_id=device)
  elif device.type == 'hpu':
    importlib.import_module('habana_frameworks.torch.distributed.hccl')  # makes the backend known
    dist.init_process_group('cpu:gloo,hpu:hccl')
  else:
    dist.init_process_group('gloo')


def leave() -> None:
  """Parts from the others once all have come to the end."""
  if dist.is_initialized():
    dist.barrier()
    dist.destroy_process_group()


def count() -> int:
  """Processes of this run."""
  return dist.get_world_size() if dist.is_initialized() else 1


def index() -> int:
  """This process's number, from 0; process 0 writes the record."""
  return dist.get_rank() if dist.is_initialized() else 0


def share(value: Any) -> Any:
  """What process 0 gives, to all of them; anything that JSON can hold."""
  if count() == 1:
    return value
  data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
  size = torch.tensor(len(data))
  dist.broadcast(size, 0)
  sent = data if index() == 0 else torch.empty(int(size), dtype=torch.uint8)
  dist.broadcast(sent, 0)
  return json.loads(sent.numpy().tobytes())


def gather(numbers: list[float]) -> np.ndarray:
  """Every process's numbers: float64 [processes, numbers]."""
  own = torch.tensor(numbers, dtype=torch.float64)
  if count() == 1:
    return own.numpy()[None]
  all_of_them = [torch.empty_like(own) for _ in range(count())]
  dist.all_gather(all_of_them, own)
  return torch.stack(all_of_them).numpy()
