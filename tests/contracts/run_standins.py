"""Runs several stand-ins one after another in this process, or in each of several that meet.

  python run_standins.py FOLDER STANDIN… STANDIN:cifar…

Their records go to FOLDER/<stand-in>. On cifar the network is narrow. One process for all, since
most of the time of a short run is that of imports.
"""

import signal
import sys
from pathlib import Path
from typing import Any

from algorithmic_efficiency.runner import settings
from algorithmic_efficiency.runner.interrupts import Interrupted
from algorithmic_efficiency.runner.study import Study

STANDINS = Path(__file__).parent / 'standins'
ON_CIFAR = {
  'workload': 'cifar',
  'data': 'synthetic',
  'batch_size': 16,
  'max_global_steps': 3,
  'eval_period_steps': 1,  # steps between evaluations find the network as they left it
}


def settings_of(standin: str, folder: Path, **changes: object) -> settings.Settings:
  """What the command would be given: its own search space, or self-tuning without one."""
  space = STANDINS / standin / 'tuning_search_space.json'
  values: dict[str, object] = {
    **dict.fromkeys(settings.Settings.__dataclass_fields__),
    'workload': 'digits',
    'framework': standin.partition('_')[0],
    'submission_path': str(STANDINS / standin),
    'tuning_ruleset': 'external' if space.exists() else 'self',
    'tuning_search_space': str(space) if space.exists() else None,
    'num_tuning_trials': 1,
    'log_dir': str(folder),
    'data': 'real',
    'rng_seed': 3,
    'max_global_steps': 30,
    'eval_period_steps': 1000,
    'record_extra_metadata': [],
    'overwrite': False,
    'resume': False,
    'save_checkpoints': True,
    'telemetry': 'row',
    'num_checkpoints_kept': 2,
    'edition': '1.0',
    'submission_api': 'auto',
    'torch_compile': 'auto',
    'device': 'auto',
    'command': '',
    **changes,
  }
  return settings.Settings(**values)  # type: ignore[arg-type]


def stopped_and_gone_on_with(standin: str, folder: Path, at: int, **changes: object) -> Study:
  """A study that was asked to stop in the step after `at` updates, and then went on."""
  for resume in (False, True):
    study = Study(settings.check(settings_of(standin, folder, **changes, resume=resume)))
    if resume:
      return study
    update = study.submission.update_params

    def update_params(update: Any = update, **arguments: Any) -> Any:
      if arguments['global_step'] == at:
        signal.raise_signal(signal.SIGTERM)
      return update(**arguments)

    if study.submission.wants_train_state:

      def with_state(train_state: Any, **arguments: Any) -> Any:
        return update_params(train_state=train_state, **arguments)

      study.submission = study.submission._replace(update_params=with_state)
    else:
      study.submission = study.submission._replace(update_params=update_params)
    try:
      study.run()
    except Interrupted as interrupted:
      assert interrupted.saved
  raise AssertionError('it was not stopped')


if __name__ == '__main__':
  sys.path.append(str(Path(__file__).resolve().parents[1]))
  import narrow

  narrow.make_cifar_narrow()
  for name in sys.argv[2:]:
    standin, _, workload = name.partition(':')
    changes = ON_CIFAR if workload else {}
    study = Study(settings.check(settings_of(standin, Path(sys.argv[1]) / name, **changes)))
    (outcome,) = study.run()
    assert outcome['status'] == 'complete', outcome
    if not workload and study.framework.processes.count() == 1:  # and the same with a stop
      folder = Path(sys.argv[1]) / f'{name}_stopped'
      (outcome,) = stopped_and_gone_on_with(standin, folder, 12).run()
      assert outcome['preemptions'][0]['global_step'] == 13, outcome
  study.framework.processes.leave()
