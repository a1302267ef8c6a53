"""This file is what the baselines share about data: batch sizes and the choice of a batch."""

BATCH_SIZES = {'cifar': 128, 'digits': 64, 'mnist': 1024, 'unet': 64}


def get_batch_size(workload_name):
  """Examples in a batch, over all devices. ValueError for a workload nobody has tried."""
  if workload_name not in BATCH_SIZES:
    raise ValueError(
      f'no batch size is known for {workload_name!r}; there are {", ".join(BATCH_SIZES)}'
    )
  return BATCH_SIZES[workload_name]


def data_selection(
  workload,
  input_queue,
  optimizer_state,
  current_param_container,
  model_state,
  hyperparameters,
  global_step,
  rng,
):
  """The next batch, as it comes."""
  del workload, optimizer_state, current_param_container, model_state
  del hyperparameters, global_step, rng
  return next(input_queue)
