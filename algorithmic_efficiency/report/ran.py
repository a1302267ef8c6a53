"""This file shows how the runs went: where time was spent, what failed, how to repeat them."""

import collections
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from algorithmic_efficiency.report import scales
from algorithmic_efficiency.report.markup import element
from algorithmic_efficiency.report.recorded import Study, Trial
from algorithmic_efficiency.report.tables import Cell, Column, Table

ACCOUNTS = {  # by name of the account: (heading, what it is, class of its colour)
  'data': ('Data', 'the submission’s data selection', 'data'),
  'step': ('Step', 'the submission’s updates', 'step'),
  'prepare_for_eval': ('Prepare', 'the submission’s preparing for evaluations', 'prepare'),
  'submission_rest': ('Device', 'waiting for the device, and the loop between', 'device'),
  'submission': ('Submission', 'all that is scored; this log does not split it', 'step'),
  'setup': ('Set-up', 'building the model and compiling before training', 'setup'),
  'evaluation': ('Evaluation', 'not scored', 'evaluation'),
  'recording': ('Recording', 'not scored', 'recording'),
  'checkpoint': ('Checkpoint', 'not scored', 'checkpoint'),
  'profiling': ('Profiling', 'not scored', 'profiling'),
  'lost': ('Lost', 'done again after a kill', 'other'),
  'other': ('Other', 'in the total and in no account', 'other'),
}
_MOST_FAILURES = 60
_MOST_TRIALS = 100
_MOST_STUDIES = 20  # that are shown one by one


def _order(found: Sequence[Trial]) -> list[str]:
  there = dict.fromkeys(name for trial in found for name in trial.seconds)
  return [n for n in ACCOUNTS if n in there] + [n for n in there if n not in ACCOUNTS]


def _told(name: str) -> tuple[str, str, str]:
  return ACCOUNTS.get(name, (name, '', 'other'))


def time_split(found: Sequence[Trial], title: str, name: str) -> Table:
  """Seconds by account, a row a trial."""
  accounts = _order(found)
  columns = [Column('run', 'Run'), Column('bar', 'Shares'),
             Column('total_sec', 'Total', number=True)]  # fmt: skip
  for account in accounts:
    heading, help_, _ = _told(account)
    columns.append(Column(f'{account}_sec', heading, number=True, help=help_))
  table = Table(name, title, columns)
  for trial in found:
    table.rows.append(_split_row(trial.path, trial.seconds, accounts))
  return table


def _split_row(name: str, seconds: dict[str, float], accounts: Sequence[str]) -> list[Cell]:
  total = sum(seconds.values())
  cells = [Cell(name, class_='name-cell'), Cell('', _bar(seconds, total)),
           Cell(total, scales.duration(total))]  # fmt: skip
  for account in accounts:
    spent = seconds.get(account)
    if spent is None:
      cells.append(Cell(None, '–', 'none'))
    else:
      cells.append(Cell(spent, scales.percent(spent / total, 1) if total else '–'))
  return cells


def _bar(seconds: dict[str, float], total: float) -> ET.Element:
  parts, at = list[ET.Element](), 0.0
  for account in [*(n for n in ACCOUNTS if n in seconds),
                  *(n for n in seconds if n not in ACCOUNTS)]:  # fmt: skip
    width = 200 * seconds[account] / total if total else 0.0
    if width >= 0.05:
      heading, _, kind = _told(account)
      share = scales.percent(seconds[account] / total, 1)
      tip = f'{heading}: {scales.duration(seconds[account])}, {share}'
      rect = element('rect', element('title', tip), x=f'{at:.1f}', y='0', width=f'{width:.1f}',
                     height='14', class_=f'share {kind}')  # fmt: skip
      parts.append(rect)
    at += width
  return element('svg', *parts, viewBox='0 0 200 14', preserveAspectRatio='none',
                 class_='cell-bar', aria_hidden='true')  # fmt: skip


def time_groups(found: Sequence[Trial]) -> Table:
  """The same summed over the trials of a submission on a workload, for long lists."""
  groups: dict[str, list[Trial]] = {}
  for trial in found:
    parts = [p for p in Path(trial.path).parts[:-1] if not p.startswith('study_')]
    groups.setdefault('/'.join(parts) or '.', []).append(trial)
  sums = list[Trial]()
  for path, trials in groups.items():
    counter = collections.Counter[str]()
    for trial in trials:
      counter.update(trial.seconds)
    name = f'{path} ({scales.count(len(trials), "trial")})'
    sums.append(Trial(name, trials[0].folder, seconds=dict(counter)))
  title = 'Summed over all trials of a submission on a workload.'
  return time_split(sums, title, 'time_split_by_workload')


def time_section(found: Sequence[Trial]) -> tuple[list[Any], list[Table]]:
  """(elements, tables) of where the time went."""
  timed = [trial for trial in found if trial.seconds]
  if not timed:
    return [element('p', 'No trial here recorded where its time went.', class_='quiet')], []
  every = time_split(timed, 'Share of each account in a trial’s time.', 'time_split')
  groups = time_groups(timed)
  legend = [
    element('li', element('span', class_=f'swatch {_told(n)[2]}'),
            f'{_told(n)[0]}: {_told(n)[1]}' if _told(n)[1] else n, class_='key')
    for n in _order(timed)
  ]  # fmt: skip
  elements: list[Any] = [element('ul', legend, class_='keys')]
  if len(timed) <= 12:
    return [*elements, every.html()], [every, groups]
  left_out = len(groups.rows) - _MOST_TRIALS
  elements.append(groups.html(_MOST_TRIALS))
  if left_out > 0:
    elements.append(_left_out(left_out, 'row'))
  inner: list[Any] = [every.html(_MOST_TRIALS)]
  if len(timed) > _MOST_TRIALS:
    inner.append(_left_out(len(timed) - _MOST_TRIALS, 'trial'))
  summary = f'Every trial ({len(timed):,})'
  elements.append(element('details', element('summary', summary), *inner))
  return elements, [every, groups]


def _left_out(number: int, noun: str, plural: str = '') -> ET.Element:
  text = f'{scales.count(number, noun, plural)} more: all are in the CSV that --tables writes.'
  return element('p', text, class_='quiet')


def failures(found: Sequence[Trial]) -> tuple[list[Any], Table | None]:
  """(elements, table) of the trials that did not end well."""
  failed = [trial for trial in found if trial.has_failed]
  running = sum(trial.status == 'running' for trial in found)
  elements = list[Any]()
  if running:
    text = f'{scales.count(running, "trial")} still running: the figures here are not final.'
    elements.append(element('p', text))
  if not any(trial.status or trial.problem for trial in found):
    text = 'These logs do not tell how their trials ended.'
    return [*elements, element('p', text, class_='quiet')], None
  if not failed:
    text = f'None of {scales.count(len(found), "trial")} failed.'
    return [*elements, element('p', text, class_='quiet')], None
  table = _failure_table(failed)
  elements.append(element('p', f'{len(failed):,} of {scales.count(len(found), "trial")}.'))
  elements.append(table.html(_MOST_FAILURES))
  if len(failed) > _MOST_FAILURES:
    elements.append(_left_out(len(failed) - _MOST_FAILURES, 'trial'))
  for trial in [t for t in failed if t.error][:_MOST_FAILURES]:
    summary = element('summary', f'Traceback of {trial.path}')
    elements.append(element('details', summary, element('pre', trial.error, tabindex='0')))
  return elements, table


def _failure_table(failed: Sequence[Trial]) -> Table:
  columns = [Column('run', 'Run'), Column('status', 'Status'), Column('reason', 'Reason')]
  table = Table('failures', 'Trials that failed or were stopped, and why.', columns)
  for trial in failed:
    status = trial.status or 'unreadable'
    reason = trial.problem or trial.reason
    table.rows.append([Cell(trial.path, class_='name-cell'), Cell(status, class_='bad'),
                       Cell(reason, class_='long')])  # fmt: skip
  return table


_FACTS = (
  ('Date', 'datetime'),
  ('Seed', 'rng_seed'),
  ('Trials', 'num_tuning_trials'),
  ('Ruleset', 'tuning_ruleset'),
  ('Edition', 'edition'),
  ('Data', 'data'),
  ('Submission', 'submission_path'),
  ('its SHA-256', 'submission_sha256'),
  ('Search space', 'tuning_search_space'),
  ('Package', 'algorithmic_efficiency_version'),
  ('Commit', 'git_commit_hash'),
  ('Python', 'python_version'),
  ('System', 'os_platform'),
  ('Processor', 'cpu_model_name'),
  ('GPU', 'gpu_model_name'),
  ('GPUs', 'gpu_count'),
  ('Driver', 'gpu_driver'),
  ('Gaudi', 'hpu_model_name'),
  ('Image', 'container.image'),
  ('Trained on', 'device'),
  ('Devices', 'num_devices'),
)
_COLUMNS = ('command', *(key for _, key in _FACTS), 'git_dirty')


def command_of(metadata: dict[str, Any]) -> str:
  """The command to paste into a shell; '' where it is not known.

  A record holds the command quoted for a shell already. AlgoPerf's logs have the values of all
  flags instead.
  """
  if 'command' in metadata:
    words = str(metadata['command'])
    return words if words.startswith('python') else f'python3 {words}'
  flags = {k: v for k, v in metadata.items() if k.startswith('--')}
  wanted = ('--framework', '--workload', '--submission_path', '--tuning_search_space',
            '--tuning_ruleset', '--num_tuning_trials', '--rng_seed', '--experiment_dir',
            '--experiment_name', '--data_dir')  # fmt: skip
  given = [f'{name}={flags[name]}' for name in wanted if name in flags]
  return shlex.join(['python3', 'submission_runner.py', *given]) if given else ''


def reproduce(studies: Sequence[Study]) -> tuple[list[Any], Table | None]:
  """(elements, table) of how each study was run."""
  known = [study for study in studies if study.metadata or study.problem]
  if not known:
    text = 'These logs have no metadata: how they were made is not recorded.'
    return [element('p', text, class_='quiet')], None
  table = Table('runs', 'How each study was run.',
                [Column('study', 'Study'), *(Column(key, key) for key in _COLUMNS)])  # fmt: skip
  groups: dict[str, list[ET.Element]] = {}
  for study in known:
    command = command_of(study.metadata)
    values = [study.metadata.get(key) for key in _COLUMNS]
    table.rows.append([Cell(study.path), *(Cell(v) for v in [command, *values[1:]])])
    groups.setdefault(Path(study.path).parts[0], []).append(_study(study, command))
  elements = _grouped(groups, len(known))
  missing = len(studies) - len(known)
  if missing:
    text = f'{scales.count(missing, "folder has", "folders have")} no metadata.'
    elements.append(element('p', text, class_='quiet'))
  return elements, table


def _grouped(groups: dict[str, list[ET.Element]], number: int) -> list[Any]:
  """One below the other where they are few; else folded by submission."""
  if number <= _MOST_STUDIES:
    return [one for group in groups.values() for one in group]
  return [
    element('details', element('summary', f'{name} ({len(group):,})'), *group)
    for name, group in groups.items()
  ]


def _study(study: Study, command: str) -> ET.Element:
  metadata, parts = study.metadata, list[Any]()
  if study.problem:
    parts.append(element('p', study.problem, class_='bad'))
  if command:
    button = element('button', 'Copy', type='button', class_='copy needs-script')
    parts.append(element('div', element('pre', command, tabindex='0'), button, class_='command'))
  facts = list[ET.Element]()
  for name, key in _FACTS:
    if metadata.get(key) is not None:
      text = str(metadata[key])
      if key == 'git_commit_hash' and 'git_dirty' in metadata:
        text += ', with changes not committed' if metadata['git_dirty'] else ', clean'
      facts += [element('dt', name), element('dd', text)]
  if study.packages:
    text = ', '.join(f'{name} {version}' for name, version in study.packages.items())
    facts += [element('dt', 'Packages'), element('dd', f'{text}; all in packages.txt')]
  parts.append(element('dl', facts))
  seed = metadata.get('rng_seed')
  told = study.path if seed is None else f'{study.path}, seed {seed}'
  dirty = [element('span', ' dirty', class_='bad')] if metadata.get('git_dirty') else []
  return element('details', element('summary', told, *dirty), *parts)
