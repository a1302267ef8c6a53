"""Small made-up logs, as this bench and AlgoPerf write them, and a reader of the page's tables."""

import csv
import json
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

VOID = {'meta', 'br', 'img', 'link', 'input', 'hr'}
HOSTILE = '<script>alert("1")&amp;'
COMMAND = 'submission_runner.py --workload=digits --rng_seed=7 --log_dir="/logs/a b"'


def write_trial(
  folder: Path, reached_sec: float | None, *, points: int = 12,
  hparams: Mapping[str, Any] | None = None, status: str = 'complete',
  reason: str = 'both targets are reached', seconds: float = 2.0,
) -> None:  # fmt: skip
  """A trial of this bench on digits that meets its target at that time, or never."""
  folder.mkdir(parents=True)
  rows = list[dict[str, Any]]()
  last = 4.0 * points if reached_sec is None else reached_sec
  for i in range(points):
    end = i == points - 1 and reached_sec is not None
    rows.append({
      'accumulated_submission_time': last * (i + 1) / points, 'global_step': 10 * (i + 1),
      'validation/accuracy': 0.98 if end else 0.1 + 0.8 * i / points,
      'total_duration': 2 * last * (i + 1) / points, 'phase.data_sec': 0.25 * seconds,
      'phase.step_sec': 0.5 * seconds, 'phase.prepare_for_eval_sec': 0.0,
    })  # fmt: skip
  (folder / 'metrics.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in rows))
  _csv(folder / 'metrics.csv', rows)
  accounts = {'setup': 1.0, 'submission': seconds, 'evaluation': 0.5, 'checkpoint': 0.5}
  state = {'status': status, 'reason': reason, 'seconds': accounts}
  (folder / 'trial.json').write_text(json.dumps(state))
  (folder / 'hparams.json').write_text(json.dumps(dict(hparams or {})))


def _csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
  with path.open('w', newline='') as file:
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)


def write_metadata(folder: Path, **more: Any) -> None:
  """What was run."""
  content = {'command': COMMAND, 'rng_seed': 7, 'num_devices': 2, 'git_commit_hash': 'abc123',
             'git_dirty': True, 'python_version': '3.11.9', **more}  # fmt: skip
  (folder / 'metadata.json').write_text(json.dumps(content))
  (folder / 'packages.txt').write_text('# Python packages\njax==0.10.2\nzoo==1\n')


def write_telemetry(folder: Path, count: int = 40, devices: int = 1) -> None:
  """A sample a second, with an evaluation from 10 s to 20 s."""
  begin = {'kind': 'begin', 'time': 1000.0, 'monotonic_sec': 50.0,
           'devices': [{'name': f'gpu.{i}'} for i in range(devices)]}  # fmt: skip
  lines = [begin]
  for i in range(count):
    sample = {'kind': 'sample', 'time': 1000.0 + i, 'monotonic_sec': 50.0 + i,
              'cpu.util.avg_percent_since_last': 40.0, 'proc.rss_bytes': 2.0**30}  # fmt: skip
    lines.append(sample | {f'gpu.{d}.power.watts': 100.0 + i for d in range(devices)})
  (folder / 'telemetry.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
  phases = [{'phase': 'step', 'begin': 50.0, 'end': 60.0, 'step': 1},
            {'phase': 'evaluation', 'begin': 60.0, 'end': 70.0, 'step': 1}]  # fmt: skip
  (folder / 'phases.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in phases))


def write_algoperf(root: Path, submission: str, study: int, reached_sec: float | None) -> None:
  """A trial of AlgoPerf's on ogbg: one table and nothing else."""
  folder = root / submission / f'study_{study}' / 'ogbg_jax' / 'trial_1'
  folder.mkdir(parents=True)
  last = 20_000.0 if reached_sec is None else reached_sec
  _csv(folder / 'eval_measurements.csv', [
    {'accumulated_submission_time': last * i / 10, 'accumulated_eval_time': last * i / 20,
     'accumulated_logging_time': 0.0, 'global_step': i, 'total_duration': last * i / 10 * 1.5,
     'validation/mean_average_precision': 0.3 if i == 10 and reached_sec is not None else 0.02 * i}
    for i in range(1, 11)
  ])  # fmt: skip


class Page(HTMLParser):
  """What a page holds.

  Attributes:
    tables: the rows of each table as texts, the heading first, by the section's id.
    texts: of each section, by its id.
    elements: (name, attributes) of all.
    raw: the content of script and style.
  """

  def __init__(self, html: str) -> None:
    super().__init__()
    self.tables: dict[str, list[list[list[str]]]] = {}
    self.texts: dict[str, str] = {}
    self.elements: list[tuple[str, dict[str, str | None]]] = []
    self.raw: dict[str, list[str]] = {'script': [], 'style': []}
    self._section, self._open = '', list[str]()
    self.feed(html)
    self.close()
    assert self._open == [], 'not closed'

  def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
    given = dict(attrs)
    self.elements.append((tag, given))
    if tag not in VOID:
      self._open.append(tag)
    if tag == 'section':
      self._section = given['id'] or ''
    tables = self.tables.setdefault(self._section, [])
    if tag == 'table':
      tables.append([])
    elif tag == 'tr':
      tables[-1].append([])
    elif tag in ('td', 'th'):
      tables[-1][-1].append('')

  def handle_endtag(self, tag: str) -> None:
    assert self._open.pop() == tag

  def handle_data(self, data: str) -> None:
    inside = self._open[-1] if self._open else ''
    if inside in self.raw:
      self.raw[inside].append(data)
      return
    self.texts[self._section] = self.texts.get(self._section, '') + data
    if {'td', 'th'} & set(self._open) and inside != 'title':
      cell = self.tables[self._section][-1][-1]
      cell[-1] += f' {data}' if cell[-1] else data
