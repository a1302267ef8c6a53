"""U-Net: slices of magnetic resonance images of the brain, and where in them the tumour is.

The network is the one that is usual for the public set of lower-grade gliomas ("LGG MRI
segmentation", M. Buda and others; 110 patients, 3,929 slices): four levels, batch norm, 32 features
at the top. Slices are read from pairs of files, an image and its mask (see dataset.py), and made
64 x 64 pixels large; a variant with another `input_shape` and `target_shape` reads them at another
size, a multiple of 16.

The loss is the Dice loss of each slice, 1 - (2 * overlap + 1) / (sum of both + 1), on
probabilities. The metric `dice` is the mean over slices of 2 * overlap / (sum of both) between the
mask and where the probability is above one half; it is 1 where both are empty. In the public set
about two slices of three show no tumour: whoever always answers "nothing" reaches about 0.65.
"""

from algorithmic_efficiency.spec import LossType
from algorithmic_efficiency.workloads.facts import Budget, Facts, same_in_every_edition

FACTS = Facts(
  name='unet',
  summary='U-Net of four levels with batch norm on slices of brain images, 64 x 64 pixels',
  data='pairs of images and masks, such as the LGG MRI segmentation set, read from --data_dir',
  source='this project; the network is that of the public model of the LGG set',
  loss_type=LossType.SIGMOID_CROSS_ENTROPY,  # the API has no name for the Dice loss
  loss_name='dice',
  target_metric_name='dice',
  # Our own targets: the public model of this data set reaches about 0.9.
  validation_target_value=0.8,
  test_target_value=0.8,
  # Of the public set, were all its patients alike; what a folder really has is counted there.
  num_train_examples=3143,
  num_eval_train_examples=393,
  num_validation_examples=393,
  num_test_examples=393,
  eval_batch_size=256,
  input_shape=(64, 64, 3),
  target_shape=(64, 64, 1),
  num_classes=1,
  num_params=7_763_041,
  model={
    'widths': (32, 64, 128, 256, 512),
    'batch_norm_momentum': 0.9,
    'batch_norm_epsilon': 1e-5,
  },
  budgets=same_in_every_edition(
    Budget(max_allowed_runtime_sec=1800, eval_period_time_sec=60, step_hint=2500)
  ),
  expected='50 epochs of batches of 64 are the hint; no run on the real slices is recorded yet',
)
