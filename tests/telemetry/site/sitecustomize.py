"""Gives a Python process GPUs that are made here, if FAKE_GPUS says so; see fake_gpus.py."""

import os

if 'FAKE_GPUS' in os.environ:
  import fake_gpus

  fake_gpus.install()
