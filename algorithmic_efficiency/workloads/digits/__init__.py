"""Digits: 1,797 handwritten digits of 8 x 8 pixels, inside the package, and a small perceptron.

The workload that needs nothing: real data, a real target, seconds to reach it. The images are the
test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI repository,
1998, CC BY 4.0) as scikit-learn's `load_digits` has them, in one fixed random order.
"""

from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.workloads.facts import Budget, Facts, same_in_every_edition

FACTS = Facts(
  name='digits',
  summary='perceptron 64-128-10 with ReLU on handwritten digits, 8 x 8 pixels',
  data='UCI Optical Recognition of Handwritten Digits, inside the package; CC BY 4.0',
  source='this project',
  loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
  target_metric_name='accuracy',
  validation_target_value=0.97,
  test_target_value=0.96,
  num_train_examples=1197,
  num_eval_train_examples=300,
  num_validation_examples=300,
  num_test_examples=300,
  eval_batch_size=300,
  input_shape=(8, 8, 1),
  num_classes=10,
  train_mean=0.305,
  train_stddev=0.376,
  num_params=9_610,
  torch_compile_off='so small a model is trained before it is compiled',
  model={'hidden': 128, 'activation': 'relu'},
  budgets=same_in_every_edition(
    Budget(max_allowed_runtime_sec=60, eval_period_time_sec=0.5, step_hint=2_000)
  ),
  expected='both targets within 30 epochs of Adam at a learning rate of 1e-3',
)
