"""The baselines as a user runs them: to the target, stopped and gone on with, on two devices."""

import csv
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest
import torch
from conftest import ROOT
from run_standins import settings_of, stopped_and_gone_on_with

from algorithmic_efficiency import frameworks
from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.runner.seeds import TrialSeeds
from algorithmic_efficiency.runner.study import Study
from algorithmic_efficiency.spec import ForwardPassMode
from algorithmic_efficiency.submissions import loader
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.workload import Workload

NAMES = sorted(path.parent.name for path in (ROOT / 'baselines').glob('*/defaults.py'))
SAME = ('train/', 'validation/', 'test/', 'global_step')

pytestmark = pytest.mark.slow
each_baseline = pytest.mark.parametrize('name', NAMES)
each_framework = pytest.mark.parametrize('framework', ['jax', 'pytorch'])


def of(name, framework):
  return ROOT / 'baselines' / name / framework / 'submission.py'


def tuned_by_itself(command, name, framework, **flags):
  return command.arguments(
    framework,
    submission_path=of(name, framework),
    tuning_ruleset='self',
    tuning_search_space=None,
    **flags,
  )


@each_framework
@each_baseline
def test_a_baseline_reaches_the_target_by_its_defaults(name, framework, command):
  line = tuned_by_itself(command, name, framework, max_global_steps=2000, eval_period_steps=10)
  done = subprocess.run(line, capture_output=True, text=True, timeout=200)
  assert done.returncode == 0, done.stderr + done.stdout
  last = command.rows(f'digits_{framework}')[-1]
  print(f'{name} in {framework}: {last["global_step"]} steps')
  assert float(last['validation/accuracy']) >= 0.97, last
  assert float(last['test/accuracy']) >= 0.96, last
  # All take 60 to 400; a schedule of 2,000 that is hardly begun must do.
  assert int(last['global_step']) <= 800


def rows_of(study):
  (outcome,) = study.run()
  assert outcome['status'] == 'complete', outcome['reason']
  with study.plan.folder.trial(0).metrics_csv.open(newline='') as file:
    rows = list(csv.DictReader(file))
  return [{k: v for k, v in row.items() if k.startswith(SAME)} for row in rows], outcome


@each_framework
@each_baseline
def test_a_baseline_that_was_stopped_goes_on_to_the_last_digit(name, framework, tmp_path):
  given = {
    'submission_path': str(of(name, framework)),
    'max_global_steps': 24,
    'eval_period_steps': 4,
  }
  straight = settings_of(f'{framework}_', tmp_path / 'straight', **given)
  undisturbed, _ = rows_of(Study(settings.check(straight)))
  # In the step before an evaluation: at the next of them all of the state has been used.
  resumed = stopped_and_gone_on_with(f'{framework}_', tmp_path / 'stopped', 12, **given)
  rows, outcome = rows_of(resumed)
  assert outcome['preemptions'][0]['global_step'] == 13
  assert [row['global_step'] for row in rows] == ['1', '4', '8', '12', '16', '20', '24']
  assert rows == undisturbed


@each_framework
@pytest.mark.parametrize('name', ['muon', 'sam', 'schedule_free_adamw', 'shampoo'])
def test_two_devices_learn_what_one_learns(name, framework, command):
  """A step's gradient is that of the whole batch, however many devices share it."""
  losses = []
  for count in (1, 2):
    line = tuned_by_itself(
      command, name, framework, max_global_steps=6, log_dir=command.log_dir / str(count)
    )
    environment = dict(os.environ)
    if count > 1 and framework == 'pytorch':
      line[:1] = [sys.executable, '-m', 'torch.distributed.run', '--standalone',
                  f'--nproc_per_node={count}']  # fmt: skip
    elif count > 1:
      environment['XLA_FLAGS'] += f' --xla_force_host_platform_device_count={count}'
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    folder = command.log_dir / str(count) / f'digits_{framework}'
    metadata = json.loads((folder / 'metadata.json').read_text())
    with (folder / 'run_1' / 'metrics.csv').open(newline='') as file:
      *_, last = csv.DictReader(file)
    losses.append([float(last[f'{split}/loss']) for split in ('train', 'test')])
    assert last['global_step'] == '6', metadata
  # torch's Muon rounds to 8 bits, which may fall either way.
  assert losses[0] == pytest.approx(losses[1], rel=1e-2 if name == 'muon' else 1e-4)


def losses(name, framework, weights, steps=40):
  """(training loss by step, the weights at the start); these by layer, or None to draw them."""
  loaded = frameworks.load(framework)
  workload = Workload(registry.find('digits'), loaded)
  seeds, submission = TrialSeeds(5, loaded.keys), loader.load(of(name, framework))
  params, model_state = workload.init_model_fn(seeds.model)
  if weights is None:
    weights = [jax.device_get(params[layer]) for layer in ('Dense_0', 'Dense_1')]
  else:
    for layer, one in zip((params.hidden, params.output), weights, strict=True):
      layer.weight.data[:] = torch.tensor(one['kernel'].T)
      layer.bias.data[:] = torch.tensor(one['bias'])
  run = SimpleNamespace(params=params, model_state=model_state, param_types=None, eval_results=[])
  submission.start(workload, run, None, seeds.optimizer)
  queue, found = workload.training_queue(seeds.data, submission.get_batch_size('digits')), []
  for run.global_step in range(steps):
    batch, (_, rng, _) = next(queue), seeds.of_step(run.global_step)
    logits, _ = workload.model_fn(
      run.params, batch, run.model_state, ForwardPassMode.EVAL, None, False
    )
    loss = workload.loss_fn(batch['targets'], logits)
    found.append(float(loss['summed']) / float(loss['n_valid_examples']))
    submission.update(workload, run, None, batch, rng)
  return found, weights


@each_baseline
def test_from_the_same_weights_both_frameworks_have_the_same_losses(name, monkeypatch):
  monkeypatch.syspath_prepend(ROOT)
  in_jax, weights = losses(name, 'jax', None)
  in_pytorch, _ = losses(name, 'pytorch', weights)
  assert in_jax[-1] < 0.5 * in_jax[0]
  worst = max(abs(a - b) for a, b in zip(in_jax, in_pytorch, strict=True))
  print(f'{name}: losses from {in_jax[0]:.3f} to {in_jax[-1]:.3f} differ by {worst:.1e} at most')
  assert worst < (5e-3 if name == 'muon' else 1e-4)
