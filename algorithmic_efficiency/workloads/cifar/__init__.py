"""CIFAR-10: 60,000 colour photographs of 32 x 32 pixels and a residual network of 18 layers.

Facts as in AlgoPerf's development workload of the same name (editions 0.5 to 1.0). Training images
are cropped at random and flipped at random; the network keeps the whole image up to its second
stage, having no pooling in its stem.
"""

from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.workloads.facts import Budget, Facts, same_in_every_edition

FACTS = Facts(
  name='cifar',
  summary='ResNet-18 with a small stem on photographs of ten classes, 32 x 32 pixels',
  data='CIFAR-10 (Krizhevsky 2009), 170 MB, read from --data_dir; its author states no licence',
  source='AlgoPerf, editions 0.5 to 1.0',
  loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
  target_metric_name='accuracy',
  validation_target_value=0.85,
  test_target_value=0.85,
  num_train_examples=45_000,
  num_eval_train_examples=5_120,
  num_validation_examples=5_000,
  num_test_examples=10_000,
  eval_batch_size=1024,
  input_shape=(32, 32, 3),
  num_classes=10,
  train_mean=(0.49139968, 0.48215827, 0.44653124),
  train_stddev=(0.24703233, 0.24348505, 0.26158768),
  num_params=11_173_962,
  model={
    'stage_sizes': (2, 2, 2, 2),
    'width': 64,
    'batch_norm_momentum': 0.9,
    'batch_norm_epsilon': 1e-5,
  },
  budgets=same_in_every_edition(
    Budget(max_allowed_runtime_sec=3600, eval_period_time_sec=600, step_hint=4883)
  ),
  expected='85 % within the 4883 steps of the hint; no run on the real images is recorded yet',
)
