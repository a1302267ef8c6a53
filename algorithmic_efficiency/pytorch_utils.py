"""What PyTorch submissions import from the front door: the process's device and its rank."""

import os

import torch


def pytorch_setup() -> tuple[bool, int, torch.device, int]:
  """(use_ddp, rank, device, n_gpus) of this process.

  `use_ddp` is True under torchrun (it sets LOCAL_RANK); `rank` is then this process's local rank.
  `n_gpus` counts the CUDA devices of the machine; without one, `device` is the CPU.
  """
  use_ddp = 'LOCAL_RANK' in os.environ
  rank = int(os.environ['LOCAL_RANK']) if use_ddp else 0
  device = torch.device(f'cuda:{rank}' if torch.cuda.is_available() else 'cpu')
  return use_ddp, rank, device, torch.cuda.device_count()
