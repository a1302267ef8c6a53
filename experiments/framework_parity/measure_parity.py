"""Measures how far the two frameworks' cifar networks differ; writes results.csv, prints a table.

  python measure_parity.py            the full ResNet-18, 16 images a batch (some minutes on a CPU)
  python measure_parity.py --smoke    a narrow one

Both start from the same weights and get the same batches. First one forward and backward pass:
logits, loss, gradients, new batch statistics. Then ten steps of plain SGD through the bench's own
model_fn and loss_fn, each framework by its own gradients.
"""

import argparse
import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

import jax
import torch
import weights

from algorithmic_efficiency import frameworks, spec
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.workload import Workload

LEARNING_RATE = 0.02
STEPS = 10
TRAIN = spec.ForwardPassMode.TRAIN


def make_workloads(width: int) -> dict[str, Workload]:
  """cifar on synthetic data in both frameworks."""
  found = registry.find('cifar')
  facts = dataclasses.replace(found.facts, model={**found.facts.model, 'width': width})
  found = dataclasses.replace(found, facts=facts)
  names = ('jax', 'pytorch')
  return {name: Workload(found, frameworks.load(name), synthetic_seed=0) for name in names}


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
  """The norm of the difference over the norm."""
  return float(np.linalg.norm(ours - theirs) / max(np.linalg.norm(theirs), 1e-30))


class Jax:
  """Passes of the flax network."""

  def __init__(self, workload: Workload) -> None:
    self.params, self.state = workload.init_model_fn(0)

    @jax.jit
    def train(params, state, batch):
      def mean_loss(params):
        logits, new = workload.model_fn(params, batch, state, TRAIN, None, True)
        loss = workload.loss_fn(batch['targets'], logits)
        return loss['summed'] / loss['n_valid_examples'], (logits, new)

      return jax.value_and_grad(mean_loss, has_aux=True)(params)

    self._train = train

  def train(self, batch):
    """(loss, logits, gradients); the batch statistics are brought up to date."""
    (loss, (logits, self.state)), gradients = self._train(self.params, self.state, batch)
    return float(loss), np.asarray(logits), gradients

  def step(self, batch) -> float:
    """One step of SGD; the loss before it."""
    loss, _, gradients = self.train(batch)
    self.params = jax.tree.map(lambda p, g: p - LEARNING_RATE * g, self.params, gradients)
    return loss


class PyTorch:
  """Passes of the PyTorch network."""

  def __init__(self, workload: Workload) -> None:
    self.module, _ = workload.init_model_fn(0)
    self._workload = workload
    self._place = frameworks.load('pytorch').place

  def train(self, batch):
    """(loss, logits, gradients by name); the batch statistics are brought up to date."""
    batch = self._place(batch)
    self.module.zero_grad(set_to_none=True)
    logits, _ = self._workload.model_fn(self.module, batch, None, TRAIN, None, True)
    found = self._workload.loss_fn(batch['targets'], logits)
    loss = found['summed'] / found['n_valid_examples']
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in self.module.named_parameters()}
    return loss.item(), logits.detach().numpy(), gradients

  def step(self, batch) -> float:
    """One step of SGD; the loss before it."""
    loss, _, gradients = self.train(batch)
    with torch.no_grad():
      for name, parameter in self.module.named_parameters():
        parameter -= LEARNING_RATE * torch.from_numpy(gradients[name])
    return loss


def measure(width: int, batch_size: int) -> list[dict]:
  """All figures."""
  workloads = make_workloads(width)
  ours, theirs = PyTorch(workloads['pytorch']), Jax(workloads['jax'])
  model = workloads['jax']._model
  example = np.zeros((1, *workloads['jax'].facts.input_shape), np.float32)

  def named(params):
    """A tree of JAX's under PyTorch's names: (of parameters' shape, of the batch statistics)."""
    tree = {'params': params, **theirs.state}
    found = weights.named_like_pytorch(model, tree, ours.module, example)
    trained = {n: found[n] for n, _ in ours.module.named_parameters()}
    return trained, {n: a for n, a in found.items() if n not in trained}

  def distance() -> float:
    expected, _ = named(theirs.params)
    found = dict(ours.module.named_parameters())
    pairs = [(found[name].detach().numpy().ravel(), array.ravel()) for name, array in
             expected.items()]  # fmt: skip
    return relative(*(np.concatenate(side) for side in zip(*pairs, strict=True)))

  weights.copy_to_pytorch(model, {'params': theirs.params, **theirs.state}, ours.module, example)
  queue = workloads['jax'].training_queue(0, batch_size)
  loss, logits, gradients = theirs.train(batch := next(queue))
  our_loss, our_logits, our_gradients = ours.train(batch)
  expected, statistics = named(gradients)
  buffers = {n: b.numpy() for n, b in ours.module.named_buffers()}
  rows = [
    {'figure': 'logits', 'difference': float(abs(our_logits - logits).max())},
    {'figure': 'loss', 'difference': abs(our_loss - loss) / loss},
    {
      'figure': 'gradients, all',
      'difference': relative(
        *(np.concatenate([tree[n].ravel() for n in expected]) for tree in (our_gradients, expected))
      ),
    },
    {
      'figure': 'gradients, worst tensor',
      'difference': max(relative(our_gradients[n], expected[n]) for n in expected),
    },
    {
      'figure': 'batch statistics, worst tensor',
      'difference': max(relative(buffers[n], a) for n, a in statistics.items()),
    },
  ]
  for step in range(STEPS):
    batch = next(queue)
    pair = {'jax': theirs.step(batch), 'pytorch': ours.step(batch)}
    difference = abs(pair['jax'] - pair['pytorch']) / pair['jax']
    rows.append({'figure': f'step {step + 1}', **pair, 'difference': difference})
  rows.append({'figure': 'parameters after the steps', 'difference': distance()})
  return rows


def main() -> None:
  """Measures and writes results.csv."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--smoke', action='store_true')
  parser.add_argument('--output', type=Path, default=HERE / 'results.csv')
  arguments = parser.parse_args()
  rows = measure(4, 8) if arguments.smoke else measure(64, 16)
  with arguments.output.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, ['figure', 'jax', 'pytorch', 'difference'])
    writer.writeheader()
    writer.writerows(rows)
  for row in rows:
    losses = f'{row["jax"]:.7f}  {row["pytorch"]:.7f}' if 'jax' in row else ' ' * 20
    print(f'{row["figure"]:<32} {losses}  {row["difference"]:.1e}')


if __name__ == '__main__':
  main()
