"""This file tells a person at the terminal what is about to run and what came of it."""

import logging
from typing import Any

_log = logging.getLogger(__name__)


def announce(study: Any) -> None:
  """A few lines before the first step."""
  plan, workload = study.plan, study.workload
  facts = workload.facts
  better = 'at most' if facts.lower_is_better else 'at least'
  test = '' if facts.test_target_value is None else f', test {facts.test_target_value:g}'
  _log.info(
    '%s in %s on %s: %s', facts.name, plan.framework, study.framework.describe_devices(),
    facts.summary,
  )  # fmt: skip
  _log.info(
    'target: %s %s %g on validation%s; budget %g s a trial; data: %s',
    facts.target_metric_name, better, facts.validation_target_value, test,
    workload.max_allowed_runtime_sec, workload.data_source(),
  )  # fmt: skip
  _log.info(
    '%d of %d trials, batch size %d, seed %d; record: %s',
    len(plan.trials), plan.num_trials, study.batch_size, plan.seed, plan.folder.path,
  )  # fmt: skip


def summarize(study: Any, outcomes: list[dict[str, Any]]) -> None:
  """A table of the trials and where their record is."""
  metric = study.workload.target_metric_name
  _log.info('')
  _log.info('%5s  %-9s  %5s  %9s  %10s  %s', 'trial', 'status', 'goal', 'step', 'time [s]', metric)
  for outcome in outcomes:
    last = outcome['last_evaluation']
    value = last.get(f'validation/{metric}')
    _log.info(
      '%5d  %-9s  %5s  %9s  %10s  %s', outcome['run_idx'], outcome['status'],
      'yes' if outcome['goal_reached'] else 'no', f'{outcome["global_step"]:,}',
      '-' if 'score' not in last else f'{last["score"]:.2f}',
      '-' if value is None else f'{value:.4f}',
    )  # fmt: skip
  stood = [o['memory_traced']['left_out_sec'] for o in outcomes if 'memory_traced' in o]
  if stood:
    _log.info('memory was traced: %.1f s that the process stood still are in no time.', sum(stood))
  profiled = [str(o['run_idx']) for o in outcomes if o.get('profiled', {}).get('steps_traced')]
  if profiled:
    which = f'trial {profiled[0]}' if len(profiled) == 1 else f'trials {", ".join(profiled)}'
    _log.info('the time of %s is that of a profiled run, not a score to compare.', which)
  for outcome in outcomes:
    if outcome['status'] == 'failed':
      _log.warning('trial %d failed: %s.', outcome['run_idx'], outcome['reason'].rstrip('.'))
  _log.info('record: %s', study.plan.folder.path)
