"""This file reads a log of nvidia-smi or hl-smi, whatever stands in it, line by line.

Every line ends in one of three places: in a sample, among the lines that are known to hold none
(headers, tables for people), or in the diagnosis, with its number and the reason.
"""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from algorithmic_efficiency.device_logs import cells, dialects, smi_xml

_ERRORS = re.compile(
  r'NVIDIA-SMI has failed|Failed to initialize NVML|Unable to determine the device handle'
  r'|No devices were found|NVML library version|couldn.t communicate|Unknown Error\s*$'
  r'|command not found|hl-smi.*(?:error|fail)|Segmentation fault|Terminated',
  re.IGNORECASE,
)
_TABLE = re.compile(r'\s*[|+][-=|+ ]|\s*\|')
_REPORT = re.compile(r'={5,}.*LOG={5,}|\s*[A-Za-z][^:]*\s: ')
_HEADING = re.compile(r'\s+[\w ()/\[\].#-]+$')
_EXAMPLES = 20  # lines of each reason that are quoted


@dataclass
class Reading:
  """One device at one time.

  Attributes:
    line: its number, from 1.
    kind: 'gpu' or 'hpu'.
    identity: index, module, uuid, bus, model and serial as far as they are told, as text.
    stamp: the time; None where the log has none.
    values: by column, without the device's name.
    process: pid, type and command, of `pmon`.
  """

  line: int
  kind: str
  identity: dict[str, str]
  stamp: cells.Stamp | None
  values: dict[str, Any]
  process: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Diagnosis:
  """What became of the lines that are no samples.

  Attributes:
    num_lines: of the file.
    passed: reason to number of lines that hold no reading by their nature.
    refused: reason to number of lines that should have held one, or that nobody understands.
    examples: (line number, reason, text) of the refused.
    notes: what was assumed.
  """

  num_lines: int = 0
  passed: Counter[str] = field(default_factory=Counter[str])
  refused: Counter[str] = field(default_factory=Counter[str])
  examples: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
  notes: list[str] = field(default_factory=list[str])

  def refuse(self, line: int, reason: str, text: str) -> None:
    """Counts a line, and quotes it if it is one of the first of its reason."""
    self.refused[reason] += 1
    if self.refused[reason] <= _EXAMPLES:
      self.examples.append((line, reason, text.strip()[:200]))

  def note(self, text: str) -> None:
    """Tells an assumption once."""
    if text not in self.notes:
      self.notes.append(text)


class Reader:
  """Reads the lines of one file.

  Args:
    fields: of a log without headers, as the tool's query had them; empty if it has them.
    utc_offset_hours: of times without a zone.
  """

  def __init__(self, fields: str = '', utc_offset_hours: float = 0.0) -> None:
    self.readings: list[Reading] = []
    self.diagnosis = Diagnosis()
    self._utc_offset_hours = utc_offset_hours
    given = dialects.header([part for part in fields.split(',') if part]) if fields else None
    self._kind, self._fields = given or ('gpu', [])
    self._header = ''
    self._monitor: list[str] = []
    self._in_text = False
    self._document: list[str] = []
    self._document_line = 0
    self._rows: dict[tuple[str, ...], int] = {}

  def read(self, lines: Iterable[str]) -> None:
    """Reads all lines."""
    text = ''
    for number, text in enumerate(lines, 1):
      self.diagnosis.num_lines = number
      self._line(number, text)
    if self._document:
      self._refuse_document()
    if text and not text.endswith('\n') and self.diagnosis.examples:
      line, reason, quoted = self.diagnosis.examples[-1]
      if line == self.diagnosis.num_lines:
        self.diagnosis.examples[-1] = line, f'{reason}; the file ends in the middle of it', quoted

  def _line(self, number: int, text: str) -> None:
    passed = self.diagnosis.passed
    stripped = text.strip()
    if self._fields and not self._document and stripped.count(',') == len(self._fields) - 1 > 0:
      self._csv_line(number, stripped)  # the rule; all else is looked at more closely
    elif self._document or '<?xml' in stripped or '<nvidia_smi_log' in stripped:
      self._xml_line(number, text)
    elif not stripped:
      passed['empty'] += 1
    elif stripped.startswith('#'):
      self._comment(stripped)
    elif _TABLE.match(text):
      passed['table for people, not read'] += 1
    elif self._is_report(text):
      passed['report for people (-q), not read'] += 1
    elif _ERRORS.search(stripped) and ',' not in stripped.partition(':')[0]:
      self.diagnosis.refuse(number, 'an error of the tool', text)
    elif not self._csv_line(number, stripped) and not self._monitor_line(number, stripped):
      bare = text.count(',') > 1 and not self._fields
      reason = 'cells before any header (--fields names them)' if bare else 'not understood'
      self.diagnosis.refuse(number, reason, text)

  def _is_report(self, text: str) -> bool:
    """Whether the line is of `nvidia-smi -q` or `hl-smi -q`: 'key : value', indented headings."""
    if _REPORT.match(text):
      self._in_text = True
    elif not (self._in_text and text[0].isspace() and _HEADING.match(text)):
      self._in_text = False
    return self._in_text

  def _comment(self, text: str) -> None:
    words = text.lstrip('#').replace(',', ' ').split()  # dmon --format csv
    lower = [word.lower() for word in words]
    if 'gpu' in lower[:3] and ('sm' in lower or 'pwr' in lower or 'pid' in lower or 'fb' in lower):
      self._monitor = lower
      self.diagnosis.passed['header'] += 1
    elif 'idx' in lower[:3] or 'yyyymmdd' in lower[:1]:
      self.diagnosis.passed['units'] += 1
    else:
      self.diagnosis.passed['comment'] += 1

  def _csv_line(self, number: int, text: str) -> bool:
    """Whether the line is one of a query's CSV."""
    row = text.split(',')  # these tools quote nothing
    found = None if text == self._header else dialects.header(row)
    if found is not None:
      self._header = text
      self._kind, self._fields = found
      self._monitor = []
    if text == self._header:
      self.diagnosis.passed['header'] += 1
      return True
    if not self._fields or (len(row) == 1 and len(self._fields) > 1):
      return False
    if len(row) > len(self._fields):
      row = self._with_commas(row)
    if len(row) != len(self._fields):
      wanted = len(self._fields)
      self.diagnosis.refuse(number, f'{len(row)} cells where the header has {wanted}', text)
      return True
    self._csv_row(number, row, text)
    return True

  def _with_commas(self, row: list[str]) -> list[str]:
    """A process's name may hold commas: then its cells belong together."""
    place = next((i for i, f in enumerate(self._fields) if f.identity == 'command'), None)
    if place is None:
      return row
    end = place + 1 + len(row) - len(self._fields)
    return [*row[:place], ','.join(row[place:end]), *row[end:]]

  def _csv_row(self, number: int, row: list[str], text: str) -> None:
    identity: dict[str, str] = {}
    values: dict[str, Any] = {}
    stamp = None
    for told, cell in zip(self._fields, row, strict=True):
      if cells.is_absent(cell):
        continue
      if told.identity == 'time':
        stamp = cells.stamp(cell, self._utc_offset_hours)
        if stamp is None:
          self.diagnosis.refuse(number, 'its time cannot be read', text)
          return
      elif told.identity:
        identity[told.identity] = cell.strip()
      else:
        value = cells.number(cell, told.unit)
        if value is None and not told.column.startswith('smi.'):
          self.diagnosis.refuse(number, f'{told.name} is no number', text)
          return
        values[told.column] = cell.strip() if value is None else value * told.factor
    process = {key: identity.pop(key) for key in ('pid', 'command') if key in identity}
    if not values and not process:
      if len(identity) > 1:
        self.diagnosis.passed['names a device, no reading'] += 1
      else:
        self.diagnosis.refuse(number, 'no cell has a value', text)
      return
    if stamp is not None and stamp.unknown_zone:
      self.diagnosis.note(f'the time zone {stamp.unknown_zone} is not known and taken for UTC')
    self._keep(Reading(number, self._kind, identity, stamp, values, process), tuple(row))

  def _keep(self, reading: Reading, row: tuple[str, ...]) -> None:
    """A row written twice by two programs is one sample."""
    if reading.stamp is not None:
      if self._rows.get(row) is not None and reading.line - self._rows[row] <= 64:
        self.diagnosis.passed['the same row once more'] += 1
        return
      self._rows[row] = reading.line
    self.readings.append(reading)

  def _monitor_line(self, number: int, text: str) -> bool:
    """Whether the line is one of dmon's or pmon's."""
    names, words = self._monitor, text.replace(',', ' ').split()
    if not names or not re.match(r'[\d:-]', words[0]):
      return False
    if 'command' in names and len(words) > len(names):  # a command may hold blanks
      words = [*words[: len(names) - 1], ' '.join(words[len(names) - 1 :])]
    if len(words) != len(names):
      wanted = len(names)
      self.diagnosis.refuse(number, f'{len(words)} words where the header has {wanted}', text)
      return True
    row = dict(zip(names, words, strict=True))
    stamp = self._monitor_time(row)
    process = {k: row[k] for k in ('pid', 'type', 'command') if k in row and row[k] != '-'}
    values: dict[str, Any] = {}
    for name, cell in row.items():
      if name in ('gpu', 'date', 'time', 'pid', 'type', 'command') or cells.is_absent(cell):
        continue
      value = cells.number(cell)
      if value is None:
        self.diagnosis.refuse(number, f'{name} is no number', text)
        return True
      column, factor = dialects.MONITOR.get(name, (f'smi.{name}', 1.0))
      values[column] = value * factor
    if not values and not process:
      self.diagnosis.passed['nothing ran'] += 1
      return True
    self.readings.append(Reading(number, 'gpu', {'index': row['gpu']}, stamp, values, process))
    return True

  def _monitor_time(self, row: dict[str, str]) -> cells.Stamp | None:
    if 'time' not in row:
      return None
    date = row.get('date', '19700101')
    if 'date' not in row:
      self.diagnosis.note('the log has times but no dates; they are taken for 1970-01-01')
    text = f'{date[:4]}/{date[4:6]}/{date[6:]} {row["time"]}'
    return cells.stamp(text, self._utc_offset_hours)

  def _xml_line(self, number: int, text: str) -> None:
    begins = '<?xml' in text or ('<nvidia_smi_log' in text and not self._document)
    if begins and self._document:
      self._refuse_document()
    if not self._document:
      self._document_line = number
    self._document.append(text)
    if '</nvidia_smi_log>' not in text:
      return
    document, self._document = ''.join(self._document), []
    count = document.count('\n') or 1
    try:
      found = smi_xml.gpus(document)
    except ET.ParseError as error:
      self.diagnosis.refused['an XML document that is damaged'] += count
      self.diagnosis.examples.append((self._document_line, f'damaged XML: {error}', ''))
      return
    self.diagnosis.passed['within an XML document'] += count
    for time, identity, values in found:
      stamp = cells.stamp(time, self._utc_offset_hours) if time else None
      if values:
        self.readings.append(Reading(self._document_line, 'gpu', identity, stamp, values))

  def _refuse_document(self) -> None:
    reason = 'an XML document without an end'
    self.diagnosis.refused[reason] += len(self._document)
    self.diagnosis.examples.append((self._document_line, reason, self._document[0].strip()[:200]))
    self._document = []
