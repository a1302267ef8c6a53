"""Networks small enough for tests: the full ones of cifar and unet take a CPU seconds a step."""

import dataclasses

from algorithmic_efficiency.workloads import cifar, unet

NUM_PARAMS = 44_622  # of the ResNet-18 that has 4 channels where cifar's has 64
UNET_WIDTHS = (4, 6, 8)  # two levels instead of four
UNET_NUM_PARAMS = 3_619


def make_cifar_narrow() -> object:
  """From here on cifar's network is narrow in this process; returns the facts it had."""
  facts = cifar.FACTS
  model = {**facts.model, 'width': 4}
  cifar.FACTS = dataclasses.replace(facts, model=model, num_params=NUM_PARAMS)
  return facts


def make_unet_narrow() -> object:
  """The same of unet, whose images are 16 x 16 pixels then."""
  facts = unet.FACTS
  unet.FACTS = dataclasses.replace(
    facts,
    model={**facts.model, 'widths': UNET_WIDTHS},
    input_shape=(16, 16, 3),
    target_shape=(16, 16, 1),
    num_params=UNET_NUM_PARAMS,
  )
  return facts
