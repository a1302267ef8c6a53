"""This file makes a system of what a user names: logs made by hand, or the folder of a run."""

import json
from pathlib import Path
from typing import Any

from algorithmic_efficiency.device_logs import (
  analysis,
  opening,
  reading,
  runtime_log,
  sessions,
  table,
)
from algorithmic_efficiency.errors import UsageError


def load(text: str, session: int = 0) -> analysis.System:
  """NAME=SAMPLES[,RUN_LOG] as a system; `session` from 1, or the longest. Raises UsageError."""
  name, separator, paths = text.partition('=')
  if not separator or not paths:
    raise UsageError(f'{text!r} is not NAME=SAMPLES[,RUN_LOG].')
  samples, _, run_log = paths.partition(',')
  folder = Path(samples)
  try:
    power = _power(folder / 'telemetry.jsonl' if folder.is_dir() else folder, session)
    if not power:
      raise UsageError(f'{samples!r} has no power in it; its devices may not tell it.')
    phases = _phases(folder / 'phases.jsonl') if folder.is_dir() else []
    system = analysis.analyse(name, power, phases)
    system.epochs = _epochs(folder) if folder.is_dir() else None
    if run_log and system.active:
      reader = runtime_log.Reader()
      with opening.text_of(Path(run_log)) as file:
        reader.read(file)
      blocks = runtime_log.choose(reader.blocks, 'last')
      if not blocks:
        raise UsageError(f'{run_log!r} has no row between Begin CSV and End CSV.')
      analysis.align(system, runtime_log.phases(blocks[0]))
  except OSError as error:
    raise UsageError(f'{error.filename or samples}: {error.strerror or error}.') from error
  return system


def _power(path: Path, session: int) -> dict[str, list[tuple[float, float]]]:
  if path.suffix == '.jsonl':
    return table.power(path)
  reader = reading.Reader()
  with opening.text_of(path) as file:
    reader.read(file)
  found, _ = sessions.arrange(reader.readings, reader.diagnosis)
  if not found:
    return {}
  longest = max(range(len(found)), key=lambda i: len(found[i].samples))
  chosen = found[session - 1 if session else longest]
  power: dict[str, list[tuple[float, float]]] = {}
  for sample in chosen.samples:
    if 'power.watts' in sample.values:
      power.setdefault(sample.device, []).append((sample.time, sample.values['power.watts']))
  return power


def _epochs(run: Path) -> float | None:
  """Trained by a run of this project, by its last row."""
  try:
    lines = (run / 'metrics.jsonl').read_text(encoding='utf-8').splitlines()
  except FileNotFoundError:
    return None
  return json.loads(lines[-1])['epoch'] if lines else None


def _phases(path: Path) -> list[analysis.Phase]:
  """A run's own marks, on the system's clock as the samples are."""
  if not path.exists():
    return []
  with path.with_name('telemetry.jsonl').open(encoding='utf-8') as file:
    begin: dict[str, Any] = json.loads(file.readline())
  ahead = begin['time'] - begin['monotonic_sec']
  lines: list[dict[str, Any]] = [
    json.loads(line) for line in path.read_text(encoding='utf-8').splitlines()
  ]
  names: dict[str, str] = {'step': 'train', 'evaluation': 'eval'}
  return [
    (names.get(str(m['phase']), str(m['phase'])), None, m['begin'] + ahead, m['end'] + ahead)
    for m in lines
    if m['phase'] not in ('compile', 'prepare_for_eval')
  ]
