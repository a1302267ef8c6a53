"""What PyTorch submissions import from the front door: the process's device and its rank."""

import os

import torch

from algorithmic_efficiency.frameworks import devices_pytorch


def pytorch_setup() -> tuple[bool, int, torch.device, int]:
  """(use_ddp, rank, device, n_gpus) of this process.

  `use_ddp` is True under torchrun (it sets LOCAL_RANK); `rank` is then this process's local rank.
  `device` is the kind that --device names, or a CUDA device, an HPU or the CPU, whichever of them
  is there first. `n_gpus` counts the CUDA devices of the machine, 0 if the run uses none.
  """
  use_ddp = 'LOCAL_RANK' in os.environ
  rank = int(os.environ['LOCAL_RANK']) if use_ddp else 0
  kind = devices_pytorch.chosen()
  if kind == 'cuda':
    return use_ddp, rank, torch.device(f'cuda:{rank}'), torch.cuda.device_count()
  return use_ddp, rank, torch.device(kind), 0
