"""This file reads training logs whose epochs stand between 'Begin CSV' and 'End CSV'.

Real ones are untidy: several ranks write one file, each with a beginning of its own and in any
order; programs that were killed leave blocks without an end; two versions wrote different columns;
sentences stand between the rows.
"""

import ast
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.device_logs.reading import Diagnosis

BEGIN, END = 'Begin CSV', 'End CSV'
KINDS = ('loaders_init', 'train', 'eval', 'total_train_time', 'total_eval_time')
_COMMAND = re.compile(r'Command:\s*(\[.*\])\s*$')
_TAG = re.compile(r'^\[\d+,\d+\]<std(?:out|err)>:\s?')  # mpirun --tag-output
_BEST = re.compile(r'best\b.*?([-+]?\d+\.\d+)', re.IGNORECASE)


@dataclass(frozen=True)
class Row:
  """One row of a block.

  Attributes:
    line: its number in the file, from 1.
    kind: loaders_init, train, eval, total_train_time or total_eval_time.
    epoch: counted from 1; None for the loaders.
    seconds: it took.
    loss, dice: None where there is none, or it is no number.
    card: the device that wrote it, where the older columns tell.
    occurrence: which of several ranks' rows of this kind and epoch, from 0, in the file's order.
  """

  line: int
  kind: str
  epoch: int | None
  seconds: float
  loss: float | None
  dice: float | None
  card: str
  occurrence: int


@dataclass
class Block:
  """What one run of a program wrote, of all of its ranks.

  Attributes:
    line: of its first beginning.
    command: as the program was called; empty if it did not tell.
    begins: beginnings found: the ranks, or one of several.
    complete: its end was found.
    rows: in the file's order.
    best_dice: as the program told it.
  """

  line: int
  command: list[str] = field(default_factory=list[str])
  begins: int = 1
  complete: bool = False
  rows: list[Row] = field(default_factory=list[Row])
  best_dice: float | None = None

  @property
  def num_ranks(self) -> int:
    """As many as wrote an epoch's row, or as the command says."""
    told = _option(self.command, '--world-size')
    seen = max((r.occurrence + 1 for r in self.rows if r.kind == 'train'), default=1)
    return max(seen, int(told) if told and told.isdigit() else 1)

  @property
  def started(self) -> bool:
    """Whether an epoch was recorded."""
    return any(row.kind in ('train', 'eval') for row in self.rows)

  def times(self, kind: str) -> dict[int | None, list[float]]:
    """Seconds of every rank by epoch."""
    found: dict[int | None, list[float]] = {}
    for row in self.rows:
      if row.kind == kind:
        found.setdefault(row.epoch, []).append(row.seconds)
    return found


class Reader:
  """Reads the lines of one file into blocks."""

  def __init__(self) -> None:
    self.blocks: list[Block] = []
    self.diagnosis = Diagnosis()
    self._command: list[str] = []
    self._has_card = False
    self._open: Block | None = None

  def read(self, lines: Iterable[str]) -> None:
    """Reads all lines."""
    for number, text in enumerate(lines, 1):
      self.diagnosis.num_lines = number
      self._line(number, _TAG.sub('', text).strip())
    for block in self.blocks:
      if not block.complete and block.rows:
        self.diagnosis.note(f'the block at line {block.line} has no end')

  def _line(self, number: int, text: str) -> None:
    passed = self.diagnosis.passed
    command = _COMMAND.search(text)
    if not text:
      passed['empty'] += 1
    elif command is not None:
      self._command = _words(command[1])
      passed['command'] += 1
    elif text == BEGIN:
      self._begin(number)
      passed['beginning'] += 1
    elif text == END:
      self._end()
      passed['end'] += 1
    elif text.startswith('type,'):
      self._has_card |= 'card' in text.split(',')
      if self._open is None and not (self.blocks and self.blocks[-1].complete):
        self._begin(number)  # a file of the table alone
      passed['header'] += 1
    elif text.partition(',')[0] in KINDS:
      self._row(number, text)
    elif (best := _BEST.search(text)) is not None and self.blocks:
      self.blocks[-1].best_dice = float(best[1])
      passed['best result'] += 1
    else:
      self.diagnosis.refuse(number, 'no row of the table', text)

  def _begin(self, number: int) -> None:
    block = self._open
    ranks = _option(self._command, '--world-size') or ''
    expected = int(ranks) if ranks.isdigit() else 0
    if block is not None and (not block.started or block.begins < expected):
      block.begins += 1  # another rank's, or a program that began and was ended at once
      block.command = self._command or block.command
      return
    self._open = Block(number, self._command)
    self.blocks.append(self._open)

  def _end(self) -> None:
    if self._open is not None:
      self._open.complete = True
      self._open = None

  def _row(self, number: int, text: str) -> None:
    block = self._open or (self.blocks[-1] if self.blocks else None)
    if block is None:
      self.diagnosis.refuse(number, 'a row before any beginning', text)
      return
    cells = [cell.strip() for cell in text.split(',')]
    parsed = _parse(cells, self._has_card)
    if parsed is None:
      self.diagnosis.refuse(number, 'a row that is cut short or damaged', text)
      return
    if self._open is None:
      self.diagnosis.note(f'line {number}: a row after the end of its block; a rank that was late')
    kind, epoch, seconds, loss, dice, card = parsed
    same = sum(r.kind == kind and r.epoch == epoch for r in block.rows)
    block.rows.append(Row(number, kind, epoch, seconds, loss, dice, card, same))


def choose(blocks: list[Block], which: str) -> list[Block]:
  """The blocks that are wanted: 'last' complete one (the last at all if none is), or 'all'.

  Those without a row are no runs.
  """
  found = [block for block in blocks if block.rows]
  if which == 'all':
    return found
  complete = [block for block in found if block.complete]
  return (complete or found)[-1:]


def summary(block: Block) -> dict[str, Any]:
  """Times of a block, in seconds; of several ranks the slowest counts, since all wait for it."""
  train = {e: max(t) for e, t in sorted(block.times('train').items(), key=_epoch)}
  evaluation = {e: max(t) for e, t in sorted(block.times('eval').items(), key=_epoch)}
  rest = [seconds for epoch, seconds in train.items() if epoch != 1]
  dices = [row.dice for row in block.rows if row.kind == 'eval' and row.dice is not None]
  totals = {kind: block.times(kind) for kind in ('total_train_time', 'total_eval_time')}
  loaders = [s for seconds in block.times('loaders_init').values() for s in seconds]
  return {
    'command': block.command,
    'complete': block.complete,
    'num_ranks': block.num_ranks,
    'epochs': len(train),
    'loaders_sec': max(loaders, default=None),
    'first_epoch_sec': train.get(1),
    'epoch_mean_sec': sum(rest) / len(rest) if rest else None,
    'epoch_min_sec': min(rest, default=None),
    'epoch_max_sec': max(rest, default=None),
    'evaluation_mean_sec': sum(evaluation.values()) / len(evaluation) if evaluation else None,
    'total_train_sec': _largest(totals['total_train_time']),
    'total_evaluation_sec': _largest(totals['total_eval_time']),
    'best_dice': max(dices, default=block.best_dice),
    'last_loss': next((r.loss for r in reversed(block.rows) if r.kind == 'train'), None),
  }


def over_runs(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Means over runs of every time; of those that have it."""
  names = dict.fromkeys(name for summary in summaries for name in summary if name.endswith('_sec'))
  means: dict[str, Any] = {'runs': len(summaries)}
  for name in names:
    values = [s[name] for s in summaries if s.get(name) is not None]
    means[name] = sum(values) / len(values) if values else None
  return means


def phases(block: Block) -> list[tuple[str, int | None, float]]:
  """(kind, epoch, seconds) one after another, as the program went through them."""
  found: list[tuple[str, int | None, float]] = []
  for kind, epoch in dict.fromkeys((row.kind, row.epoch) for row in block.rows):
    if kind.startswith('total'):
      continue
    found.append((kind, epoch, max(block.times(kind)[epoch])))
  return found


def _parse(
  cells: list[str], has_card: bool
) -> tuple[str, int | None, float, float | None, float | None, str] | None:
  """The row's parts; both versions of the columns may stand in one file, and count tells them."""
  if has_card and len(cells) >= 6:
    kind, card, epoch, seconds, loss, dice = cells[:6]
  elif len(cells) == 5 or (len(cells) == 4 and cells[0] == 'train'):
    (kind, epoch, seconds, loss), card, dice = cells[:4], '', cells[4] if len(cells) > 4 else ''
  else:
    return None
  if epoch and not epoch.isdigit():
    return None
  time = _real(seconds)
  if time is None or (kind in ('train', 'eval') and not epoch):
    return None
  return kind, int(epoch) if epoch else None, time, _real(loss), _real(dice), card


def _real(text: str) -> float | None:
  try:
    value = float(text)
  except ValueError:
    return None
  return value if math.isfinite(value) else None


def _words(text: str) -> list[str]:
  try:
    value: Any = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    return [text]
  return [str(word) for word in value]


def _option(command: list[str], name: str) -> str | None:
  places = [i for i, word in enumerate(command) if word == name]
  return command[places[-1] + 1] if places and places[-1] + 1 < len(command) else None


def _largest(times: dict[int | None, list[float]]) -> float | None:
  return max((s for seconds in times.values() for s in seconds), default=None)


def _epoch(pair: tuple[int | None, Any]) -> int:
  return pair[0] or 0
