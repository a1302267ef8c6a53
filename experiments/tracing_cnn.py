"""This file runs the study's CNN under a tracer, trial by trial, and reads what was traced.

The experiments `cnn_memory_*` share it. A trial is a process; it is measured once, in a folder of
its own, whose `trial.json` is written last.
"""

import argparse
import csv
import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))

from algorithmic_efficiency.memory_trace import reuse_distance, working_set
from algorithmic_efficiency.memory_trace.analysis import PARTS
from algorithmic_efficiency.memory_trace.filters import Filter
from algorithmic_efficiency.memory_trace.rebin import Rebinned
from algorithmic_efficiency.memory_trace.reuse_distance import ReuseDistances
from algorithmic_efficiency.memory_trace.trace_file import Trace
from algorithmic_efficiency.memory_trace.windows import Windows
from algorithmic_efficiency.memory_trace.working_set import Row

FRAMEWORKS = ('jax', 'pytorch')
SETTLE_SEC = 2.0  # after the first step
CUTTING_SEC = 1.0  # in which refs_split cuts the mappings of a process that is large already
MIB = 2**20
TRAIN = HERE / 'cnn_memory_basic' / 'train_cnn.py'
TRACE_MEMORY = ROOT / 'scripts' / 'trace_memory.py'

Table = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Trial:
  """A process that trains.

  Attributes:
    framework, batch_size, threads, images, seconds: as of train_cnn.py.
    phases: its --trace_memory.
    outside: flags of trace_memory.py, which then traces it for its whole life.
    repeat: from 1.
  """

  framework: str
  batch_size: int = 128
  threads: int = 1
  images: int = 50_000
  seconds: float = 20.0
  phases: tuple[str, ...] = ('none',)
  outside: tuple[str, ...] = ()
  repeat: int = 1

  @property
  def name(self) -> str:
    """Of its folder."""
    filtered = '_filtered' if any('drop' in flag for flag in self.outside) else ''
    filtered += '_kept' if self.phases[0].endswith('+kept') else ''
    return f'{self.framework}_b{self.batch_size}_t{self.threads}{filtered}_r{self.repeat}'

  def command(self, folder: Path) -> list[str]:
    """What is started."""
    train = [
      sys.executable, str(TRAIN), f'--framework={self.framework}', f'--threads={self.threads}',
      f'--batch_size={self.batch_size}', f'--images={self.images}', f'--seconds={self.seconds}',
      f'--settle={SETTLE_SEC}', f'--trace={folder}',
      *(f'--trace_memory={phase}' for phase in self.phases),
    ]  # fmt: skip
    return [*traced(self.outside, folder / 'trace.jsonl'), *train] if self.outside else train


class Done(NamedTuple):
  """A trial that was measured: its folder, and what it told at its end."""

  trial: Trial
  folder: Path
  told: dict[str, Any]


class Reading(NamedTuple):
  """What is in a trace.

  Attributes:
    rows: of all windows.
    steady: of these, the whole ones while training went on and nothing else.
    reuse: of the steady windows; None where units are not told.
    unit_bytes: None likewise.
    begin_ns: when the trace began, monotonic clock.
  """

  rows: list[Row]
  steady: list[Row]
  reuse: ReuseDistances | None
  unit_bytes: int | None
  begin_ns: int


def traced(flags: Sequence[str], trace: Path) -> list[str]:
  """The beginning of a command that is traced from outside."""
  return [sys.executable, str(TRACE_MEMORY), '--quiet', '--overwrite', f'--output={trace}', *flags,
          '--']  # fmt: skip


def measured(trials: Sequence[Trial], traces: Path) -> Iterator[Done]:
  """Runs those that were not run yet; all of them in turn, with a line each."""
  for number, trial in enumerate(trials, 1):
    folder = traces / trial.name
    began = time.monotonic()
    told = before(folder, dataclasses.asdict(trial))
    how = 'measured before'
    if told is None:
      shutil.rmtree(folder, ignore_errors=True)
      folder.mkdir(parents=True)
      told = json.loads(finish(trial.command(folder)).splitlines()[-1])
      keep(folder, dataclasses.asdict(trial), told)
      how = f'{told["steps"]} steps, {time.monotonic() - began:.0f} s'
    print(f'[{number}/{len(trials)}] {trial.name}: {how}', flush=True)
    yield Done(trial, folder, told)


def before(folder: Path, setting: dict[str, Any]) -> dict[str, Any] | None:
  """What a trial of this setting told; None if there was none that came to its end."""
  try:
    found = json.loads((folder / 'trial.json').read_text())
  except (FileNotFoundError, ValueError):
    return None
  return found['told'] if found['setting'] == json.loads(json.dumps(setting)) else None


def keep(folder: Path, setting: dict[str, Any], told: dict[str, Any]) -> None:
  """Marks a trial as measured."""
  (folder / 'trial.json').write_text(json.dumps({'setting': setting, 'told': told}))


def finish(command: Sequence[str]) -> str:
  """What it printed. SystemExit with what it complained of, if it failed."""
  done = subprocess.run(command, capture_output=True, text=True)
  sys.stderr.write(done.stderr)
  if done.returncode:
    raise SystemExit(f'{" ".join(command)!r} failed with {done.returncode}.')
  return done.stdout


def in_drawn_order(trials: Sequence[Trial], repeats: int) -> list[Trial]:
  """All repeats, each in another order, so that what changes meanwhile is no setting's effect."""
  draw = random.Random(0)
  found: list[Trial] = []
  for repeat in range(1, repeats + 1):
    found += [
      dataclasses.replace(t, repeat=repeat) for t in draw.sample(trials, len(trials))
    ]  # fmt: skip
  return found


def whole_life(given: argparse.Namespace, framework: str, *more: str) -> Trial:
  """The trial whose chunks are told from its start to its end; `more` are flags of the tracer."""
  outside = ('--backend=refs_split', '--sample_sec=0.2', *more)
  return Trial(
    framework, given.batch_size, 1, given.images, given.seconds, outside=outside
  )  # fmt: skip


def read_life(
  done: Done, filters: Sequence[Filter] = (), joined: Sequence[Rebinned] = ()
) -> Reading:
  """A trial that was traced from outside; steady is its phase."""
  (phase,) = done.told['phases']
  trace = done.folder / 'trace.jsonl'
  return read(trace, phase['begin_ns'], phase['end_ns'], filters, joined)


def read_phase(done: Done, number: int, joined: Sequence[Rebinned] = ()) -> Reading:
  """A phase (from 0) that the trial has traced itself."""
  phase = done.told['phases'][number]
  cutting = CUTTING_SEC if phase['asked'].startswith('refs_split') else 0
  since = phase['begin_ns'] + int(1e9 * cutting)
  return read(done.folder / phase['trace'], since, phase['end_ns'], (), joined)


def read(
  path: Path, since_ns: int, until_ns: int, filters: Sequence[Filter], joined: Sequence[Rebinned]
) -> Reading:
  """A trace; steady is what begins and ends between the two and is a whole window.

  Args:
    path: of the trace.
    since_ns, until_ns: monotonic clock.
    filters: what a mapping must satisfy.
    joined: are given the steady windows.
  """
  windows = Windows(Trace(path), filters)
  header = windows.trace.header
  sets, reuse = working_set.WorkingSets(), ReuseDistances()
  steady: list[Row] = []
  trace_ns = None
  for joint in windows:
    window = joint.samples[0].window
    trace_ns = trace_ns or window.begin_ns
    last = sets.rows[-1] if sets.rows else None
    row = sets.add(joint)
    if window.begin_ns < since_ns or window.end_ns > until_ns or not _is_whole(header, last, row):
      continue
    steady.append(row)
    if joint.runs is not None:
      recency = reuse.add_runs(joint.runs)
      for each in joined:
        each.add(row, recency, windows.unit_bytes)
  if not steady:
    raise SystemExit(f'{path} has no whole window of steady training; give more --seconds.')
  told = reuse.windows > 0
  return Reading(
    sets.rows, steady, reuse if told else None, windows.unit_bytes if told else None, trace_ns or 0
  )


def _is_whole(header: dict[str, Any], last: Row | None, row: Row) -> bool:
  """The first window of steps begins somewhere in a step, and the last window ends anywhere."""
  steps = header['window_steps']
  if steps is None:
    return row.length_sec >= 0.9 * header['sample_sec']
  return last is not None and row.step is not None and row.step - (last.step or 0) == steps


def sizes(found: Reading) -> dict[str, Any]:
  """Of the steady windows, for a row of a table: MiB and seconds."""
  rows = found.steady
  lengths = sum(row.length_sec for row in rows)
  paused = sum(row.paused_sec for row in rows)
  sets = working_set.statistics([row.touched / MIB for row in rows])
  return {
    'windows': len(rows),
    'window_sec': round(lengths / len(rows), 4),
    'paused_pct': round(100 * paused / (lengths + paused), 2),
    'virtual_mib': round(sum(row.virtual for row in rows) / len(rows) / MIB, 3),
    'resident_mib': round(sum(row.resident for row in rows) / len(rows) / MIB, 3),
    **{f'working_set_{name}_mib': round(size, 3) for name, size in sets.items()},
    'unplaced_mib': round(sum(row.unplaced for row in rows) / len(rows) / MIB, 3),
  }


def reuses(found: Reading) -> dict[str, Any]:
  """Memory within which lie parts of the reuses, for a row of a table; MiB, at least and most."""
  assert found.reuse is not None
  assert found.unit_bytes is not None
  cells: dict[str, Any] = {'unique_mib': found.reuse.unique * found.unit_bytes / MIB}
  for part in PARTS:
    # Of a single window there are none.
    bounds = reuse_distance.memory_for(found.reuse, part) or (float('nan'),) * 2
    for end, units in zip(('least', 'most'), bounds, strict=True):
      cells[f'reuse_{part:.0%}_{end}_mib'.replace('%', '')] = units * found.unit_bytes / MIB
  return cells


def step_sec(phase: dict[str, Any]) -> float:
  """The median time of a step, pauses left out."""
  ordered = sorted(phase['step_sec'])
  return ordered[len(ordered) // 2]


def parser(text: str | None, seconds: float, repeats: int, folder: Path) -> argparse.ArgumentParser:
  """The flags that all of these experiments have."""
  made = argparse.ArgumentParser(
    description=text, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('--smoke', action='store_true', help='the whole thing in little time')
  made.add_argument('--seconds', type=float, default=seconds, help='of a phase')
  made.add_argument('--repeats', type=int, default=repeats)
  made.add_argument('--images', type=int, default=50_000)
  made.add_argument('--batch_size', type=int, default=128)
  made.add_argument('--frameworks', default=','.join(FRAMEWORKS))
  made.add_argument('--traces', type=Path, default=folder / 'traces')
  made.add_argument('--output', type=Path, default=folder, help='folder of the tables')
  return made


def parse(made: argparse.ArgumentParser, smoke: dict[str, Any]) -> argparse.Namespace:
  """The flags as given; with --smoke as `smoke` says."""
  given = made.parse_args()
  if given.smoke:
    vars(given).update(smoke)
  given.frameworks = given.frameworks.split(',')
  given.output.mkdir(parents=True, exist_ok=True)
  return given


def core_counts() -> list[int]:
  """1, 2, 4 … and all that there are."""
  cores = len(os.sched_getaffinity(0))
  return sorted({min(2**power, cores) for power in range(cores.bit_length() + 1)})


def write_table(path: Path, rows: Table) -> None:
  """Replaces the table."""
  with path.open('w', newline='', encoding='utf-8') as file:
    writer = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
  print(f'table: {path}')


def read_table(path: Path) -> Table:
  """Its rows; cells that are numbers as such."""
  if not path.exists():
    raise SystemExit(f'{path} is not there; run the measure_* beside first.')
  with path.open(newline='', encoding='utf-8') as file:
    return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _number(cell: str) -> Any:
  try:
    return float(cell)
  except ValueError:
    return cell


def plot_parser(text: str | None, folder: Path) -> argparse.Namespace:
  """The flags of a plot_*: where the tables are and the pictures go."""
  made = argparse.ArgumentParser(
    description=text, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('--folder', type=Path, default=folder, help='of the tables and the pictures')
  return made.parse_args()


def chosen(rows: Table, **wanted: Any) -> Table:
  """The rows with these cells."""
  return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


def spread(rows: Table, name: str) -> tuple[float, float, float]:
  """(mean, least, greatest) of a column, over repeats."""
  values = [row[name] for row in rows]
  return sum(values) / len(values), min(values), max(values)


def told_spread(rows: Table, name: str, form: Callable[[float], str] = '{:,.0f}'.format) -> str:
  """As in '127 (120 to 131)'."""
  mean, low, high = spread(rows, name)
  return f'{form(mean)} ({form(low)} to {form(high)})'
