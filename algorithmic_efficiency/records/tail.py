"""This file reads a growing file of JSON lines: whole lines that are new since the last time."""

import json
from pathlib import Path
from typing import Any, cast


class Tail:
  """The lines of a file that somebody else appends to.

  Args:
    path: of the file, which may not be there yet.
    at_end: begins at its present end instead of its beginning.

  Attributes:
    path: as given.
    unread_lines: that were no JSON objects.
  """

  def __init__(self, path: Path, at_end: bool = False) -> None:
    self.path = path
    self._offset = path.stat().st_size if at_end and path.exists() else 0
    self.unread_lines = 0

  def new(self) -> list[dict[str, Any]]:
    """The objects of the lines that have been completed since; all again if the file shrank."""
    try:
      with self.path.open('rb') as file:
        if file.seek(0, 2) < self._offset:
          self._offset = 0
        file.seek(self._offset)
        data = file.read()
    except FileNotFoundError:
      return []
    whole = data[: data.rfind(b'\n') + 1]
    self._offset += len(whole)
    found: list[dict[str, Any]] = []
    for line in whole.splitlines():
      try:
        value = json.loads(line)
      except ValueError:
        value = None
      if isinstance(value, dict):
        found.append(cast(dict[str, Any], value))
      else:
        self.unread_lines += 1
    return found

  def rest(self) -> tuple[dict[str, Any] | None, bool]:
    """The object of a last line that nobody will complete any more, and whether one was torn."""
    try:
      with self.path.open('rb') as file:
        file.seek(self._offset)
        line = file.read()
    except FileNotFoundError:
      return None, False
    if not line.strip() or line.endswith(b'\n'):
      return None, False
    self._offset += len(line)
    try:
      value = json.loads(line)
    except ValueError:
      return None, True
    return (cast(dict[str, Any], value), False) if isinstance(value, dict) else (None, True)
