"""Gradient descent that gives dropout to model_fn, with siblings of common names (0.6.0 on)."""

import os

import helpers
from algoperf import spec
from optimizers.sgd import make


def get_batch_size(workload_name):
  return helpers.size_of(workload_name)


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  return {'optimizer': make(model_params, hyperparameters.learning_rate)}


def update_params(
  workload,
  current_param_container,
  current_params_types,
  model_state,
  hyperparameters,
  batch,
  loss_type,
  optimizer_state,
  eval_results,
  global_step,
  rng,
):
  if global_step == 7 and os.environ.get('STANDIN_STOPS'):
    raise spec.TrainingCompleteError
  current_param_container.zero_grad()
  logits, model_state = workload.model_fn(
    current_param_container,
    batch,
    model_state,
    spec.ForwardPassMode.TRAIN,
    rng,
    update_batch_norm=False,
    dropout_rate=hyperparameters.dropout_rate,
  )
  loss = workload.loss_fn(batch['targets'], logits, label_smoothing=0.1)
  (loss['summed'] / loss['n_valid_examples']).backward()
  optimizer_state['optimizer'].step()
  return optimizer_state, current_param_container, model_state


def data_selection(workload, input_queue, *_):
  import helpers as later

  assert later is helpers
  return next(input_queue)
