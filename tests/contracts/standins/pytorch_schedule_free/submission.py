"""Schedule-free AdamW: evaluates averaged weights, with batch norm brought up to them (v0.6)."""

import torch
import torch.distributed.nn as dist_nn

from algoperf import spec
from algoperf.pytorch_utils import pytorch_setup

USE_DDP, RANK, DEVICE, N_GPUS = pytorch_setup()
NUM_CACHED = 2


class AdamWScheduleFree(torch.optim.Optimizer):
  """x: the average that is evaluated; z: where Adam is; y: between them, where gradients are."""

  def __init__(self, params, lr, beta1=0.9, beta2=0.999, eps=1e-8, warmup_steps=0):
    defaults = dict(
      lr=lr, beta1=beta1, beta2=beta2, eps=eps, warmup_steps=warmup_steps, k=0,
      train_mode=True, weight_sum=0.0,
    )
    super().__init__(params, defaults)

  @torch.no_grad()
  def eval(self):
    """Puts x into the parameters."""
    for group in self.param_groups:
      if group['train_mode']:
        for p in group['params']:
          if 'z' in self.state[p]:
            p.lerp_(end=self.state[p]['z'], weight=1 - 1 / group['beta1'])
        group['train_mode'] = False

  @torch.no_grad()
  def train(self):
    """Puts y into the parameters."""
    for group in self.param_groups:
      if not group['train_mode']:
        for p in group['params']:
          if 'z' in self.state[p]:
            p.lerp_(end=self.state[p]['z'], weight=1 - group['beta1'])
        group['train_mode'] = True

  @torch.no_grad()
  def step(self, closure=None):
    """One step, in train mode."""
    for group in self.param_groups:
      assert group['train_mode'], 'Not in train mode!'
      k, beta1, beta2 = group['k'], group['beta1'], group['beta2']
      lr = group['lr'] * min(1.0, (k + 1) / max(1, group['warmup_steps']))
      group['weight_sum'] += lr**2
      share = lr**2 / group['weight_sum']
      for p in group['params']:
        state = self.state[p]
        if not state:
          state['z'], state['exp_avg_sq'] = p.clone(), torch.zeros_like(p)
        state['exp_avg_sq'].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        denominator = (state['exp_avg_sq'] / (1 - beta2 ** (k + 1))).sqrt_().add_(group['eps'])
        direction = p.grad / denominator
        p.lerp_(end=state['z'], weight=share)
        p.add_(direction, alpha=lr * (beta1 * (1 - share) - 1))
        state['z'].sub_(direction, alpha=lr)
      group['k'] = k + 1


def get_batch_size(workload_name):
  sizes = {'digits': 64, 'mnist': 64, 'cifar': 128}
  if workload_name not in sizes:
    raise ValueError(f'Unsupported workload name: {workload_name}.')
  return sizes[workload_name]


def init_optimizer_state(workload, model_params, model_state, hyperparameters, rng):
  del model_state, rng
  optimizer = AdamWScheduleFree(
    model_params.parameters(),
    lr=hyperparameters.learning_rate,
    beta1=1.0 - hyperparameters.one_minus_beta1,
    warmup_steps=int(hyperparameters.warmup_factor * workload.step_hint),
  )
  return {'optimizer': optimizer, 'max_coeff': 1.0, 'calls': 0, 'cached': []}


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
  train_state=None,
):
  del current_params_types, loss_type, eval_results, train_state, hyperparameters, global_step
  optimizer_state['calls'] += 1
  optimizer_state['cached'] = [*optimizer_state['cached'], batch][-NUM_CACHED:]
  optimizer = optimizer_state['optimizer']
  optimizer.train()
  optimizer.zero_grad()
  logits, new_model_state = workload.model_fn(
    params=current_param_container,
    augmented_and_preprocessed_input_batch=batch,
    model_state=model_state,
    mode=spec.ForwardPassMode.TRAIN,
    rng=rng,
    update_batch_norm=True,
  )
  loss_dict = workload.loss_fn(batch['targets'], logits, batch.get('weights'))
  summed_loss, n_valid_examples = loss_dict['summed'], loss_dict['n_valid_examples']
  if USE_DDP:
    summed_loss = dist_nn.all_reduce(summed_loss)
    n_valid_examples = dist_nn.all_reduce(n_valid_examples)
  (summed_loss / n_valid_examples).backward()
  optimizer.step()
  return optimizer_state, current_param_container, new_model_state


def prepare_for_eval(
  workload,
  current_param_container,
  current_params_types,
  model_state,
  hyperparameters,
  loss_type,
  optimizer_state,
  eval_results,
  global_step,
  rng,
):
  del current_params_types, hyperparameters, loss_type, eval_results, global_step
  optimizer_state['optimizer'].eval()
  current_model = current_param_container
  norms = [
    m for m in current_model.modules()
    if isinstance(m, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.SyncBatchNorm))
  ]
  if norms:
    momenta = [m.momentum for m in norms]
    for m in norms:
      m.reset_running_stats()
      m.momentum = None  # a plain average over the batches below
    with torch.no_grad():
      for batch in optimizer_state['cached']:
        workload.model_fn(
          current_model, batch, model_state, spec.ForwardPassMode.TRAIN, rng, update_batch_norm=True
        )
    for m, momentum in zip(norms, momenta):
      m.momentum = momentum
  return optimizer_state, current_model, model_state


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
  return next(input_queue)
