"""AdamW with warm-up and cosine decay, in PyTorch."""

import torch

from algorithmic_efficiency import spec
from baselines.adamw.defaults import DEFAULTS
from baselines.batches import data_selection, get_batch_size
from baselines.schedules import warmup_cosine

__all__ = ['data_selection', 'get_batch_size', 'init_optimizer_state', 'update_params']


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  """{'optimizer': AdamW, 'scheduler': its learning rate's course}."""
  del model_state, rng
  chosen = hyperparameters or DEFAULTS
  adamw = torch.optim.AdamW(
    model_params.parameters(),
    lr=chosen.learning_rate,
    betas=(1.0 - chosen.one_minus_beta_1, chosen.beta_2),
    weight_decay=chosen.weight_decay,
  )
  scheduler = torch.optim.lr_scheduler.LambdaLR(
    adamw, lambda step: warmup_cosine(step, workload.step_hint, chosen.warmup_fraction)
  )
  return {'optimizer': adamw, 'scheduler': scheduler}


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
  """Returns (optimizer_state, parameters, model_state)."""
  del current_params_types, hyperparameters, loss_type, eval_results, global_step
  optimizer_state['optimizer'].zero_grad(set_to_none=True)
  logits, model_state = workload.model_fn(
    current_param_container,
    batch,
    model_state,
    spec.ForwardPassMode.TRAIN,
    rng,
    update_batch_norm=True,
  )
  loss = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
  (loss['summed'] / loss['n_valid_examples']).backward()
  optimizer_state['optimizer'].step()
  optimizer_state['scheduler'].step()
  return optimizer_state, current_param_container, model_state
