"""The command that lists and describes workloads; needs no framework.

python3 -m algorithmic_efficiency.workloads          lists them
python3 -m algorithmic_efficiency.workloads mnist    describes one
"""

import sys
from collections.abc import Iterable

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.workloads import registry
from algorithmic_efficiency.workloads.facts import Facts


def list_all() -> Iterable[str]:
  """A line a workload."""
  found = registry.find_all()
  width = max(map(len, found))
  for name, workload in sorted(found.items()):
    yield f'{name:<{width}}  {workload.facts.summary}'


def describe(facts: Facts) -> Iterable[str]:
  """All that is known of a workload, for people."""
  sense = 'at most' if facts.lower_is_better else 'at least'
  targets = f'{sense} {facts.validation_target_value:g} on validation'
  if facts.test_target_value is not None:
    targets += f', {facts.test_target_value:g} on test'
  shape = ' x '.join(map(str, facts.input_shape))
  mask = ' x '.join(map(str, facts.target_shape))
  targets_of_one = f'masks {mask}' if mask else f'{facts.num_classes} classes'
  rows = {
    'workload': f'{facts.name}: {facts.summary}',
    'parameters': f'{facts.num_params:,}',
    'data': facts.data,
    'inputs': f'{shape}, {targets_of_one}',
    'examples': (
      f'{facts.num_train_examples:,} training, {facts.num_validation_examples:,} validation, '
      f'{facts.num_test_examples or 0:,} test'
    ),
    'loss': facts.loss_name or facts.loss_type.name.lower().replace('_', ' '),
    'target': f'{facts.target_metric_name} {targets}',
    'a good run': facts.expected,
    'facts from': facts.source,
  }
  for name, text in rows.items():
    yield f'{name:<12}{text}'
  yield f'{"edition":<12}{"budget [s]":>12}{"evaluation every [s]":>22}{"step hint":>12}'
  for edition, budget in facts.budgets.items():
    yield (
      f'{edition:<12}{budget.max_allowed_runtime_sec:>12g}{budget.eval_period_time_sec:>22g}'
      f'{budget.step_hint:>12,}'
    )


def main(arguments: list[str]) -> int:
  """Prints the list, or the description of the workload named; returns the exit code."""
  try:
    if len(arguments) > 1 or (arguments and arguments[0].startswith('-')):
      raise UsageError('Give no argument to list the workloads, or the name of one to describe it.')
    lines = describe(registry.find(arguments[0]).facts) if arguments else list_all()
    sys.stdout.write('\n'.join(lines) + '\n')
  except UsageError as error:
    sys.stderr.write(f'workloads: error: {error}\n')
    return 2
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
