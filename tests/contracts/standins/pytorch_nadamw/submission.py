"""NadamW under DistributedDataParallel, dropout given when the model is built (v0.5)."""

import math
from typing import Any, Dict, Iterator, List, Tuple

from absl import logging
import torch
import torch.distributed.nn as dist_nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.lr_scheduler import LinearLR
from torch.optim.lr_scheduler import SequentialLR

from algorithmic_efficiency import spec
from algorithmic_efficiency.pytorch_utils import pytorch_setup

USE_DDP, RANK, DEVICE, N_GPUS = pytorch_setup()


class NAdamW(torch.optim.Optimizer):
  """Adam with Nesterov momentum and decoupled weight decay."""

  def __init__(self, params, lr=1e-3, betas=(0.9, 0.99), eps=1e-8, weight_decay=1e-2):
    if not 0.0 <= lr:
      raise ValueError(f'Invalid learning rate: {lr}')
    super().__init__(params, {'lr': lr, 'betas': betas, 'eps': eps, 'weight_decay': weight_decay})

  @torch.no_grad()
  def step(self, closure=None):
    """One step."""
    self._cuda_graph_capture_health_check()
    for group in self.param_groups:
      beta1, beta2 = group['betas']
      for param in group['params']:
        if param.grad is None:
          continue
        state = self.state[param]
        if len(state) == 0:
          state['step'] = torch.tensor(0.0)
          state['exp_avg'] = torch.zeros_like(param, memory_format=torch.preserve_format)
          state['exp_avg_sq'] = torch.zeros_like(param, memory_format=torch.preserve_format)
        state['step'] += 1
        step = state['step'].item()
        param.mul_(1 - group['lr'] * group['weight_decay'])
        state['exp_avg'].mul_(beta1).add_(param.grad, alpha=1 - beta1)
        state['exp_avg_sq'].mul_(beta2).addcmul_(param.grad, param.grad, value=1 - beta2)
        ahead = beta1 * state['exp_avg'] + (1 - beta1) * param.grad
        denominator = state['exp_avg_sq'].sqrt() / math.sqrt(1 - beta2**step) + group['eps']
        param.addcdiv_(ahead, denominator, value=-group['lr'] / (1 - beta1**step))


def init_optimizer_state(
  workload: spec.Workload,
  model_params: spec.ParameterContainer,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  rng: spec.RandomState,
) -> spec.OptimizerState:
  """{'optimizer', 'scheduler'}."""
  del model_state
  torch.manual_seed(rng[0])
  optimizer = NAdamW(
    model_params.parameters(),
    lr=hyperparameters.learning_rate,
    betas=(1.0 - hyperparameters.one_minus_beta1, 0.99),
    weight_decay=hyperparameters.weight_decay,
  )
  warmup_steps = max(1, int(hyperparameters.warmup_factor * workload.step_hint))
  warmup = LinearLR(optimizer, start_factor=1e-1, end_factor=1.0, total_iters=warmup_steps)
  cosine = CosineAnnealingLR(optimizer, T_max=max(workload.step_hint - warmup_steps, 1))
  scheduler = SequentialLR(optimizer, schedulers=[warmup, cosine], milestones=[warmup_steps])
  return {'optimizer': optimizer, 'scheduler': scheduler}


def update_params(
  workload: spec.Workload,
  current_param_container: spec.ParameterContainer,
  current_params_types: spec.ParameterTypeTree,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  batch: Dict[str, spec.Tensor],
  loss_type: spec.LossType,
  optimizer_state: spec.OptimizerState,
  eval_results: List[Tuple[int, float]],
  global_step: int,
  rng: spec.RandomState,
) -> spec.UpdateReturn:
  """(optimizer_state, params, model_state)."""
  del current_params_types, loss_type, eval_results
  current_model = current_param_container
  current_model.train()
  optimizer_state['optimizer'].zero_grad()
  logits_batch, new_model_state = workload.model_fn(
    params=current_model,
    augmented_and_preprocessed_input_batch=batch,
    model_state=model_state,
    mode=spec.ForwardPassMode.TRAIN,
    rng=rng,
    update_batch_norm=True,
  )
  loss_dict = workload.loss_fn(
    label_batch=batch['targets'],
    logits_batch=logits_batch,
    mask_batch=batch.get('weights'),
    label_smoothing=getattr(hyperparameters, 'label_smoothing', 0.0),
  )
  summed_loss = loss_dict['summed']
  n_valid_examples = loss_dict['n_valid_examples']
  if USE_DDP:
    # Use dist_nn.all_reduce to ensure correct loss and gradient scaling.
    summed_loss = dist_nn.all_reduce(summed_loss)
    n_valid_examples = dist_nn.all_reduce(n_valid_examples)
  loss = summed_loss / n_valid_examples
  loss.backward()
  if hasattr(hyperparameters, 'grad_clip'):
    torch.nn.utils.clip_grad_norm_(
      current_model.parameters(), max_norm=hyperparameters.grad_clip
    )
  optimizer_state['optimizer'].step()
  optimizer_state['scheduler'].step()
  if global_step <= 100 or global_step % 500 == 0:
    with torch.no_grad():
      norms = [torch.norm(p.grad.detach(), 2) for p in current_model.parameters()]
      grad_norm = torch.norm(torch.stack(norms), 2)
    if workload.metrics_logger is not None:
      workload.metrics_logger.append_scalar_metrics(
        {'loss': loss.item(), 'grad_norm': grad_norm.item()}, global_step
      )
    logging.info('%d) loss = %0.3f, grad_norm = %0.3f', global_step, loss.item(), grad_norm.item())
  return (optimizer_state, current_param_container, new_model_state)


def get_batch_size(workload_name):
  """Examples in a batch over all devices."""
  if workload_name in ('digits', 'mnist'):
    return 64
  elif workload_name == 'cifar':
    return 128
  raise ValueError(f'Unsupported workload name: {workload_name}.')


def data_selection(
  workload: spec.Workload,
  input_queue: Iterator[Dict[str, Any]],
  optimizer_state: spec.OptimizerState,
  current_param_container: spec.ParameterContainer,
  model_state: spec.ModelAuxiliaryState,
  hyperparameters: spec.Hyperparameters,
  global_step: int,
  rng: spec.RandomState,
) -> Dict[str, spec.Tensor]:
  """The next batch."""
  return next(input_queue)
