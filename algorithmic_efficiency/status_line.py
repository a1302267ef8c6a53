"""The line in which a command tells how far a long piece of work is."""

import os
import sys
import time

_BAR_CELLS = 20
_DRAWN_EVERY_SEC = 0.1


class StatusLine:
  """Drawn over itself on a terminal; in a log a line of its own now and then, so none if quick.

  It goes to the errors' stream, so that a command's output holds what was asked for alone. As a
  context it takes the line off the terminal at its end, so that an error is not written behind it.

  Args:
    name: stands before each text; '' for none.
    log_every_sec: how often a log gets a line.
    quiet: nothing is told.
  """

  def __init__(self, name: str = '', log_every_sec: float = 10.0, *, quiet: bool = False) -> None:
    self._prefix = f'{name}: ' if name else ''
    self._terminal = sys.stderr.isatty()
    self._every_sec = _DRAWN_EVERY_SEC if self._terminal else log_every_sec
    self._quiet = quiet
    self._told = time.monotonic()
    self._first: tuple[str, float, int] | None = None
    self._drawn = False

  def __enter__(self) -> 'StatusLine':
    return self

  def __exit__(self, *error: object) -> None:
    self.clear()

  def tell(self, text: str) -> None:
    """What is done now, unless something was told just before."""
    now = time.monotonic()
    if self._quiet or now - self._told < self._every_sec:
      return
    self._told = now
    if self._terminal:
      self._draw(self._prefix + text)
    else:
      _write(f'{self._prefix}{text}\n')

  def count(self, done: int, total: int, things: str, detail: str = '') -> None:
    """So many of so many, and how long the rest takes.

    That is told by those after the first count, for what comes first often loads libraries too.
    """
    now = time.monotonic()
    if self._first is None or self._first[0] != things or done < self._first[2]:
      self._first = things, now, done
    _, began, before = self._first
    text = f'{done:,}/{total:,} {things}'
    if done > before:
      text += f', {(total - done) * (now - began) / (done - before):.0f} s left'
    if detail:
      text += f': {detail}'
    if self._terminal and total:
      full = _BAR_CELLS * done // total
      text = f'[{"#" * full}{"." * (_BAR_CELLS - full)}] {text}'
    self.tell(text)

  def clear(self) -> None:
    """Takes the line off the terminal, for something else to be written there."""
    if self._drawn:
      self._draw('')
      _write('\r')
    self._drawn = False

  def _draw(self, text: str) -> None:
    width = (os.get_terminal_size(sys.stderr.fileno()).columns or 80) - 1
    _write(f'\r{text[:width]:<{width}}')
    self._drawn = True


def _write(text: str) -> None:
  sys.stderr.write(text)
  sys.stderr.flush()
