"""This file tells how far a plan is: a table kept up to date on a terminal, lines in a log."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from algorithmic_efficiency.launch import endings
from algorithmic_efficiency.launch.dispatch import Attempt, Dispatcher, Event
from algorithmic_efficiency.launch.plan_folder import PlanFolder

_LINE_EVERY_SEC = 30.0
_FRAME_EVERY_SEC = 0.5
_TAIL_BYTES = 1 << 16
_COLOURS = {endings.COMPLETE: 'green', endings.FAILED: 'red'}


class Progress(Protocol):
  """Told of events by the dispatcher."""

  def __call__(self, dispatcher: Dispatcher, event: Event) -> None:
    """Shows an event."""
    ...

  def close(self) -> None:
    """Ends the showing."""
    ...


def choose(folder: PlanFolder, total: int, done: int, say: Callable[[str], None]) -> Progress:
  """A table on a terminal where rich is installed, else lines.

  Args:
    folder: where rows are looked up.
    total: jobs of the plan.
    done: those that had ended before.
    say: prints a line.
  """
  if sys.stdout.isatty():
    try:
      return Table(folder, total, done)
    except ImportError:
      pass  # rich is not installed: lines do
  return Lines(folder, total, done, say)


class Lines:
  """A line for each beginning and end, and one now and then."""

  def __init__(self, folder: PlanFolder, total: int, done: int, say: Callable[[str], None]) -> None:
    self._folder, self._total, self._done, self._say = folder, total, done, say
    self._said = time.monotonic()

  def __call__(self, dispatcher: Dispatcher, event: Event) -> None:
    """Prints what happened."""
    now = time.monotonic()
    if event.kind == 'tick' and now - self._said < _LINE_EVERY_SEC:
      return
    self._said = now
    if event.kind == 'tick':
      self._say(self._summary(dispatcher))
      return
    attempt = event.attempt
    assert attempt is not None
    again = f' (attempt {attempt.number})' if attempt.number > 1 else ''
    if event.kind == 'began':
      self._say(f'{attempt.job.name}: begins on {attempt.slot}{again}')
      return
    assert event.ending is not None
    if not event.again:
      self._done += 1
    counted = f' [{self._done}/{self._total}]'
    self._say(f'{attempt.job.name}: {describe(event)}{"" if event.again else counted}')

  def _summary(self, dispatcher: Dispatcher) -> str:
    running = [
      f'{a.job.name} {where(self._folder, a)}'.rstrip() for a in dispatcher.running.values()
    ]
    return (
      f'{self._done}/{self._total} done, {len(dispatcher.waiting)} wait, '
      f'{len(running)} run: {"; ".join(running)}'
    )

  def close(self) -> None:
    """Nothing is left to do."""


class Table:
  """A bar and the running trials; what has ended scrolls by above. ImportError without rich."""

  def __init__(self, folder: PlanFolder, total: int, done: int) -> None:
    from rich.live import Live

    self._folder, self._total, self._done = folder, total, done
    self._drawn = 0.0
    self._live = Live(refresh_per_second=4, transient=True)
    self._live.start()

  def __call__(self, dispatcher: Dispatcher, event: Event) -> None:
    """Draws the table anew, at most twice a second."""
    from rich.text import Text

    if event.kind == 'ended' and event.attempt is not None and event.ending is not None:
      self._done += not event.again
      colour = _COLOURS.get(event.ending.outcome, 'yellow')
      line = f'{event.attempt.job.name}: {describe(event)}'
      self._live.console.print(Text(line, style=colour))
    now = time.monotonic()
    if event.kind != 'tick' or now - self._drawn > _FRAME_EVERY_SEC:
      self._drawn = now
      self._live.update(self._frame(dispatcher))

  def _frame(self, dispatcher: Dispatcher) -> Any:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid()
    for name in ('slot', 'trial', 'for', 'now'):
      grid.add_column(name)
    for attempt in dispatcher.running.values():
      seconds = f'{time.time() - attempt.began:,.0f} s'
      grid.add_row(str(attempt.slot), attempt.job.name, seconds, where(self._folder, attempt))
    counts = f'{self._done} of {self._total} done, {len(dispatcher.waiting)} wait'
    return Group(ProgressBar(self._total, self._done, width=60), Text(f'  {counts}'), grid)

  def close(self) -> None:
    """Gives the terminal back."""
    self._live.stop()


def run(dispatcher: Dispatcher, shown: Progress, before: int, say: Callable[[str], None]) -> bool:
  """Runs a dispatcher to its end, and tells how it ended whatever ends it.

  Args:
    dispatcher: not begun yet.
    shown: closed at the end.
    before: jobs that had ended before.
    say: prints a line.

  Returns:
    Whether all that ran is complete.
  """
  try:
    dispatcher.run()
  finally:
    shown.close()
    say('\n'.join(summary(dispatcher.ended, before)))
  return all(ending.outcome == endings.COMPLETE for ending in dispatcher.ended.values())


def describe(event: Event) -> str:
  """How a job ended, in words."""
  assert event.ending is not None
  reason = f': {event.ending.reason}' if event.ending.reason else ''
  return f'{event.ending.outcome}{reason}{"; it is tried again" if event.again else ""}'


def where(folder: PlanFolder, attempt: Attempt) -> str:
  """How far a running trial is, from the end of its record."""
  row = _last_row(folder.trial(attempt.job).metrics_jsonl)
  if 'global_step' not in row:
    return ''
  loss = row.get('validation/loss', row.get('loss'))
  shown = f', loss {loss:.4f}' if isinstance(loss, float) else ''
  return f'step {row["global_step"]:,}{shown}'


def _last_row(path: Path) -> dict[str, Any]:
  try:
    with path.open('rb') as file:
      file.seek(max(0, file.seek(0, 2) - _TAIL_BYTES))
      lines = file.read().splitlines(keepends=True)
  except FileNotFoundError:
    return {}
  whole = [line for line in lines if line.endswith(b'\n')]
  try:
    row = json.loads(whole[-1]) if whole else {}
  except ValueError:
    return {}  # longer than what was read of it
  return row if isinstance(row, dict) else {}


def summary(ended: dict[str, endings.Ending], before: int) -> list[str]:
  """What became of a plan, in lines: counts, then what went wrong and why."""
  counts = Counter(ending.outcome for ending in ended.values())
  words = [f'{counts[outcome]} {outcome}' for outcome in endings.ORDER if counts[outcome]]
  earlier = [f'{before} had ended before'] if before else []
  lines = [', '.join([*words, *earlier]) or 'nothing to do']
  wrong = {name: e for name, e in ended.items() if e.outcome != endings.COMPLETE}
  lines += [f'  {name}: {e.outcome}: {e.reason}' for name, e in list(wrong.items())[:20]]
  if len(wrong) > 20:
    lines.append(f'  … and {len(wrong) - 20} more; jobs/*.json tells of each')
  return lines
