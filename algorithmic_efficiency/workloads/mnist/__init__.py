"""MNIST: 70,000 handwritten digits of 28 x 28 pixels and a perceptron with one hidden layer.

Facts as in AlgoPerf's development workload of the same name (editions 0.5 to 1.0). A good run of
Adam at batch 1024 reaches 97 % on both splits in about ten epochs: some seconds on two CPU cores.
"""

from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.workloads.facts import Budget, Facts, same_in_every_edition

FACTS = Facts(
  name='mnist',
  summary='perceptron 784-128-10 with sigmoid on handwritten digits, 28 x 28 pixels',
  data='MNIST (LeCun, Cortes, Burges), 12 MB, downloaded or read from --data_dir; CC BY-SA 3.0',
  source='AlgoPerf, editions 0.5 to 1.0',
  loss_type=LossType.SOFTMAX_CROSS_ENTROPY,
  target_metric_name='accuracy',
  validation_target_value=0.97,
  test_target_value=0.97,
  num_train_examples=50_000,
  num_eval_train_examples=10_000,
  num_validation_examples=10_000,
  num_test_examples=10_000,
  eval_batch_size=10_000,
  input_shape=(28, 28, 1),
  num_classes=10,
  train_mean=0.1307,
  train_stddev=0.3081,
  num_params=101_770,
  torch_compile_off='so small a model is trained before it is compiled',
  model={'hidden': 128, 'activation': 'sigmoid'},
  budgets=same_in_every_edition(
    Budget(max_allowed_runtime_sec=60, eval_period_time_sec=10, step_hint=7813)
  ),
  expected='97 % after about ten epochs of Adam',
)
