#!/usr/bin/env python3
"""Runs a plan: workloads x frameworks x submissions x studies x trials, over devices or a cluster.

  python scripts/launch.py plan.yaml --log_dir=logs --engine=docker
  python scripts/launch.py --log_dir=logs --engine=processes --slots=2 \\
      --workloads=digits --frameworks=jax,pytorch --trials=5 --studies=3 \\
      --submission_path='baselines/mnist/mnist_{framework}/submission.py' \\
      --tuning_search_space=baselines/mnist/tuning_search_space.json
  python scripts/launch.py --resume --log_dir=logs       goes on with what is not finished
  python scripts/launch.py --status --log_dir=logs       tells what became of it
  python scripts/launch.py plan.yaml --dry_run …         prints the exact commands, starts nothing

What a plan may say, and where its files lie: algorithmic_efficiency/launch/LAUNCH.md. A flag here
counts more than the same key in the file. Exit codes: 0 all trials ran, 1 some did not, 2 the
command or the plan is wrong, 130 Ctrl-C, 143 SIGTERM.
"""

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from algorithmic_efficiency.errors import MeasurementError, UsageError
from algorithmic_efficiency.launch import on_docker, on_processes, plan, progress, reading
from algorithmic_efficiency.launch.dispatch import Dispatcher
from algorithmic_efficiency.launch.plan_folder import PlanFolder
from algorithmic_efficiency.launch.slots import divide

_HERE = ('docker', 'processes')
_CLUSTERS = ('slurm', 'ray', 'kubernetes')


def main() -> int:
  """The command."""
  given = _parse()
  folder = PlanFolder(given.log_dir.expanduser().absolute())
  signal.signal(signal.SIGTERM, _stop)
  try:
    if given.status:
      return _status(folder)
    if given.dry_run:
      return _run(given, _plan(given, folder), folder)
    with folder.held():
      is_new = not folder.plan_file.exists()
      wanted = _plan(given, folder)
      folder.save(wanted)
      try:
        return _run(given, wanted, folder)
      except UsageError:
        if is_new:
          folder.forget_if_unbegun()
        raise
  except UsageError as error:
    return _complain(str(error), 2)
  except MeasurementError as error:
    return _complain(str(error), 1)
  except KeyboardInterrupt as error:
    print('launch: stopped; --resume goes on with it.', file=sys.stderr)
    return 143 if error.args else 130


def _stop(number: int, _: Any) -> NoReturn:
  raise KeyboardInterrupt(number)


def _plan(given: argparse.Namespace, folder: PlanFolder) -> plan.Plan:
  """What is asked for, and goes on with what is there if it is the same."""
  there = folder.plan_file.exists()
  keys = _keys(given)
  if not keys and not given.resume:
    raise UsageError('No plan is given; name a YAML file, give --workloads and so on, or --resume.')
  if not keys:
    return folder.load()
  wanted = reading.read(keys, _runner_flags())
  if not there:
    return wanted
  if not given.resume and not given.dry_run:
    raise UsageError(
      f'{str(folder.root)!r} already holds a plan; --resume goes on with it, or choose another '
      '--log_dir.'
    )
  before = folder.load()
  differences = plan.differences(before, wanted)
  if differences:
    raise UsageError(
      f'{str(folder.root)!r} holds another plan: {"; ".join(differences)}; give the same, or '
      'choose another --log_dir.'
    )
  return plan.with_id(wanted, before.id)


def _keys(given: argparse.Namespace) -> dict[str, Any]:
  """The plan's keys, from the file and from the flags."""
  keys = reading.load_yaml(given.plan) if given.plan is not None else {}
  flags = {key: getattr(given, key, None) for key in reading.KEYS if key != 'flags'}
  keys |= {key: value for key, value in flags.items() if value is not None}
  if given.flag:
    keys['flags'] = {**(keys.get('flags') or {}), **dict(given.flag)}
  return keys


def _runner_flags() -> list[str]:
  """The flags of submission_runner, by name; imports no framework."""
  from absl import flags

  module = importlib.import_module('algorithmic_efficiency.submission_runner')
  return [flag.name for flag in flags.FLAGS.flags_by_module_dict()[module.__name__]]


def _run(given: argparse.Namespace, wanted: plan.Plan, folder: PlanFolder) -> int:
  if given.engine in _CLUSTERS:
    return importlib.import_module(_module_of(given.engine)).run(given, wanted, folder, _say)
  if wanted.resources.nodes > 1:
    raise UsageError(
      f'The plan has {wanted.resources.nodes} nodes to a trial, which --engine={given.engine} '
      'cannot give; use --engine=slurm or --engine=kubernetes.'
    )
  slots = divide(wanted.resources, given.devices, given.slots)
  engine = (
    on_docker.Docker(wanted, folder, given.network)
    if given.engine == 'docker'
    else on_processes.Processes(wanted, folder)
  )
  jobs = wanted.jobs()
  left = [job for job in jobs if folder.finished(job) is None]
  if given.dry_run:
    for number, job in enumerate(left):
      _say(engine.command(job, slots[number % len(slots)], len(folder.attempts(job)) + 1))
    return 0
  engine.prepare()
  before = len(jobs) - len(left)
  _say(f'{wanted.name}: {len(jobs)} trials, {before} ended before, {len(slots)} at a time')
  shown = progress.choose(folder, len(jobs), before, _say)
  dispatcher = Dispatcher(wanted, folder, engine, slots, shown, left)
  return 0 if progress.run(dispatcher, shown, before, _say) else 1


def _status(folder: PlanFolder) -> int:
  """Prints what the run folders say of each job."""
  counts: dict[str, int] = {}
  for job in folder.load().jobs():
    state, attempts = folder.trial(job).read_state(), folder.attempts(job)
    status = str(state['status']) if state else 'waits'
    last = attempts[-1] if attempts else {}
    if status not in ('complete', 'failed') and 'outcome' in last:
      status = last['outcome']
    reason = (state or {}).get('reason') or last.get('reason') or ''
    counts[status] = counts.get(status, 0) + 1
    _say(f'{job.name}  {status}  {reason}'.rstrip())
  _say(', '.join(f'{count} {status}' for status, count in counts.items()))
  return 0


def _say(line: str) -> None:
  # At once: in a log the lines of both streams then stand in the order of what happened.
  print(line, flush=True)


def _complain(message: str, code: int) -> int:
  print(f'launch: error: {" ".join(message.splitlines())}', file=sys.stderr)
  return code


def _module_of(engine: str) -> str:
  return f'algorithmic_efficiency.launch.on_{engine}'


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('plan', nargs='?', type=Path, help='YAML file')
  parser.add_argument('--log_dir', type=Path, required=True, help='of the plan and all its records')
  parser.add_argument('--engine', choices=(*_HERE, *_CLUSTERS), default='docker')
  parser.add_argument('--resume', action='store_true', help='go on with the plan that is there')
  parser.add_argument('--status', action='store_true', help='tell what became of a plan')
  parser.add_argument('--dry_run', action='store_true', help='print commands, start nothing')
  what = parser.add_argument_group('the plan')
  for name in ('workloads', 'frameworks'):
    what.add_argument(f'--{name}', type=_names, help='names, with commas between')
  for name in ('name', 'submission_path', 'tuning_search_space', 'tuning_ruleset', 'data_dir',
               'accelerator', 'memory', 'shm_size', 'image'):  # fmt: skip
    what.add_argument(f'--{name}')
  for name in ('studies', 'trials', 'seed', 'devices_per_trial', 'nodes_per_trial', 'retries'):
    what.add_argument(f'--{name}', type=int)
  what.add_argument('--cpus', type=float, help='cores of a trial')
  what.add_argument(
    '--flag', type=_setting, action='append', metavar='NAME=VALUE',
    help='a further flag of submission_runner; may be given many times',
  )  # fmt: skip
  here = parser.add_argument_group('this machine (docker, processes)')
  here.add_argument('--devices', type=_names, help='GPUs by UUID or index, Gaudis by module')
  here.add_argument('--slots', type=_positive, help='trials at a time')
  here.add_argument('--network', default='', help="of the containers (default: the engine's)")
  for engine in _CLUSTERS:
    importlib.import_module(_module_of(engine)).add_flags(parser.add_argument_group(engine))
  return parser.parse_args()


def _names(text: str) -> list[str] | None:
  return None if text == 'all' else [part.strip() for part in text.split(',')]


def _setting(text: str) -> tuple[str, str]:
  name, equals, value = text.removeprefix('--').partition('=')
  if not equals or not name:
    raise argparse.ArgumentTypeError(f'{text!r} is not NAME=VALUE')
  return name, value


def _positive(text: str) -> int:
  if not text.isdigit() or int(text) < 1:
    raise argparse.ArgumentTypeError(f'{text!r} is not a positive integer')
  return int(text)


if __name__ == '__main__':
  sys.exit(main())
