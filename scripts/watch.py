#!/usr/bin/env python3
"""Shows the trials below a folder while they run: how far they are, and what the devices do.

  python scripts/watch.py LOG_DIR
  python scripts/watch.py LOG_DIR --once      one look, for a log

Reads only the ends of the files that the runs write; they never know of it. Ctrl-C ends it.
"""

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAIL_BYTES = 1 << 16
_PERIOD_SEC = 0.5
_STILL_SEC = 30.0  # without a sample a running trial is told to be silent

_COLOURS = {'running': 'cyan', 'complete': 'green', 'failed': 'red', 'interrupted': 'yellow'}


@dataclass
class Trial:
  """What the files of one trial say now."""

  name: str
  state: dict[str, Any]
  row: dict[str, Any]
  sample: dict[str, Any]


def last_line(path: Path, kind: str = '') -> dict[str, Any]:
  """The last whole line of a file of JSON lines, of that kind if one is given; or {}."""
  try:
    with path.open('rb') as file:
      size = file.seek(0, 2)
      file.seek(max(0, size - _TAIL_BYTES))
      lines = file.read().splitlines(keepends=True)
  except FileNotFoundError:
    return {}
  for line in reversed(lines):
    with contextlib.suppress(ValueError):  # half of a line, or the second half
      value = json.loads(line) if line.endswith(b'\n') else None
      if isinstance(value, dict) and (not kind or value.get('kind') == kind):
        return value
  return {}


def trials(folder: Path) -> Iterator[Trial]:
  """Every trial below a folder, in the order of names."""
  for state in sorted(folder.rglob('trial.json'), key=_by_number):
    with contextlib.suppress(ValueError, FileNotFoundError):  # replaced or removed meanwhile
      content = json.loads(state.read_text(encoding='utf-8'))
      trial = state.parent
      name = str(trial.relative_to(folder)) if trial != folder else trial.name
      samples = last_line(trial / 'telemetry.jsonl', 'sample')
      yield Trial(name, content, last_line(trial / 'metrics.jsonl'), samples)


def frame(folder: Path) -> Any:
  """All that is shown, as something that rich can print."""
  from rich.console import Group
  from rich.table import Table
  from rich.text import Text

  found = list(trials(folder))
  if not found:
    return Text(f'No trial below {folder} yet.')
  table = Table(title=str(folder), title_justify='left', expand=False)
  for name in ('trial', 'status', 'step', 'loss', 'metric', 'submission', 'energy'):
    table.add_column(name, justify='left' if name in ('trial', 'status') else 'right')
  for trial in found:
    status = trial.state.get('status', '?')
    shown = status
    if status == 'running' and trial.sample and time.time() - trial.sample['time'] > _STILL_SEC:
      shown = 'silent'  # killed, or on another machine whose clock differs
    if trial.state.get('goal_reached'):
      shown += ', goal'
    table.add_row(
      trial.name, Text(shown, style=_COLOURS.get(status, '')), *_progress(trial.row)
    )  # fmt: skip
  parts: list[Any] = [table]
  running = [trial for trial in found if trial.state.get('status') == 'running' and trial.sample]
  for trial in running:
    parts.append(_devices(trial))
  for trial in found:
    if trial.state.get('status') == 'failed':
      parts.append(Text(f'{trial.name}: {trial.state.get("reason", "")}', style='red'))
  return Group(*parts)


def _progress(row: dict[str, Any]) -> list[str]:
  if not row:
    return ['', '', '', '', '']
  name = row.get('workload.target_metric_name', 'accuracy')
  metric = row.get(f'validation/{name}')
  budget = row.get('workload.max_allowed_runtime_sec')
  joules = row.get('energy.joules_since_start')
  spent = f'{row["accumulated_submission_time"]:,.1f} s'
  return [
    f'{row["global_step"]:,}',
    _number(row.get('validation/loss'), '.4f'),
    '' if metric is None else f'{name} {_number(metric, ".4f")}',
    spent + (f' of {budget:,.0f}' if budget else ''),
    '' if joules is None else _energy(joules),
  ]


def _devices(trial: Trial) -> Any:
  """A line a device, and one for the host."""
  from rich.table import Table

  sample = trial.sample
  table = Table(title=f'{trial.name}, now', title_justify='left', show_header=True)
  for name in ('device', 'busy', '', 'memory', 'power', 'temperature'):
    table.add_column(name, justify='left' if name in ('device', '') else 'right')
  kinds = ('gpu.', 'hpu.')
  names = {'.'.join(n.split('.')[:2]) for n in sample if n.startswith(kinds)}
  for name in sorted(n for n in names if n.split('.')[1].isdigit()):
    busy = sample.get(f'{name}.compute.util')
    used, total = sample.get(f'{name}.mem.used'), sample.get(f'{name}.mem.total')
    watts, celsius = sample.get(f'{name}.power.watts'), sample.get(f'{name}.temp.current')
    table.add_row(
      name, _number(busy, '.0%'), _bar(busy),
      '' if used is None or total is None else f'{used:,.0f} of {total:,.0f} MiB',
      '' if watts is None else f'{watts:,.0f} W', '' if celsius is None else f'{celsius:.0f} °C',
    )  # fmt: skip
  busy = sample.get('cpu.util.avg_percent_since_last')
  share = None if busy is None else busy / 100
  memory = ''
  if 'mem.total' in sample:
    memory = f'{sample["mem.used"] / 2**20:,.0f} of {sample["mem.total"] / 2**20:,.0f} MiB'
  table.add_row('host', _number(share, '.0%'), _bar(share), memory, '', '')
  return table


def _bar(share: float | None, width: int = 20) -> str:
  if share is None:
    return ''
  full = round(max(0.0, min(1.0, share)) * width)
  return '█' * full + '░' * (width - full)


def _number(value: Any, form: str) -> str:
  return format(value, form) if isinstance(value, int | float) else str(value or '')


def _energy(joules: float) -> str:
  return f'{joules:,.0f} J' if joules < 1e4 else f'{joules / 1000:,.1f} kJ'


def _by_number(path: Path) -> list[tuple[int, str]]:
  parts = str(path).replace('_', ' ').replace('/', ' ').split()
  return [(int(part), '') if part.isdigit() else (0, part) for part in parts]


def main() -> int:
  """Returns the exit code: 0, 2 for a wrong command."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('log_dir', type=Path, metavar='LOG_DIR')
  parser.add_argument('--once', action='store_true', help='prints what is now, and ends')
  given = parser.parse_args()
  try:
    from rich.console import Console
    from rich.live import Live
  except ImportError:
    parser.error('rich is not installed; pip install "algorithmic-efficiency[telemetry]".')
  if not given.log_dir.is_dir():
    parser.error(f'{str(given.log_dir)!r} is no folder.')
  console = Console()
  if given.once:
    console.print(frame(given.log_dir))
    return 0
  with contextlib.suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
    while True:
      live.update(frame(given.log_dir), refresh=True)
      time.sleep(_PERIOD_SEC)
  return 0


if __name__ == '__main__':
  sys.exit(main())
