"""Trains a workload with a submission and records what it took.

Example:
  python3 submission_runner.py --workload=digits --framework=jax \\
      --submission_path=baselines/mnist/mnist_jax/submission.py \\
      --tuning_search_space=baselines/mnist/tuning_search_space.json \\
      --num_tuning_trials=2 --log_dir=logs

`python3 -m algorithmic_efficiency.workloads` lists the workloads. Exit codes: 0 all trials ran,
1 a trial failed or the record could not be made, 2 the command is wrong, 130 Ctrl-C, 143 SIGTERM.
"""

import difflib
import logging
import re
import shlex
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any, NoReturn

if __name__ == '__main__':
  # Run as a file, the package's own folder comes first on the path; its parent belongs there.
  sys.path[0] = str(Path(__file__).resolve().parents[1])
  signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while the imports below run

from absl import app, flags
from absl import logging as absl_logging

from algorithmic_efficiency.errors import MeasurementError, ToldByTheFirst, UsageError
from algorithmic_efficiency.frameworks import DEVICES, environment
from algorithmic_efficiency.runner import streams
from algorithmic_efficiency.runner.interrupts import SIGNALS, Interrupted
from algorithmic_efficiency.submissions.conventions import API_NAMES
from algorithmic_efficiency.telemetry import MODES as TELEMETRY_MODES
from algorithmic_efficiency.workloads.facts import EDITIONS, NEWEST_EDITION

FLAGS = flags.FLAGS
_log = logging.getLogger('algorithmic_efficiency')

flags.DEFINE_string(
  'workload', None, 'What to train: mnist, digits, …; mnist_jax names the framework too.'
)
flags.DEFINE_string('framework', None, 'jax or pytorch.')
flags.DEFINE_string(
  'submission_path', None, 'The training algorithm: a Python file, or a folder with submission.py.'
)
flags.DEFINE_enum(
  'tuning_ruleset',
  'external',
  ['external', 'self'],
  'external: hyperparameters are drawn from the search space. '
  'self: the submission tunes itself, with a longer budget.',
)
flags.DEFINE_string(
  'tuning_search_space',
  None,
  'JSON file: an object of ranges to draw from, or a list of exact trials.',
)
flags.DEFINE_integer('num_tuning_trials', 1, 'Trials to run.', lower_bound=1)
flags.DEFINE_string(
  'log_dir',
  None,
  'Folder for the record: LOG_DIR/<workload>_<framework>/run_<i>/metrics.csv.',
  allow_override=True,
)  # absl.logging has one too
flags.DEFINE_string(
  'experiment_dir',
  None,
  "In place of --log_dir: record in AlgoPerf's layout too, below this folder.",
)
flags.DEFINE_string('experiment_name', None, 'Name of the folder in --experiment_dir.')
flags.DEFINE_string('data_dir', '~/data', 'Where data sets lie, or are downloaded to.')
flags.DEFINE_enum(
  'data',
  'real',
  ['real', 'synthetic'],
  'synthetic: batches of the right shape drawn from the seed; never reaches a goal.',
)
flags.DEFINE_integer(
  'rng_seed', None, 'Seed of the study; drawn from the system if not given. 0 is a seed.'
)
flags.DEFINE_integer(
  'max_global_steps', None, 'End each trial after this many steps.', lower_bound=1
)
flags.DEFINE_integer(
  'eval_period_steps',
  None,
  "Evaluate every so many steps, not by time: the same rows whatever the machine's speed.",
  lower_bound=1,
)
flags.DEFINE_integer(
  'batch_size',
  None,
  "Training batch size over all devices, in place of the submission's.",
  lower_bound=1,
)
flags.DEFINE_integer(
  'hparam_start_index', None, 'First trial to run, counted from 0.', lower_bound=0
)
flags.DEFINE_integer('hparam_end_index', None, 'Trial to stop before.', lower_bound=1)
flags.DEFINE_multi_string('record_extra_metadata', [], '"key=value" to add to every record')
flags.DEFINE_multi_string('extra_metadata', [], 'Other name of --record_extra_metadata')
flags.DEFINE_bool('overwrite', False, 'Delete the record that is there.')
flags.DEFINE_bool('resume', False, 'Go on with the record that is there: finished trials are kept.')
flags.DEFINE_bool('save_checkpoints', True, 'Save each trial at its evaluations and on SIGTERM.')
flags.DEFINE_integer(
  'num_checkpoints_kept', 2, 'Checkpoints of a trial that are kept, the newest.', lower_bound=1
)
flags.DEFINE_float(
  'eval_timeout_sec', None, 'A trial fails when an evaluation takes longer.', lower_bound=0.001
)
flags.DEFINE_enum(
  'telemetry',
  'continuous',
  TELEMETRY_MODES,
  'What the hardware does: not at all, in every row, or by a sampler beside (telemetry.jsonl) too.',
)
flags.DEFINE_float(
  'telemetry_hz', 2.0, 'Samples a second, up to 100.', lower_bound=0.01, upper_bound=100.0
)
flags.DEFINE_float(
  'telemetry_idle_sec',
  0.0,
  'Measure the power for so long before the first trial; rows then have net energy too.',
  lower_bound=0.0,
)
flags.DEFINE_string(
  'profile_steps',
  None,
  'START:STOP: trace these steps of each trial (STOP not included) with a profiler, into traces/.',
)
flags.DEFINE_string(
  'trace_memory',
  None,
  'BACKEND:WINDOW: trace the memory that is touched, in windows of seconds (refs:0.2) or of steps '
  '(refs_split:10steps), into memory.jsonl; trace_memory.py --list_backends tells which there are.',
)
flags.DEFINE_string('export', None, 'Show the run in tensorboard, wandb, mlflow, or several: a,b.')
flags.DEFINE_bool('use_wandb', False, "AlgoPerf's name of --export=wandb.")
flags.DEFINE_enum(
  'edition', NEWEST_EDITION, EDITIONS, 'Edition of the rules: budgets, periods, step hints.'
)
flags.DEFINE_enum(
  'submission_api',
  'auto',
  API_NAMES,
  'What a JAX submission was written for: v05 maps over a leading device axis (jax.pmap), v06 '
  'compiles with shardings (jax.jit). auto looks into its source.',
)
flags.DEFINE_enum(
  'torch_compile',
  'auto',
  ['auto', 'true', 'false'],
  'Whether PyTorch models are compiled. auto: where it is known to help; metadata.json says why.',
)
flags.DEFINE_enum(
  'device', 'auto', DEVICES, 'What to train on: auto, the best there is; hpu, a Habana Gaudi.'
)

_REQUIRED = ('workload', 'submission_path')

# What absl says in Python's words, and the same in a user's.
_PLAIN_WORDS = {
  r'invalid literal for int\(\) with base 10: (.*)': r'\1 is not a whole number',
  r"\('Non-boolean argument to boolean flag', (.*)\)": r'\1 is neither true nor false',
  r'could not convert string to float: (.*)': r'\1 is not a number',
  r'^ERROR:: ': '',
}


def main() -> None:
  """The console command, for all of its spellings."""
  streams.prepare()
  for signum in SIGNALS:
    # No exception: in the middle of a framework's import it could crash it or be lost.
    signal.signal(signum, lambda number, _: _stop_at_once(128 + number))
  app.run(_run, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
  """absl's parser, with one line and exit code 2 for a wrong command."""
  absl_logging.set_verbosity(absl_logging.WARNING)  # JAX tells of every backend it does not find
  if {'--help', '--helpshort', '-h', '-help', '-helpshort'} & set(argv[1:]):
    streams.show(_help())
    streams.leave(0)
  try:
    left = FLAGS(argv)
    if len(left) > 1:
      raise UsageError(f'{left[1]!r} is not a flag; flags start with -- (see --helpshort).')
    missing = [name for name in _REQUIRED if FLAGS[name].value is None]
    if missing and not FLAGS.helpfull and not FLAGS.helpxml:
      raise UsageError(f'Missing: {", ".join(f"--{m}" for m in missing)} (see --helpshort).')
  except UsageError as error:
    _stop(str(error), 2)
  except flags.Error as error:
    _stop(_plain(error), 2)
  return left


def _help() -> str:
  """The flags of this module, the same however the command is spelt."""
  lines = [str(__doc__).strip(), '', 'Flags (and --helpfull for those of the libraries):']
  for flag in _own_flags():
    default = '' if flag.default in (None, []) else f' Default: {flag.value}.'
    text = textwrap.wrap(' '.join(f'{flag.help}{default}'.split()), 74)
    lines += [f'  --{flag.name:<23}{text[0]}', *(' ' * 27 + line for line in text[1:])]
  return '\n'.join(lines) + '\n'


def _own_flags() -> list[flags.Flag]:
  """The flags that this module defines, in its order."""
  return FLAGS.flags_by_module_id_dict()[id(sys.modules[__name__])]


def _run(argv: list[str]) -> NoReturn:
  """Runs what the flags say and exits with the run's code."""
  is_first = environment.is_first(FLAGS.framework)
  _show_log(logging.INFO if is_first else logging.ERROR)
  from algorithmic_efficiency.runner import report, settings

  values: dict[str, Any] = {
    n: FLAGS[n].value for n in settings.Settings.__dataclass_fields__ if n in FLAGS
  }
  values['record_extra_metadata'] = [*FLAGS.record_extra_metadata, *FLAGS.extra_metadata]
  values['command'] = shlex.join(sys.argv)
  try:
    plan = _check(settings.Settings(**values), is_first)
    from algorithmic_efficiency.runner.study import Study  # once the command is known to be right

    study = Study(plan)
    report.announce(study)
    outcomes = study.run()
    study.framework.processes.leave()
  except ToldByTheFirst:
    streams.leave(2)
  except UsageError as error:
    _stop(str(error), 2)
  except MeasurementError as error:
    _stop(str(error), 1)
  except (Interrupted, KeyboardInterrupt) as error:
    if isinstance(error, Interrupted):
      _stop_at_once(error.exit_code, error.saved)
    _stop_at_once(130)
  report.summarize(study, outcomes)
  streams.leave(1 if any(outcome['status'] == 'failed' for outcome in outcomes) else 0)


def _check(given: Any, is_first: bool) -> Any:
  """The plan. Of several processes with one command only the first tells what is wrong with it."""
  from algorithmic_efficiency.runner import settings

  try:
    return settings.check(given)
  except UsageError as error:
    raise error if is_first else ToldByTheFirst(str(error)) from error


def _show_log(lowest: int) -> None:
  """Plain lines: what happens goes to stdout, what went wrong to stderr."""
  for stream, level in ((sys.stdout, logging.INFO), (sys.stderr, logging.WARNING)):
    handler = logging.StreamHandler(stream)
    handler.setLevel(level)
    _log.addHandler(handler)
  _log.handlers[0].addFilter(lambda record: record.levelno < logging.WARNING)
  _log.handlers[1].setFormatter(logging.Formatter('warning: %(message)s'))
  _log.setLevel(lowest)
  _log.propagate = False


def _stop(message: str, code: int) -> NoReturn:
  line = ' '.join(message.splitlines())
  streams.complain(f'submission_runner: error: {line}')
  streams.leave(code)


def _stop_at_once(code: int, saved: bool = False) -> NoReturn:
  kept = 'the trial is saved as it is' if saved else 'what was recorded is kept'
  streams.complain(
    f'submission_runner: stopped: Interrupted; {kept}, and --resume goes on with it.'
  )
  streams.leave_at_once(code)


def _plain(error: flags.Error) -> str:
  """What is wrong with a flag, in words that a user of the command knows."""
  text = str(error)
  if isinstance(error, flags.UnrecognizedFlagError):
    near = difflib.get_close_matches(error.flagname, [f.name for f in _own_flags()], n=1)
    text = f'There is no flag --{error.flagname}' + ''.join(f'; did you mean --{n}?' for n in near)
  for pattern, words in _PLAIN_WORDS.items():
    text = re.sub(pattern, words, text)
  return f'{text.rstrip(".")} (see --helpshort).'


if __name__ == '__main__':
  main()
