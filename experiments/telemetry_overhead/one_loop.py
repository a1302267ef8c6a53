"""Trains a small network in a loop beside a sampler that is stopped every other second.

  python one_loop.py FRAMEWORK BLOCKS FILE

Prints pairs of steps a second as JSON: with the sampler at 10 Hz, and with it stopped.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK_SEC = 1.0
BATCH, WIDTH = 256, 512


def main() -> None:
  """Runs the loop."""
  framework, blocks, file = sys.argv[1:]
  step = {'jax': step_of_jax, 'pytorch': step_of_pytorch}[framework]()
  for _ in range(20):
    step()
  sampler = subprocess.Popen(
    [sys.executable, '-m', 'algorithmic_efficiency.telemetry.sidecar', f'--file={file}', '--hz=10',
     f'--parent={os.getpid()}', f'--devices={",".join(f"gpu.{i}" for i in range(8))}'],
    cwd=ROOT,
  )  # fmt: skip
  time.sleep(2)
  draw = random.Random(0)
  pairs = []
  for _ in range(int(blocks)):
    order = [signal.SIGCONT, signal.SIGSTOP]
    draw.shuffle(order)
    rates = {}
    for signum in order:
      sampler.send_signal(signum)
      rates[signum] = rate(step)
    pairs.append((rates[signal.SIGCONT], rates[signal.SIGSTOP]))
  sampler.send_signal(signal.SIGCONT)
  sampler.terminate()
  sampler.wait()
  print(json.dumps(pairs))


def rate(step: Callable[[], Any]) -> float:
  """Steps a second, over a block."""
  count, began = 0, time.perf_counter()
  while time.perf_counter() - began < BLOCK_SEC:
    step()
    count += 1
  return count / (time.perf_counter() - began)


def step_of_jax() -> Callable[[], Any]:
  """A compiled step of SGD on a perceptron."""
  import jax
  import jax.numpy as jnp

  draw = jax.random.key(0)
  x = jax.random.normal(draw, (BATCH, WIDTH))
  params = [jax.random.normal(draw, (WIDTH, WIDTH)) / WIDTH for _ in range(3)]

  def loss(weights: Any) -> Any:
    y = x
    for weight in weights:
      y = jnp.maximum(y @ weight, 0)
    return (y**2).mean()

  update = jax.jit(lambda w: [a - 1e-3 * g for a, g in zip(w, jax.grad(loss)(w), strict=True)])
  state = [params]

  def step() -> None:
    state[0] = jax.block_until_ready(update(state[0]))

  return step


def step_of_pytorch() -> Callable[[], Any]:
  """The same in PyTorch."""
  import torch

  x = torch.randn(BATCH, WIDTH)
  layers = [m for _ in range(3) for m in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.ReLU())]
  model = torch.nn.Sequential(*layers)
  optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

  def step() -> None:
    optimizer.zero_grad()
    (model(x) ** 2).mean().backward()
    optimizer.step()

  return step


if __name__ == '__main__':
  main()
