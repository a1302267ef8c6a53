"""Tests of the sums that a classification is scored by."""

import numpy as np
import pytest

from algorithmic_efficiency.workloads.classification import summed_metrics

LOGITS = np.float32([[3, 1, 0], [0, 2, 5], [1, 4, 1], [9, 0, 0]])
TARGETS = np.int32([0, 1, 1, 0])
LOSSES = np.float32([0.25, 4.0, 0.5, 8.0])


def test_examples_are_counted_that_are_right_and_not_padding():
  sums = summed_metrics(LOGITS, TARGETS, LOSSES, np.float32([1, 1, 1, 0]))
  assert sums == {'accuracy': 2.0, 'loss': 4.75}


def test_padding_alone_adds_nothing():
  assert summed_metrics(LOGITS, TARGETS, LOSSES, np.zeros(4)) == {'accuracy': 0.0, 'loss': 0.0}


def test_the_sums_are_plain_floats_and_sums_of_parts_are_sums_of_the_whole():
  draw = np.random.default_rng(2)
  logits, losses = draw.standard_normal((50, 7)), draw.random(50)
  targets, weights = draw.integers(0, 7, 50), draw.integers(0, 2, 50).astype(np.float32)
  whole = summed_metrics(logits, targets, losses, weights)
  parts = [
    summed_metrics(logits[i : i + 9], targets[i : i + 9], losses[i : i + 9], weights[i : i + 9])
    for i in range(0, 50, 9)
  ]
  for name, value in whole.items():
    assert type(value) is float
    assert value == pytest.approx(sum(part[name] for part in parts), rel=1e-6)


def test_a_million_losses_in_single_precision_are_summed_without_drift():
  count = 1_000_000
  losses = np.full(count, 0.1, np.float32)
  sums = summed_metrics(
    np.ones((count, 1)), np.zeros(count, int), losses, np.ones(count, np.float32)
  )
  assert sums['loss'] == pytest.approx(count * float(np.float32(0.1)), rel=1e-9)


def test_a_loss_that_is_no_number_is_not_hidden():
  losses = np.float32([0.25, np.nan, 0.5, 8.0])
  assert np.isnan(summed_metrics(LOGITS, TARGETS, losses, np.ones(4))['loss'])
