"""This file writes imported samples as the sampler of a run writes them, and reads either back."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from algorithmic_efficiency.device_logs.reading import Diagnosis
from algorithmic_efficiency.device_logs.sessions import Session
from algorithmic_efficiency.records.appended_file import to_line
from algorithmic_efficiency.records.whole_files import write_whole
from algorithmic_efficiency.telemetry import SCHEMA


def write(
  folder: Path,
  session: Session,
  devices: Mapping[str, Mapping[str, str]],
  diagnosis: Diagnosis,
  source: str,
) -> None:
  """Writes telemetry.jsonl and samples.csv of one session; makes the folder."""
  folder.mkdir(parents=True, exist_ok=True)
  start = session.samples[0].time
  described = [{'name': name, 'in_job': True, **devices.get(name, {})} for name in session.devices]
  begin = {
    'kind': 'begin', 'schema': SCHEMA, 'monotonic_sec': 0.0, 'time': start, 'source': source,
    'hz': round(1 / session.period_sec, 6) if session.period_sec else None,
    'units': 'as in COLUMNS.md; monotonic_sec counts from the first sample',
    'devices': described, 'notes': diagnosis.notes,
  }  # fmt: skip
  lines = [to_line(begin)]
  columns: dict[str, Any] = {}
  at = start
  for sample in session.samples:
    if sample.time != at or any(f'{sample.device}.{n}' in columns for n in sample.values):
      lines += _sample_line(at, start, columns)
      at, columns = sample.time, {}
    if sample.process:
      line = {'kind': 'process', 'monotonic_sec': at - start, 'time': at, 'device': sample.device}
      lines.append(to_line({**line, **sample.process, **sample.values}))
    else:
      columns.update({f'{sample.device}.{name}': v for name, v in sample.values.items()})
  lines += _sample_line(at, start, columns)
  end = {'kind': 'end', 'monotonic_sec': at - start, 'time': at, 'samples': len(session.samples)}
  lines.append(to_line({**end, 'missing': session.missing()}))
  write_whole(folder / 'telemetry.jsonl', ''.join(lines))
  write_whole(folder / 'samples.csv', _csv(session, start))


def write_diagnosis(path: Path, diagnosis: Diagnosis, sessions: list[Session]) -> dict[str, Any]:
  """Writes what became of every line; returns it."""
  content = {
    'num_lines': diagnosis.num_lines,
    'passed': dict(diagnosis.passed),
    'refused': dict(diagnosis.refused),
    'examples': diagnosis.examples,
    'notes': diagnosis.notes,
    'sessions': [
      {
        'samples': len(s.samples), 'devices': s.devices, 'missing': s.missing(),
        'period_sec': s.period_sec, 'begin': s.samples[0].time, 'end': s.samples[-1].time,
      }
      for s in sessions
    ],
  }  # fmt: skip
  write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + '\n')
  return content


def power(path: Path) -> dict[str, list[tuple[float, float]]]:
  """(seconds since 1970, watts) of each device of a telemetry.jsonl, imported or a run's own."""
  found: dict[str, list[tuple[float, float]]] = {}
  with path.open(encoding='utf-8') as file:
    for line in file:
      sample = json.loads(line) if line.endswith('\n') else {}
      if sample.get('kind') != 'sample':
        continue
      for name, value in sample.items():
        if name.endswith('.power.watts') and not name.startswith('gpu.avg'):
          device = name.removesuffix('.power.watts')
          found.setdefault(device, []).append((sample['time'], value))
  return found


def _sample_line(at: float, start: float, columns: Mapping[str, Any]) -> list[str]:
  if not columns:
    return []
  return [to_line({'kind': 'sample', 'monotonic_sec': at - start, 'time': at, **columns})]


def _csv(session: Session, start: float) -> str:
  names: dict[str, None] = {}
  for sample in session.samples:
    names.update(dict.fromkeys((*sample.process, *sample.values)))
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['time', 'monotonic_sec', 'device', *names])
  for sample in session.samples:
    row = {**sample.values, **sample.process}
    cells = [row.get(name) for name in names]
    writer.writerow([sample.time, round(sample.time - start, 6), sample.device, *cells])
  return text.getvalue()
