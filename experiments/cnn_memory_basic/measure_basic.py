"""Which memory a CNN touches that trains on one core, over its whole life, and what idling touches.

  python measure_basic.py            six minutes on two cores; the same command goes on
  python measure_basic.py --smoke    half a minute

Both frameworks with batches of 128, chunks of 64 KiB in windows of 0.2 s from the start to the end
(scripts/trace_memory.py --backend=refs_split); beside them what sleeps: a program in C, Python, and
Python that has imported a framework, and a container where docker runs. Writes results.csv, and of
each framework's first repeat windows.csv, reuse.csv, heat_map.csv and heat_parts.csv.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import tracing_cnn
from tracing_cnn import MIB, Done, Table

from algorithmic_efficiency.memory_trace import reuse_distance
from algorithmic_efficiency.memory_trace.heat_map import Seen, heat_map
from algorithmic_efficiency.memory_trace.reuse_distance import ReuseDistances
from algorithmic_efficiency.memory_trace.trace_file import Trace
from algorithmic_efficiency.memory_trace.windows import Windows

IDLE = """
import sys, time
for name in sys.argv[2:]:
  __import__(name)
print(time.monotonic_ns(), flush=True)
time.sleep(float(sys.argv[1]))
"""
BASELINES = {'python': [], 'python, jax': ['jax'], 'python, torch': ['torch']}
IDLE_SETTLE_SEC = 1.0
IDLE_END_SEC = 0.3  # in which it may wake up already
ROWS, COLUMNS, POINTS = 200, 320, 400  # of a heat map, and of a curve


def main() -> None:
  """Measures what was not measured, and writes the tables."""
  made = tracing_cnn.parser(__doc__, 20, 3, HERE)
  made.add_argument('--idle_seconds', type=float, default=6)
  made.add_argument('--container_image', default='busybox')
  smoke = {'seconds': 6, 'repeats': 1, 'images': 5_000, 'batch_size': 16, 'idle_seconds': 3}
  given = tracing_cnn.parse(made, smoke)
  trials = [tracing_cnn.whole_life(given, f) for f in given.frameworks]
  table: Table = []
  firsts: list[Done] = []
  for done in tracing_cnn.measured(tracing_cnn.in_drawn_order(trials, given.repeats), given.traces):
    table.append(row_of(done))
    firsts += [done] * (done.trial.repeat == 1)
  table += baselines(given)
  tracing_cnn.write_table(given.output / 'results.csv', table)
  firsts.sort(key=lambda done: done.trial.framework)
  for name, rows_of in (
    ('windows', window_rows), ('reuse', reuse_rows), ('heat_map', heat_rows),
    ('heat_parts', part_rows),
  ):  # fmt: skip
    rows = [row for done in firsts for row in rows_of(done)]
    tracing_cnn.write_table(given.output / f'{name}.csv', rows)


def row_of(done: Done) -> dict[str, Any]:
  """A row of results.csv."""
  found = tracing_cnn.read_life(done)
  (phase,) = done.told['phases']
  return {
    'what': done.trial.framework,
    'repeat': done.trial.repeat,
    'reason': '',
    'start_up_sec': round((done.told['training_ns'] - found.begin_ns) / 1e9, 2),
    'step_sec': tracing_cnn.step_sec(phase),
    'largest_mib': max(row.touched for row in found.rows) / MIB,
    **tracing_cnn.sizes(found),
    **tracing_cnn.reuses(found),
  }


def baselines(given: argparse.Namespace) -> Table:
  """Rows of what sleeps."""
  table: Table = []
  for repeat in range(1, given.repeats + 1):
    for name in ('sleep', *BASELINES, 'container'):
      folder = given.traces / f'idle_{name.replace(", ", "_")}_r{repeat}'
      setting = {'idle': name, 'seconds': given.idle_seconds}
      told = tracing_cnn.before(folder, setting)
      if told is None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        told = idle(name, given.idle_seconds, folder / 'trace.jsonl', given.container_image)
        tracing_cnn.keep(folder, setting, told)
      print(f'idle {name}, repeat {repeat}: {told["reason"] or "measured"}', flush=True)
      row: dict[str, Any] = {'what': name, 'repeat': repeat, 'reason': told['reason']}
      if not told['reason']:
        end_ns = told['since_ns'] + int(1e9 * (given.idle_seconds - IDLE_END_SEC))
        since_ns = told['since_ns'] + int(1e9 * IDLE_SETTLE_SEC)
        found = tracing_cnn.read(folder / 'trace.jsonl', since_ns, end_ns, (), ())
        row |= tracing_cnn.sizes(found)
      table.append(row)
  return table


def idle(name: str, seconds: float, trace: Path, image: str) -> dict[str, Any]:
  """Traces it; tells since when it sleeps, or for which reason there is none."""
  started = tracing_cnn.traced(['--backend=refs', '--sample_sec=0.2'], trace)
  if name == 'container':
    return in_container(seconds, trace, image)
  if name == 'sleep':
    since_ns = time.monotonic_ns()
    tracing_cnn.finish([*started, 'sleep', str(seconds)])
    return {'since_ns': since_ns, 'reason': ''}
  command = [*started, sys.executable, '-c', IDLE, str(seconds), *BASELINES[name]]
  return {'since_ns': int(tracing_cnn.finish(command)), 'reason': ''}


def in_container(seconds: float, trace: Path, image: str) -> dict[str, Any]:
  """The same sleep, in a container that docker runs."""
  if (
    not shutil.which('docker') or subprocess.run(['docker', 'info'], capture_output=True).returncode
  ):
    return {'since_ns': 0, 'reason': 'skipped: no container engine runs here'}
  command = ['docker', 'run', '--detach', '--rm', image, 'sleep', str(int(seconds) + 2)]
  run = subprocess.run(command, capture_output=True, text=True)
  if run.returncode:
    return {'since_ns': 0, 'reason': f'skipped: {image} cannot be run'}
  asked = ['docker', 'inspect', '--format={{.State.Pid}}', run.stdout.strip()]
  pid = tracing_cnn.finish(asked).strip()
  since_ns = time.monotonic_ns()
  started = tracing_cnn.traced(['--backend=refs', '--sample_sec=0.2'], trace)[:-1]
  tracing_cnn.finish([*started, f'--pid={pid}', f'--duration_sec={seconds}'])
  return {'since_ns': since_ns, 'reason': ''}


def window_rows(done: Done) -> Table:
  """Every window, with what went on when it began."""
  found = tracing_cnn.read_life(done)
  steady = {row.window for row in found.steady}
  marks = [('import', 0), *((n, done.told[f'{k}_ns'] - found.begin_ns) for n, k in (
    ('data', 'imported'), ('build', 'data'), ('training', 'training')))]  # fmt: skip
  return [
    {
      'framework': done.trial.framework,
      'begin_sec': round(row.begin_sec, 3),
      'length_sec': round(row.length_sec, 4),
      'stage': [name for name, mark in marks if mark <= 1e9 * row.begin_sec][-1],
      'steady': int(row.window in steady),
      'virtual_mib': round(row.virtual / MIB, 2),
      'resident_mib': round(row.resident / MIB, 2),
      'working_set_mib': round(row.touched / MIB, 3),
    }
    for row in found.rows
  ]


def reuse_rows(done: Done) -> Table:
  """The part of reuses within a distance, of the training and of the whole life."""
  windows = Windows(Trace(done.folder / 'trace.jsonl'))
  whole = ReuseDistances()
  for joint in windows:
    assert joint.runs is not None
    whole.add_runs(joint.runs)
  training = tracing_cnn.read_life(done).reuse
  assert training is not None
  table: Table = []
  for part, found in (('training', training), ('whole life', whole)):
    curve = reuse_distance.thinned(reuse_distance.distribution(found), POINTS)
    for units, low, high in zip(*(each.tolist() for each in curve), strict=True):
      table.append({
        'framework': done.trial.framework, 'part': part,
        'distance_mib': units * windows.unit_bytes / MIB,
        'lower': round(low, 6), 'upper': round(high, 6),
      })  # fmt: skip
  return table


def _map_of(done: Done) -> tuple[Any, list[float], float]:
  """(the heat map, seconds at the edges of its columns, MiB of a unit)."""
  windows, seen, ends = Windows(Trace(done.folder / 'trace.jsonl')), Seen(), [0.0]
  begin_ns = None
  for joint in windows:
    seen.add(joint, windows.pids)
    window = joint.samples[0].window
    begin_ns = begin_ns or window.begin_ns
    ends.append((window.end_ns - begin_ns) / 1e9)
  heat = heat_map(seen, windows, windows.unit_bytes, ROWS, COLUMNS)
  return heat, [ends[int(edge)] for edge in heat.edges], windows.unit_bytes / MIB


def heat_rows(done: Done) -> Table:
  """A row for each column of the map: percent touched, from the lowest addresses to the highest."""
  heat, seconds, _ = _map_of(done)
  columns = (100 * heat.touched.T).round().astype(int).tolist()
  return [
    {'framework': done.trial.framework, 'begin_sec': round(begin, 3), 'end_sec': round(end, 3),
     'touched_pct': json.dumps(column, separators=(' ', ':'))[1:-1]}
    for begin, end, column in zip(seconds[:-1], seconds[1:], columns, strict=True)
  ]  # fmt: skip


def part_rows(done: Done) -> Table:
  """What the rows of the map are."""
  heat, _, unit_mib = _map_of(done)
  return [
    {'framework': done.trial.framework, 'name': part.name, 'region': part.region,
     'low_mib': part.first * unit_mib, 'high_mib': part.last * unit_mib}
    for part in heat.parts
  ]  # fmt: skip


if __name__ == '__main__':
  main()
