"""This file describes a table once, for the page and as CSV."""

import csv
import io
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.report.markup import Child, element


@dataclass(frozen=True)
class Column:
  """A column.

  Attributes:
    key: its name in the CSV.
    title: its heading on the page; '' keeps it to the CSV.
    number: whether it is set to the right.
    help: told when the heading is pointed at.
  """

  key: str
  title: str
  number: bool = False
  help: str = ''


@dataclass(frozen=True)
class Cell:
  """A value as it is written to a CSV, and what the page shows of it (the value's text if None)."""

  value: Any
  shown: Child = None
  class_: str = ''


@dataclass
class Table:
  """Rows under columns.

  Attributes:
    name: of its CSV, without the ending.
    caption: what it shows.
  """

  name: str
  caption: str
  columns: Sequence[Column]
  rows: list[Sequence[Cell]] = field(default_factory=list[Sequence[Cell]])

  def html(self, most_rows: int | None = None) -> ET.Element:
    """The table in a box that scrolls sideways; of long ones the first rows."""
    shown = [index for index, column in enumerate(self.columns) if column.title]
    head = [
      element('th', self.columns[i].title, scope='col', title=self.columns[i].help or None,
              class_='num' if self.columns[i].number else None)
      for i in shown
    ]  # fmt: skip
    body = element('tbody')
    for row in self.rows[:most_rows]:
      body.append(element('tr', [self._cell(row, i, first=i == shown[0]) for i in shown]))
    table = element('table', element('thead', element('tr', head)), body)
    box = element('div', table, class_='scroll', tabindex='0', role='region',
                  aria_label=self.caption)  # fmt: skip
    # No <caption>: it would scroll sideways with the table and be cut off on a phone.
    return element('div', element('p', self.caption, class_='caption'), box)

  def _cell(self, row: Sequence[Cell], index: int, first: bool) -> ET.Element:
    cell, column = row[index], self.columns[index]
    text = cell.shown if cell.shown is not None else str(cell.value)
    kinds = ' '.join(k for k in ('num' if column.number else '', cell.class_) if k)
    if first:
      return element('th', text, scope='row', class_=kinds or None)
    return element('td', text, class_=kinds or None)

  def csv(self) -> str:
    """All rows and columns, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow([column.key for column in self.columns])
    writer.writerows([_plain(cell.value) for cell in row] for row in self.rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
  return '' if value is None else value
